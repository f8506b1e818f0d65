//! The service: which requests may be answered from the cache at all.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, IF_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE, UPGRADE};
use http::{HeaderMap, Request, Response};
use http_body::Body;
use tower::{Service, ServiceExt};

use crate::answer::{Outcome, answer_head, with_status};
use crate::body::CacheBody;
use crate::change::change;
use crate::key::Credentials;
use crate::layer::{Config, RequestDirectives};
use crate::lookup::Exchange;
use crate::rules::Verb;

/// A service behind a [`CacheLayer`](crate::CacheLayer).
///
/// It is always ready, because an answer from the cache does not need the service behind it. It waits for that service
/// only when it calls it.
#[derive(Clone)]
pub struct CacheService<S> {
    pub(crate) config: Arc<Config>,
    pub(crate) inner: S,
}

impl<S: fmt::Debug> fmt::Debug for CacheService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, A, B> Service<Request<A>> for CacheService<S>
where
    S: Service<Request<A>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    A: Body + Default + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    type Response = Response<CacheBody<B>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let (config, inner) = (Arc::clone(&self.config), self.inner.clone());
        let verb = Verb::of(request.method());
        let (parts, body) = request.into_parts();
        let key = match verb {
            Verb::OtherSafe | Verb::Unsafe => None,
            Verb::Get | Verb::Head if !may_be_cached(&parts.headers, &config, body.is_end_stream()) => None,
            Verb::Get | Verb::Head => config.key.of(&parts),
        };
        match (verb, key) {
            (Verb::Get, Some(url)) => {
                let credentials = Credentials::of(&parts.headers);
                let parts = Arc::new(parts);
                Box::pin(Exchange { config, parts, url, credentials }.get(inner))
            }
            (Verb::Head, Some(url)) => Box::pin(async move {
                match answer_head(&config, &parts, &url).await {
                    Some(response) => Ok(response),
                    None => pass(config, inner, Request::from_parts(parts, body)).await,
                }
            }),
            (Verb::Unsafe, _) => {
                let keys = config.key.all_of(&parts);
                Box::pin(change(config, inner, Request::from_parts(parts, body), keys))
            }
            (_, None) | (Verb::OtherSafe, _) => {
                Box::pin(pass(config, inner, Request::from_parts(parts, body)))
            }
        }
    }
}

/// Whether a GET or HEAD can be answered from the cache, or its response stored.
fn may_be_cached(headers: &HeaderMap, config: &Config, has_no_body: bool) -> bool {
    let no_store = || {
        let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|part| part.trim().eq_ignore_ascii_case("no-store"))
    };
    has_no_body
        && ![RANGE, IF_RANGE, IF_MATCH, IF_UNMODIFIED_SINCE, UPGRADE]
            .iter()
            .any(|name| headers.contains_key(name))
        && (config.rules.directives == RequestDirectives::Ignore || !no_store())
}

/// Calls the service, and stores nothing.
pub(crate) async fn pass<S, A, B>(
    config: Arc<Config>,
    inner: S,
    request: Request<A>,
) -> Result<Response<CacheBody<B>>, S::Error>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    let response = inner.oneshot(request).await?.map(CacheBody::stream);
    Ok(with_status(response, &config, Outcome::Bypass))
}
