//! A router behind a layer, which counts the runs of its handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_cache::{MemoryBackend, TieredCache};
use async_cache_tower::{CacheLayer, CachedResponse};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tower::ServiceExt;

/// A cache with an L1 alone.
pub(crate) fn cache() -> TieredCache<String, CachedResponse> {
    TieredCache::builder().namespace("pages").l1(MemoryBackend::new(1_000)).build().expect("a cache")
}

/// A node on an L2 that it shares with other nodes.
pub(crate) fn node(l2: &MemoryBackend) -> TieredCache<String, CachedResponse> {
    let builder = TieredCache::builder().namespace("pages").l1(MemoryBackend::new(1_000));
    builder.l2(l2.clone()).build().expect("a cache")
}

pub(crate) fn layer() -> CacheLayer {
    CacheLayer::new(cache()).cache_status("test")
}

#[derive(Clone)]
pub(crate) struct Site {
    router: Router,
    runs: Arc<AtomicUsize>,
    pub(crate) layer: CacheLayer,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// What `Cache-Status` says happened.
    pub(crate) fn outcome(&self) -> &str {
        self.header("cache-status").strip_prefix("test; ").expect("a status of this cache")
    }
}

impl Site {
    /// `handler` is told the number of this run, from 1.
    pub(crate) fn new<F, R>(layer: CacheLayer, handler: F) -> Self
    where
        F: Fn(usize, Request) -> R + Clone + Send + Sync + 'static,
        R: IntoResponse + 'static,
    {
        Self::waiting(layer, move |run, request| std::future::ready(handler(run, request).into_response()))
    }

    pub(crate) fn waiting<F, Fut>(layer: CacheLayer, handler: F) -> Self
    where
        F: Fn(usize, Request) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let run = move |request: Request| handler(counted.fetch_add(1, Ordering::SeqCst) + 1, request);
        Self { router: Router::new().fallback(run).layer(layer.clone()), runs, layer }
    }

    /// A handler that answers each run with its number and these headers.
    pub(crate) fn with_headers(layer: CacheLayer, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self::new(layer, move |run, _| numbered(run, headers))
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    /// The response, whose body is not read yet.
    pub(crate) async fn open(&self, request: Request) -> Response {
        self.router.clone().oneshot(request).await.expect("a router does not fail")
    }

    pub(crate) async fn send(&self, request: Request) -> Answer {
        let (head, body) = self.open(request).await.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(request(method, path, headers)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }
}

/// A request to `example.org`, unless the headers name another host.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "example.org");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).expect("a request")
}

/// A response whose body is the number of the run.
pub(crate) fn numbered(run: usize, headers: &[(&str, &str)]) -> Response {
    let mut response = Response::builder();
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::from(run.to_string())).expect("a response")
}
