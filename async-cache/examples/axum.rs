//! A request handler, whose header `x-cache` says where the answer was found. `cargo run --example axum` makes some requests and ends; `-- 127.0.0.1:3000` serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_cache::{Error, ErrorKind, MemoryBackend, TieredCache, Traced};
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

/// The headers, and the product.
type Answer = ([(&'static str, String); 2], String);

async fn show(State(app): State<App>, Path(id): Path<u64>) -> Result<Answer, Failure> {
    let version = Arc::clone(&app.version);
    let query = move || async move {
        tokio::time::sleep(Duration::from_millis(20)).await; // the database
        let version = version.load(Ordering::SeqCst);
        Ok::<_, std::io::Error>((id < 100).then(|| format!("product {id}, version {version}")))
    };
    let Traced { value, source, age } = app.products.get_or_load_optional(&id, query).traced().await?;
    let product = value.ok_or(Failure::NotFound)?;
    Ok(([("x-cache", source.to_string()), ("age", age.as_secs().to_string())], product.to_string()))
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
    for (method, path, expected, source) in [
        ("GET", "/products/42", "product 42, version 1", Some("load")),
        ("GET", "/products/42", "product 42, version 1", Some("l1")),
        ("POST", "/products/42", "", None),
        ("GET", "/products/42", "product 42, version 2", Some("load")),
        ("GET", "/products/666", "", None),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty())?;
        let response = router.clone().oneshot(request).await?;
        let status = response.status();
        let found =
            response.headers().get("x-cache").map(|text| text.to_str()).transpose()?.map(str::to_owned);
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await?;
        println!("{method} {path}: {status} {found:?} {}", String::from_utf8_lossy(&body));
        assert_eq!((&*body, found.as_deref()), (expected.as_bytes(), source));
    }
    assert_eq!(app.products.stats().loads, 3);
    Ok(())
}
