//! What a handler says about its response, beside the headers.

use std::time::Duration;

/// The tags of a response: the handler puts it into the response's extensions. `invalidate_tag` on the cache then drops
/// the response on every node.
///
/// In axum, `Extension` is a part of a response:
///
/// ```
/// use async_cache_tower::CacheTags;
/// use axum::{Extension, http::header::CACHE_CONTROL, response::IntoResponse};
///
/// async fn product() -> impl IntoResponse {
///     (Extension(CacheTags::new(["product:42", "team:9"])), [(CACHE_CONTROL, "public, max-age=60")], "a lamp")
/// }
/// ```
///
/// A tag has 1 to 128 bytes, and a response at most 32 tags. A response with other tags is answered, but not stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheTags(pub(crate) Vec<String>);

impl CacheTags {
    /// Makes a list of tags.
    pub fn new<T: Into<String>>(tags: impl IntoIterator<Item = T>) -> Self {
        Self(tags.into_iter().map(Into::into).collect())
    }
}

/// How long this layer keeps a response, whatever `Cache-Control` says to clients: the handler puts it into the
/// response's extensions.
///
/// Clients keep a response as long as its `Cache-Control` allows, and an invalidation does not reach them. So a handler may
/// send `Cache-Control: no-cache` to clients, and let the layer keep the response for minutes.
///
/// It replaces `max-age`, `s-maxage`, `no-cache` and `Expires`. It does not make storable what is not: a response with
/// `private`, `no-store` or `Set-Cookie`, or to a request with `Authorization` that is not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheTtl(pub Duration);
