//! Whole responses in a cache: a tower layer around two instances of a service. `cargo run --bin http_layer`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_cache::{Error, MemoryBackend, TieredCache};
use async_cache_tower::{CacheLayer, CacheTags, CachedResponse};
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, ETAG};
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Router};
use tower::ServiceExt;

#[derive(Clone)]
struct App {
    responses: TieredCache<String, CachedResponse>,
    version: Arc<AtomicU64>, // the database
}

/// The handler says how long clients and the layer may keep the response, and what is in it.
async fn product(State(app): State<App>, Path(id): Path<u64>) -> impl IntoResponse {
    let version = app.version.load(Ordering::SeqCst);
    (
        Extension(CacheTags::new([format!("product:{id}")])),
        [(CACHE_CONTROL, "max-age=60, stale-while-revalidate=30, stale-if-error=600")],
        format!("product {id}, version {version}"),
    )
}

/// A list shows the product, too.
async fn list(State(app): State<App>) -> impl IntoResponse {
    let version = app.version.load(Ordering::SeqCst);
    (
        Extension(CacheTags::new(["product:42", "product:43"])),
        [(CACHE_CONTROL, "max-age=60")],
        format!("a list, version {version}"),
    )
}

async fn change(State(app): State<App>, Path(id): Path<u64>) -> StatusCode {
    app.version.fetch_add(1, Ordering::SeqCst); // commit first
    // The layer drops this URL by itself. The tag also drops the list.
    if let Err(error) = app.responses.invalidate_tag(format!("product:{id}")).await {
        eprintln!("{error:?}"); // the cache retries it
    }
    StatusCode::NO_CONTENT
}

/// One instance of the service. `l2` is a `RedisBackend` in production.
fn instance(l2: &MemoryBackend, version: &Arc<AtomicU64>) -> Result<Router, Error> {
    let l1 = MemoryBackend::builder()
        .max_capacity(64 << 20) // bytes, because of the weigher
        .weigher(|_, response: &CachedResponse| response.size() as u32)
        .build();
    let responses = TieredCache::builder().namespace("responses").l1(l1).l2(l2.clone()).build()?;
    let layer = CacheLayer::new(responses.clone()).cache_status("example");
    let app = App { responses, version: Arc::clone(version) };
    let router =
        Router::new().route("/products", get(list)).route("/products/{id}", get(product).post(change));
    Ok(router.layer(layer).with_state(app))
}

async fn send(
    router: &Router,
    request: axum::http::request::Builder,
) -> Result<Response<Body>, Box<dyn std::error::Error>> {
    let response =
        router.clone().oneshot(request.header("host", "shop.example").body(Body::empty())?).await?;
    println!("{}: {:?}", response.status(), response.headers().get("cache-status"));
    Ok(response)
}

async fn text(router: &Router, path: &str) -> Result<String, Box<dyn std::error::Error>> {
    let body = send(router, Request::get(path)).await?.into_body();
    Ok(String::from_utf8(to_bytes(body, 1 << 20).await?.to_vec())?)
}

/// Makes some requests, and checks the answers.
async fn check() -> Result<(), Box<dyn std::error::Error>> {
    let (l2, version) = (MemoryBackend::new(10_000), Arc::new(AtomicU64::new(1)));
    let (a, b) = (instance(&l2, &version)?, instance(&l2, &version)?);

    assert_eq!(text(&a, "/products/42").await?, "product 42, version 1");
    assert_eq!(text(&b, "/products/42").await?, "product 42, version 1"); // from the L2
    assert_eq!(text(&b, "/products").await?, "a list, version 1");

    // A browser that has the response gets 304.
    let etag = send(&a, Request::get("/products/42")).await?.headers()[ETAG].clone();
    let again = send(&a, Request::get("/products/42").header("if-none-match", etag)).await?;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);

    // The instance that wrote sees its write at once.
    send(&b, Request::post("/products/42")).await?;
    assert_eq!(text(&b, "/products/42").await?, "product 42, version 2");
    assert_eq!(text(&b, "/products").await?, "a list, version 2");
    // The others follow as soon as the message arrives.
    while text(&a, "/products/42").await? != "product 42, version 2" {
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    check().await
}

#[cfg(test)]
#[tokio::test]
async fn it_does_what_it_says() -> Result<(), Box<dyn std::error::Error>> {
    check().await
}
