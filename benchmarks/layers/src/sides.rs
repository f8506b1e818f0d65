//! The layers, each in front of the same handler, with its memory backend and as its documentation sets it up.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_cache::{MemoryBackend, TieredCache};
use async_cache_tower::CachedResponse;
use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hitbox::Config;
use hitbox::policy::PolicyConfig;
use hitbox_backend::format::BincodeFormat;
use hitbox_http::extractors::{Method, path::PathExtractor, query::QueryExtractor};
use hitbox_http::predicates::{NeutralRequestPredicate, NeutralResponsePredicate};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::handler::answer;

pub(crate) const OURS: &str = "async-cache-tower";
const TTL: Duration = Duration::from_secs(600);
const ENTRIES: u64 = 10_000;

/// A response that has arrived whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

type Ask = dyn Fn(Request<Body>) -> BoxFuture<'static, Answer> + Send + Sync;

/// A layer, and how often the handler behind it has run.
#[derive(Clone)]
pub(crate) struct Side {
    pub(crate) name: &'static str,
    /// Whether it is a cache. The handler alone is not.
    pub(crate) caches: bool,
    ask: Arc<Ask>,
    runs: Arc<AtomicU64>,
}

impl Side {
    fn new<S, B>(name: &'static str, runs: Arc<AtomicU64>, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Debug,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Debug,
    {
        let ask = move |request: Request<Body>| {
            let service = service.clone();
            async move {
                let response = service.oneshot(request).await.expect("the service answers");
                let (parts, body) = response.into_parts();
                let body = body.collect().await.expect("the body ends").to_bytes();
                Answer { status: parts.status, headers: parts.headers, body }
            }
            .boxed()
        };
        Self { name, caches: true, ask: Arc::new(ask), runs }
    }

    pub(crate) async fn ask(&self, request: http::request::Builder) -> Answer {
        (self.ask)(request.body(Body::empty()).expect("a valid request")).await
    }

    /// How often the handler has run.
    pub(crate) fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }
}

/// A handler that counts its runs.
macro_rules! handler {
    ($runs:ident, $body:ty) => {{
        let runs = Arc::clone(&$runs);
        service_fn(move |request: Request<_>| answer::<_, $body>(Arc::clone(&runs), request))
    }};
}

pub(crate) fn all() -> Vec<Side> {
    vec![bare(), ours(), axum_response_cache(), tower_http_cache(), hitbox()]
}

fn bare() -> Side {
    let runs: Arc<AtomicU64> = Arc::default();
    let handler = handler!(runs, Full<Bytes>);
    Side { caches: false, ..Side::new("no layer", runs, handler) }
}

fn ours() -> Side {
    let runs: Arc<AtomicU64> = Arc::default();
    let cache: TieredCache<String, CachedResponse> =
        TieredCache::builder().l1(MemoryBackend::new(ENTRIES)).build().expect("a valid cache");
    let service = async_cache_tower::CacheLayer::new(cache).default_ttl(TTL).layer(handler!(runs, Body));
    Side::new(OURS, runs, service)
}

fn axum_response_cache() -> Side {
    let runs: Arc<AtomicU64> = Arc::default();
    let layer = axum_response_cache::CacheLayer::with_lifespan(TTL);
    let service = layer.layer(handler!(runs, Body));
    Side::new("axum-response-cache", runs, service)
}

fn tower_http_cache() -> Side {
    let runs: Arc<AtomicU64> = Arc::default();
    let layer = tower_http_cache::layer::CacheLayer::builder(
        tower_http_cache::prelude::InMemoryBackend::new(ENTRIES),
    )
    .ttl(TTL)
    .respect_cache_control(true)
    .build();
    Side::new("tower-http-cache", runs.clone(), layer.layer(handler!(runs, Full<Bytes>)))
}

fn hitbox() -> Side {
    let runs: Arc<AtomicU64> = Arc::default();
    let config = Config::builder()
        .request_predicate(NeutralRequestPredicate::new())
        .response_predicate(NeutralResponsePredicate::new())
        .extractor(Method::new().path("/{path}*").query("q".to_owned()))
        .policy(PolicyConfig::builder().ttl(TTL).build())
        .build();
    // The format that its documentation recommends. The default one is JSON, for debugging.
    let backend =
        hitbox_moka::MokaBackend::builder().max_entries(ENTRIES).value_format(BincodeFormat).build();
    let layer = hitbox_tower::Cache::builder().backend(backend).config(config).build();
    Side::new("hitbox-tower", runs.clone(), layer.layer(handler!(runs, Full<Bytes>)))
}
