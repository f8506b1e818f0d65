//! The exporter of this process, and the descriptions of metrics.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::PrometheusBuilder;
use parking_lot::Mutex;

use crate::ports::free_port;

/// The buckets of docs/operations.md, in seconds.
const BUCKETS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The address of the exporter. All caches of this process report to it.
///
/// # Panics
///
/// If the exporter does not start.
pub fn address() -> SocketAddr {
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

/// What a server answers to a GET.
///
/// # Errors
///
/// If there is no answer, or another status than 200.
pub fn get(address: SocketAddr, path: &str) -> Result<String, String> {
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

/// The description of a metric.
#[derive(Debug, Clone)]
pub struct Metric {
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The unit.
    pub unit: Option<Unit>,
    /// What it counts or measures.
    pub text: String,
}

/// The metrics that the library describes while `describe` runs, by their names. It runs on a thread of its own, in a runtime.
///
/// # Panics
///
/// If `describe` does.
pub fn described(describe: impl AsyncFnOnce() + Send + 'static) -> BTreeMap<String, Metric> {
    let run = || {
        let descriptions = Descriptions::default();
        metrics::with_local_recorder(&descriptions, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(describe());
        });
        descriptions.0.into_inner()
    };
    // A runtime may not end within another.
    std::thread::spawn(run).join().expect("the descriptions")
}

/// Collects what is described, and nothing else.
#[derive(Default)]
struct Descriptions(Mutex<BTreeMap<String, Metric>>);

impl Descriptions {
    fn note(&self, kind: &'static str, name: &KeyName, unit: Option<Unit>, text: &SharedString) {
        self.0.lock().insert(name.as_str().to_owned(), Metric { kind, unit, text: text.to_string() });
    }
}

impl Recorder for Descriptions {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.note("counter", &name, unit, &text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.note("gauge", &name, unit, &text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.note("histogram", &name, unit, &text);
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
