//! A load: calls the service, and judges and buffers its response.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_cache_core::{LoadContext, Loaded, Tags};
use bytes::Bytes;
use http::header::{
    AGE, CONTENT_LENGTH, DATE, ETAG, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use http::request::Parts as RequestParts;
use http::response::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tower::{Service, ServiceExt};
use xxhash_rust::xxh3::xxh3_128;

use crate::body::{Buffered, CacheBody, buffer};
use crate::layer::Config;
use crate::response::{CachedResponse, Kind, Life, Stored};
use crate::rules::{remove_hop_by_hop, selecting};
use crate::tags::{CacheTags, CacheTtl};

/// How long requests for a URL do not wait for each other after a response that may not be stored.
const NOT_STORABLE_FOR: Duration = Duration::from_secs(5);

/// What a load sends to the request that led it, past the cache.
pub(crate) enum News<B: Body, E> {
    /// The response is stored. The request gets its own copy, in case the cache fails. `refusals` is what
    /// [`Config::refusals`] was before the load.
    Stored { own: CachedResponse, refusals: u64 },
    /// The response is not storable. Only this request may have it.
    NotStored(Response<CacheBody<B>>),
    /// The handler failed: its response may be replaced by a stale one.
    Failed(Response<CacheBody<B>>),
    /// The service failed without a response.
    Error(E),
}

/// Why a load has no response to store. The request that led it has the details.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("the service answered with {0}")]
    Status(StatusCode),
    #[error("the service failed without a response")]
    Service,
}

/// What a load needs.
pub(crate) struct Load<S> {
    pub(crate) config: Arc<Config>,
    pub(crate) inner: S,
    pub(crate) parts: Arc<RequestParts>,
}

impl<S> Load<S> {
    pub(crate) async fn run<A, B>(
        self,
        context: LoadContext<CachedResponse>,
        news: oneshot::Sender<News<B, S::Error>>,
    ) -> Result<Loaded<CachedResponse>, LoadError>
    where
        S: Service<Request<A>, Response = Response<B>>,
        A: Default,
        B: Body<Data = Bytes>,
    {
        // The validators of another variant say nothing about this one.
        let previous = context.previous().and_then(|previous| match &previous.0 {
            Kind::Stored(stored) if stored.is_selected_by(&self.parts.headers) => Some(&**stored),
            _ => None,
        });
        let refusals = self.config.refusals();
        // `news` may have no receiver: the request was cancelled, or this is a refresh in the background.
        let response = match self.inner.oneshot(request(&self.parts, previous)).await {
            Ok(response) => response,
            Err(error) => {
                let _ = news.send(News::Error(error));
                return Err(LoadError::Service);
            }
        };
        let judge = Judge { config: self.config, request: self.parts, received: SystemTime::now(), refusals };
        let (head, body) = response.into_parts();
        match previous {
            Some(previous) if head.status == StatusCode::NOT_MODIFIED => {
                Ok(judge.unchanged(renewed(previous, head), previous.body.clone(), news))
            }
            _ if is_failure(head.status) => {
                let status = head.status;
                let _ = news.send(News::Failed(Response::from_parts(head, CacheBody::stream(body))));
                Err(LoadError::Status(status))
            }
            _ => Ok(judge.response(head, body, news).await),
        }
    }
}

/// The failures for which RFC 5861 allows a stale response.
fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502..=504)
}

/// Decides whether a response is stored.
struct Judge {
    config: Arc<Config>,
    request: Arc<RequestParts>,
    received: SystemTime,
    refusals: u64,
}

type Sender<B, E> = oneshot::Sender<News<B, E>>;

impl Judge {
    fn life(&self, head: &Parts) -> Option<Life> {
        self.config.rules.life(&self.request, head, self.received)
    }

    async fn response<B, E>(self, head: Parts, body: B, news: Sender<B, E>) -> Loaded<CachedResponse>
    where
        B: Body<Data = Bytes>,
    {
        let Some(life) = self.life(&head) else { return refuse(head, CacheBody::stream(body), news) };
        let says = head.headers.get(CONTENT_LENGTH).map(|length| length.to_str().ok()?.parse::<usize>().ok());
        if says.flatten().is_some_and(|length| length > self.config.max_body) {
            return refuse(head, CacheBody::stream(body), news);
        }
        let deadline = Instant::now() + self.config.body_timeout;
        match buffer(body, self.config.max_body, deadline).await {
            // A truncated body must not be stored.
            Buffered::Whole(body) if says.is_none_or(|length| length == Some(body.len())) => {
                self.store(head, body, life, news)
            }
            Buffered::Whole(body) => refuse(head, CacheBody::whole(body), news),
            Buffered::Not(body) => refuse(head, body, news),
        }
    }

