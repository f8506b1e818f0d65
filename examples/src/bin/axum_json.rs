//! A handler that answers with JSON: `Json<Arc<T>>` serializes the cached value without a copy. It needs serde's feature
//! `rc`. `cargo run --bin axum_json -- 127.0.0.1:3000` serves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_cache::{Error, ErrorKind, MemoryBackend, TieredCache};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Product {
    id: u64,
    name: String,
    cents: u64,
}

#[derive(Clone)]
struct App {
    products: TieredCache<u64, Product>,
    table: Arc<Mutex<BTreeMap<u64, Product>>>, // the database
}

async fn show(State(app): State<App>, Path(id): Path<u64>) -> Result<Json<Arc<Product>>, Failure> {
    let table = Arc::clone(&app.table);
    let query = move || async move {
        let table = table.lock().map_err(|error| error.to_string())?;
        Ok::<_, String>(table.get(&id).cloned())
    };
    let product = app.products.get_or_load_optional(&id, query).await?;
    product.map(Json).ok_or(Failure::NotFound)
}

async fn change(State(app): State<App>, Path(id): Path<u64>, Json(product): Json<Product>) -> StatusCode {
    if let Ok(mut table) = app.table.lock() {
        table.insert(id, product); // commit first
    }
    // The write is committed, so an error is logged: the cache retries the invalidation.
    if let Err(error) = app.products.invalidate(&id).await {
        eprintln!("{error:?}");
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

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self::Cache(error) = self else { return StatusCode::NOT_FOUND.into_response() };
        eprintln!("{error:?}"); // the client gets a status
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

fn router() -> Result<(Router, App), Error> {
    let products = TieredCache::builder().namespace("products").l1(MemoryBackend::new(10_000)).build()?;
    let lamp = Product { id: 42, name: "lamp".to_owned(), cents: 1_900 };
    let app = App { products, table: Arc::new(Mutex::new(BTreeMap::from([(42, lamp)]))) };
    Ok((Router::new().route("/products/{id}", get(show).put(change)).with_state(app.clone()), app))
}

/// Makes some requests, and checks the answers.
async fn check() -> Result<(), Box<dyn std::error::Error>> {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    let (router, app) = router()?;
    for (method, path, body, expected) in [
        ("GET", "/products/42", "", r#"{"id":42,"name":"lamp","cents":1900}"#),
        ("GET", "/products/42", "", r#"{"id":42,"name":"lamp","cents":1900}"#),
        ("PUT", "/products/42", r#"{"id":42,"name":"lamp","cents":1500}"#, ""),
        ("GET", "/products/42", "", r#"{"id":42,"name":"lamp","cents":1500}"#),
        ("GET", "/products/7", "", ""),
    ] {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let response = router.clone().oneshot(request.body(Body::from(body))?).await?;
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await?;
        println!("{method} {path}: {status} {}", String::from_utf8_lossy(&body));
        assert_eq!(body, expected);
    }
    assert_eq!(app.products.stats().loads, 3);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(address) = std::env::args().nth(1) else { return check().await };
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("http://{}/products/42", listener.local_addr()?);
    Ok(axum::serve(listener, router()?.0).await?)
}

#[cfg(test)]
#[tokio::test]
async fn it_does_what_it_says() -> Result<(), Box<dyn std::error::Error>> {
    check().await
}
