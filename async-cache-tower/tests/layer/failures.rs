//! Failures of the service and of the cache.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_cache::testing::No;
use async_cache_tower::{CacheLayer, CacheTags};
use axum::Extension;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use tower::{Layer, ServiceExt, service_fn};

use crate::site::{Site, cache, layer, numbered, request};

const HEADERS: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[tokio::test]
async fn the_services_own_error_is_returned_as_it_is() {
    let service = service_fn(|_: Request| async { Err::<Response, _>(No(7)) });
    let service = layer().layer(service);
    for _ in 0..2 {
        let error = service.clone().oneshot(request("GET", "/", &[])).await.expect_err("it fails");
        assert_eq!(error.0, 7);
    }
}

#[tokio::test]
async fn a_cache_that_was_shut_down_fails_no_request() {
    let site = Site::with_headers(layer(), HEADERS);
    assert_eq!(site.get("/").await.text(), "1");
    site.layer.cache().shutdown().await;
    assert_eq!(site.get("/new").await.status, StatusCode::OK);
    assert_eq!(site.ask("HEAD", "/new", &[]).await.status, StatusCode::OK);
    assert_eq!(site.ask("POST", "/new", &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn tags_that_the_cache_refuses_cost_the_storing_and_not_the_response() {
    for tags in [
        CacheTags::new([""]),
        CacheTags::new(["a".repeat(200)]),
        CacheTags::new((0..40).map(|n| n.to_string())),
    ] {
        let site = Site::new(layer(), move |run, _| (Extension(tags.clone()), numbered(run, HEADERS)));
        assert_eq!(site.get("/").await.text(), "1");
        assert_eq!(site.get("/").await.text(), "2");
        assert_eq!(site.runs(), 2, "the handler runs once for each request");
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_takes_longer_than_its_limit_is_answered_without_the_cache() {
    let cache = async_cache::TieredCache::builder()
        .l1(async_cache::MemoryBackend::new(100))
        .load_timeout(Duration::from_secs(1));
    let site = Site::waiting(CacheLayer::new(cache.build().expect("a cache")), |run, _| async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        numbered(run, HEADERS)
    });
    assert_eq!(site.get("/").await.text(), "2", "the handler ran again, without a limit");
}

#[tokio::test]
async fn a_panic_in_the_handler_ends_the_request_as_it_does_without_the_layer() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let service = service_fn(move |_: Request| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { if true { panic!("broken") } else { Ok::<_, Infallible>(Response::new(Body::empty())) } }
    });
    let service = CacheLayer::new(cache()).layer(service);
    let request = tokio::spawn(async move { service.oneshot(request("GET", "/", &[])).await.map(drop) });
    assert!(request.await.expect_err("it panics").is_panic());
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}