    fn unchanged<B: Body, E>(self, head: Parts, body: Bytes, news: Sender<B, E>) -> Loaded<CachedResponse> {
        match self.life(&head) {
            Some(life) => self.store(head, body, life, news),
            None => refuse(head, CacheBody::whole(body), news),
        }
    }

    fn store<B: Body, E>(
        self,
        mut head: Parts,
        body: Bytes,
        life: Life,
        news: Sender<B, E>,
    ) -> Loaded<CachedResponse> {
        let Some(tags) = valid_tags(&head) else { return refuse(head, CacheBody::whole(body), news) };
        remove_hop_by_hop(&mut head.headers);
        if head.status == StatusCode::OK && !head.headers.contains_key(ETAG) {
            // Weak, because a layer outside may still compress the body.
            let etag = format!("W/\"{:032x}\"", xxh3_128(&body));
            head.headers.extend(HeaderValue::try_from(etag).ok().map(|etag| (ETAG, etag)));
        }
        if !head.headers.contains_key(DATE) {
            let date = HeaderValue::try_from(httpdate::fmt_http_date(self.received));
            head.headers.extend(date.ok().map(|date| (DATE, date)));
        }
        let response = CachedResponse::stored(Stored {
            status: head.status,
            selecting: selecting(&self.request.headers, &head.headers),
            headers: head.headers,
            body,
            tags: tags.clone(),
            own_ttl: head.extensions.get().map(|CacheTtl(ttl)| *ttl),
            life,
        });
        let _ = news.send(News::Stored { own: response.clone(), refusals: self.refusals });
        Loaded::new(response).ttl(life.fresh_for).stale_for(life.stale_for()).tags(tags)
    }
}

/// Gives the response to the request that led the load, and to no other.
fn refuse<B: Body, E>(head: Parts, body: CacheBody<B>, news: Sender<B, E>) -> Loaded<CachedResponse> {
    let tags = valid_tags(&head).unwrap_or_default();
    let _ = news.send(News::NotStored(Response::from_parts(head, body)));
    Loaded::new(CachedResponse::NOT_STORABLE).ttl(NOT_STORABLE_FOR).stale_for(Duration::ZERO).tags(tags)
}

/// The handler's tags, or `None` if the cache would not take them.
fn valid_tags(head: &Parts) -> Option<Vec<String>> {
    let tags = head.extensions.get::<CacheTags>().map(|tags| tags.0.clone()).unwrap_or_default();
    Tags::new(&tags).is_ok().then_some(tags)
}

/// The request for a whole response. The layer checks the client's conditions itself, on the stored response. With a
/// previous response the handler may answer 304.
fn request<A: Default>(parts: &RequestParts, previous: Option<&Stored>) -> Request<A> {
    let mut request = Request::from_parts(parts.clone(), A::default());
    let headers = request.headers_mut();
    for (condition, validator) in [(IF_NONE_MATCH, ETAG), (IF_MODIFIED_SINCE, LAST_MODIFIED)] {
        headers.remove(&condition);
        if let Some(value) = previous.and_then(|previous| previous.headers.get(validator)) {
            headers.insert(condition, value.clone());
        }
    }
    request
}

/// The previous response with the headers of a 304: RFC 9111, section 4.3.4.
fn renewed(previous: &Stored, fresh: Parts) -> Parts {
    let mut head = fresh;
    let updates = std::mem::replace(&mut head.headers, previous.headers.clone());
    head.status = previous.status;
    let about_the_body = ["content-length", "content-encoding", "content-type", "content-range"];
    for name in updates.keys().filter(|name| !about_the_body.contains(&name.as_str())) {
        head.headers.remove(name);
        for value in updates.get_all(name) {
            head.headers.append(name, value.clone());
        }
    }
    for name in [AGE, DATE] {
        // `Age` and `Date` of the previous response do not describe the renewed one.
        if !updates.contains_key(&name) {
            head.headers.remove(name);
        }
    }
    if head.extensions.get::<CacheTags>().is_none() {
        head.extensions.insert(CacheTags(previous.tags.clone()));
    }
    if let (None, Some(ttl)) = (head.extensions.get::<CacheTtl>(), previous.own_ttl) {
        head.extensions.insert(CacheTtl(ttl));
    }
    head
}
