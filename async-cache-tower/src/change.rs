//! Requests with unsafe methods. Their success makes stored responses void: RFC 9111, section 4.4.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::runtime::Handle;
use tower::Service;

use crate::body::CacheBody;
use crate::layer::Config;
use crate::service::pass;

/// Calls the service. If it succeeds, every node drops the responses under these keys.
pub(crate) async fn change<S, A, B>(
    config: Arc<Config>,
    inner: S,
    request: Request<A>,
    keys: Vec<String>,
) -> Result<Response<CacheBody<B>>, S::Error>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    let mut unfinished =
        Unfinished { config: Arc::clone(&config), keys, runtime: Handle::try_current().ok() };
    let outcome = pass(Arc::clone(&config), inner, request).await;
    let is_done =
        |response: &Response<_>| response.status().is_success() || response.status().is_redirection();
    if outcome.as_ref().is_ok_and(is_done) {
        // The write is done, so an error cannot undo it. The cache retries the invalidation, and logs it.
        let _ = config.invalidate(&unfinished.keys).await;
    }
    unfinished.keys.clear();
    outcome
}

/// A change that has begun. If the request ends midway, because its client leaves or the handler panics, the write may be
/// committed. Then the responses are dropped in a task of their own.
struct Unfinished {
    config: Arc<Config>,
    /// Empty at the end of the request.
    keys: Vec<String>,
    runtime: Option<Handle>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        let (config, keys) = (Arc::clone(&self.config), std::mem::take(&mut self.keys));
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move { config.invalidate(&keys).await });
        }
    }
}
