//! Spans of the cache in OpenTelemetry: they are sent by OTLP to a collector, as children of the request that caused
//! them. `cargo run --bin open_telemetry` starts a small collector of its own and prints what it received. With
//! `OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317` the spans go to yours, for example to Jaeger.

use std::collections::HashMap;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use async_cache::{MemoryBackend, TieredCache};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_proto::tonic::collector::trace::v1 as otlp;
use opentelemetry_sdk::trace::SdkTracerProvider;
use otlp::trace_service_server::{TraceService, TraceServiceServer};
use otlp::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tokio::net::TcpListener;
use tonic::codegen::tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tracing::{Instrument, info_span};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

/// A subscriber that sends spans to the collector at `endpoint`.
///
/// The cache's spans have the level debug and the target `async_cache`. Whoever wants only those of the service
/// leaves the target out: loaders run in the span of their request all the same.
fn subscriber(endpoint: &str) -> Result<(impl tracing::Subscriber, SdkTracerProvider), Box<dyn Error>> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
    let wanted =
        Targets::new().with_default(LevelFilter::INFO).with_target("async_cache", LevelFilter::DEBUG);
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("catalogue")).with_filter(wanted);
    Ok((Registry::default().with(layer), provider))
}

/// Two requests for one product. The first one loads it, and the second one has no span of the cache: L1 answers.
async fn serve() -> Result<(), Box<dyn Error>> {
    let l2 = MemoryBackend::new(10_000); // a `RedisBackend` in production
    let products: TieredCache<u64, String> =
        TieredCache::builder().namespace("products").l1(MemoryBackend::new(10_000)).l2(l2).build()?;
    for request in ["GET /products/42, first", "GET /products/42, second"] {
        let find = || {
            let query = async { Ok::<_, std::io::Error>("lamp".to_owned()) };
            query.instrument(info_span!("SELECT products"))
        };
        let answer = products.get_or_load(&42, find);
        let product = answer.instrument(info_span!("request", otel.name = request)).await?;
        assert_eq!(*product, "lamp");
    }
    products.shutdown().await;
    Ok(())
}

/// A collector that keeps the name of each span and of its parent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Received>>>);

struct Received {
    id: Vec<u8>,
    parent: Vec<u8>,
    name: String,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        let received =
            spans.map(|span| Received { id: span.span_id, parent: span.parent_span_id, name: span.name });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(received);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start(&self) -> Result<SocketAddr, Box<dyn Error>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let server = Server::builder().add_service(TraceServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(address)
    }

    /// The way from the root to each span, in order.
    fn paths(&self) -> Vec<String> {
        let received = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by_id: HashMap<_, _> = received.iter().map(|span| (&span.id, span)).collect();
        let mut paths: Vec<String> = received
            .iter()
            .map(|span| {
                let up = std::iter::successors(Some(span), |span| by_id.get(&span.parent).copied());
                let mut names: Vec<&str> = up.map(|span| span.name.as_str()).collect();
                names.reverse();
                names.join(" > ")
            })
            .collect();
        paths.sort();
        paths
    }
}

/// Serves both requests with spans that go to `endpoint`.
async fn traced(endpoint: &str) -> Result<(), Box<dyn Error>> {
    let (subscriber, provider) = subscriber(endpoint)?;
    let _guard = tracing::subscriber::set_default(subscriber); // a service calls `set_global_default`
    serve().await?;
    // Spans are sent in batches: whoever ends sends the last one.
    tokio::task::spawn_blocking(move || provider.shutdown()).await??;
    Ok(())
}

async fn check() -> Result<(), Box<dyn Error>> {
    let collector = Collector::default();
    traced(&format!("http://{}", collector.start().await?)).await?;
    let paths = collector.paths();
    for path in &paths {
        println!("{path}");
    }
    let first = "GET /products/42, first > cache.lookup > cache.load";
    for stage in ["cache.lease", "SELECT products", "cache.fill"] {
        assert!(paths.contains(&format!("{first} > {stage}")), "{stage} of {paths:?}");
    }
    assert_eq!(paths.iter().filter(|path| path.contains("second")).count(), 1, "{paths:?}");
    Ok(())
}

/// The spans of a task go where the thread that runs it sends them: with one thread, `set_default` is enough.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    match std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT") {
        Ok(endpoint) => traced(&endpoint).await,
        Err(_) => check().await,
    }
}

#[cfg(test)]
#[tokio::test]
async fn it_does_what_it_says() -> Result<(), Box<dyn Error>> {
    check().await
}
