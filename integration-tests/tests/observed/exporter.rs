//! The exporter of this process.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use async_cache::{MemoryBackend, TieredCache};
use integration_tests::ports::free_port;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::PrometheusBuilder;
use parking_lot::Mutex;

/// The buckets of docs/operations.md, in seconds.
const BUCKETS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The address of the exporter. All caches of this process report to it.
pub(crate) fn address() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let install = move || {
            let builder = PrometheusBuilder::new().with_http_listener(address);
            builder.set_buckets(&BUCKETS).expect("buckets").install().expect("the exporter starts");
        };
        // Outside of a runtime it starts one of its own, which outlives the test.
        std::thread::spawn(install).join().expect("the exporter starts");
        address
    })
}

/// The body of an answer to GET.
///
/// # Panics
///
/// If nobody answers, or with another status than 200.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(failed)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
    let status = head.lines().next().unwrap_or_default();
    if status.contains(" 200 ") { Ok(body.to_owned()) } else { Err(format!("{path}: {status}: {body}")) }
}

/// The kinds of the metrics that the library describes, by their names.
pub(crate) fn described() -> BTreeMap<String, &'static str> {
    let describe = || {
        let names = Names::default();
        metrics::with_local_recorder(&names, || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let _entered = runtime.enter();
            drop(
                TieredCache::<u64, u64>::builder().l1(MemoryBackend::new(1)).build().expect("a valid cache"),
            );
        });
        names.0.into_inner()
    };
    // A runtime may not end within another.
    std::thread::spawn(describe).join().expect("a cache")
}

/// Collects the names that are described.
#[derive(Default)]
struct Names(Mutex<BTreeMap<String, &'static str>>);

impl Recorder for Names {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.0.lock().insert(name.as_str().to_owned(), "counter");
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.0.lock().insert(name.as_str().to_owned(), "gauge");
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.0.lock().insert(name.as_str().to_owned(), "histogram");
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
