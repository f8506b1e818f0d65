//! A tower layer that caches HTTP responses in an [`async_cache_core::TieredCache`]: on every node of a service, with
//! invalidations that reach all of them.
//!
//! ```
//! use async_cache::{MemoryBackend, TieredCache};
//! use async_cache_tower::{CacheLayer, CacheTags};
//! use axum::extract::Path;
//! use axum::http::header::CACHE_CONTROL;
//! use axum::response::IntoResponse;
//! use axum::{Extension, Router, routing::get};
//!
//! async fn product(Path(id): Path<u64>) -> impl IntoResponse {
//!     let tags = CacheTags::new([format!("product:{id}")]);
//!     (Extension(tags), [(CACHE_CONTROL, "max-age=60, stale-while-revalidate=30")], format!("product {id}"))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), async_cache::Error> {
//! let responses = TieredCache::builder()
//!     .namespace("responses")
//!     .l1(MemoryBackend::new(10_000))
//!     .l2(MemoryBackend::new(10_000)) // for several processes: `RedisBackend::connect(url).await?`
//!     .build()?;
//! let router: Router =
//!     Router::new().route("/products/{id}", get(product)).layer(CacheLayer::new(responses.clone()));
//!
//! // After a write of product 42 is committed: every node drops the responses that show it.
//! responses.invalidate_tag("product:42").await?;
//! # let _ = router;
//! # Ok(()) }
//! ```
//!
//! * **One run of the handler in the fleet** for many requests for one URL.
//! * **What is stored** is what RFC 9111 allows a shared cache, as `http-cache-semantics` reads it, and less: see below.
//! * **Validators.** A response without an `ETag` gets a weak one, a digest of its body. It is weak because a layer outside
//!   may still compress the body. `If-None-Match` and `If-Modified-Since` are answered with 304.
//! * **`HEAD`** is answered from the stored `GET`. A request with `Range` is not cached.
//! * **Unsafe methods.** If POST, PUT, PATCH, DELETE or an unknown method succeeds, every node drops the URL.
//! * **Failures of the cache fail no request:** the handler answers.
//!
//! # What is stored
//!
//! A response to GET with a lifetime (`s-maxage`, `max-age` or `Expires`, [`CacheTtl`], or [`CacheLayer::default_ttl`]), whose
//! body is not larger than [`CacheLayer::max_body`]. It is not stored if it has `private`, `no-store`, `no-cache`,
//! `Vary: *`, `Set-Cookie` (whatever else it says), trailers, or a status that RFC 9111 does not let a cache store. If the
//! request has `Authorization` or `Cookie`, the response must also have `public` or `s-maxage` (or `must-revalidate` for the
//! first, `Vary: Cookie` for the second). Requests with and without credentials share no response.
//!
//! A response that is not stored answers only the request that it was made for. Other requests that waited for it run the
//! handler themselves. For 5 s requests for that URL then do not wait for each other.
//!
//! # The handler
//!
//! The handler that loads for all gets the request of one client: its headers and extensions, without a body and without
//! `If-None-Match` and `If-Modified-Since`. If a stale response is kept, these have its validators instead, and the handler
//! may answer 304. It runs in a task of its own, so a client that goes away does not end it. Its response's extensions are
//! dropped, unless the response is not stored.
//!
//! The page `docs/http.md` of the repository has the use, the security considerations and a comparison with other layers.
#![forbid(unsafe_code)]

/// Compiles the examples of the page.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../docs/http.md")]
    mod http {}
}

mod answer;
mod body;
mod change;
mod host;
mod key;
mod layer;
mod load;
mod lookup;
mod response;
mod rules;
mod service;
mod tags;

pub use body::CacheBody;
pub use layer::{CacheLayer, RequestDirectives};
pub use response::CachedResponse;
pub use service::CacheService;
pub use tags::{CacheTags, CacheTtl};
