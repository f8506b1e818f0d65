//! A request handler. `cargo run --example axum` makes three requests and ends; `-- 127.0.0.1:3000` serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_cache::{Error, ErrorKind, MemoryBackend, TieredCache};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode};
use axum::routing::get;
use tower::ServiceExt;

#[derive(Clone)]
struct App {
    products: TieredCache<u64, String>,
    version: Arc<AtomicU64>,
}

async fn show(State(app): State<App>, Path(id): Path<u64>) -> Result<String, Failure> {
    let version = Arc::clone(&app.version);
    let query = move || async move {
        tokio::time::sleep(Duration::from_millis(20)).await; // the database
        let version = version.load(Ordering::SeqCst);
        Ok::<_, std::io::Error>((id < 100).then(|| format!("product {id}, version {version}")))
    };
    let product = app.products.get_or_load_optional(&id, query).await?;
    product.map(|product| product.to_string()).ok_or(Failure::NotFound)
}

async fn change(State(app): State<App>, Path(id): Path<u64>) -> StatusCode {
    app.version.fetch_add(1, Ordering::SeqCst); // commit first,
    // then invalidate. The write is committed, so log an error here and answer with success: otherwise the client would
    // write again. The cache retries the invalidation.
    if let Err(error) = app.products.invalidate(&id).await {
        eprintln!("product {id} was changed, and is not invalidated yet: {error:?}");
    }
    StatusCode::NO_CONTENT
}

enum Failure {
    NotFound,
    Cache(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Cache(error)
    }
}

impl axum::response::IntoResponse for Failure {
    fn into_response(self) -> axum::response::Response {
        let error = match self {
            Self::NotFound => return StatusCode::NOT_FOUND.into_response(),
            Self::Cache(error) => error,
        };
        // The error's text goes to the log. The client gets a status.
        eprintln!("a lookup failed: {error:?}");
        match error.kind() {
            ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::Backend | ErrorKind::Overloaded | ErrorKind::Shutdown => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
        .into_response()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let products = TieredCache::builder().namespace("products").l1(MemoryBackend::new(10_000)).build()?;
    let app = App { products, version: Arc::new(AtomicU64::new(1)) };
    let router = Router::new().route("/products/{id}", get(show).post(change)).with_state(app.clone());

    if let Some(address) = std::env::args().nth(1) {
        let listener = tokio::net::TcpListener::bind(address).await?;
        println!("http://{}/products/42", listener.local_addr()?);
        return Ok(axum::serve(listener, router).await?);
    }
    for (method, path, expected) in [
        ("GET", "/products/42", "product 42, version 1"),
        ("GET", "/products/42", "product 42, version 1"),
        ("POST", "/products/42", ""),
        ("GET", "/products/42", "product 42, version 2"),
        ("GET", "/products/666", ""),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty())?;
        let response = router.clone().oneshot(request).await?;
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await?;
        println!("{method} {path}: {status} {}", String::from_utf8_lossy(&body));
        assert_eq!(body, expected);
    }
    assert_eq!(app.products.stats().loads, 3);
    Ok(())
}
