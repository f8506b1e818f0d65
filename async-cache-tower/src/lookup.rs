//! The way of a GET through the slots of its URL.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_cache_core::{Source, Traced};
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use tokio::sync::oneshot;
use tower::Service;

use crate::answer::{Outcome, answer, with_status};
use crate::body::CacheBody;
use crate::key::{Credentials, Slots, slot_key};
use crate::layer::Config;
use crate::load::{Load, News};
use crate::response::{CachedResponse, Kind, Life};
use crate::service::pass;

/// A GET that may be answered from the cache.
pub(crate) struct Exchange {
    pub(crate) config: Arc<Config>,
    pub(crate) parts: Arc<Parts>,
    pub(crate) url: String,
    pub(crate) credentials: Credentials,
}

/// Which stored responses a lookup may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accept {
    /// A stale one at once, while it is refreshed in the background.
    StaleAtOnce,
    /// A stale one if the load fails.
    StaleOnError,
    /// The request asks for a new one.
    New,
}

/// What the cache has returned, and where it was.
type Held = Traced<Arc<CachedResponse>>;

/// The result of a lookup in one slot.
enum Looked<B: Body, E> {
    Found(Held, Outcome),
    /// This request led the load, and its response is not stored.
    Live(Response<CacheBody<B>>),
    Error(E),
    /// The request calls the service by itself.
    Pass,
}

impl Exchange {
    pub(crate) async fn get<S, A, B>(self, mut inner: S) -> Result<Response<CacheBody<B>>, S::Error>
    where
        S: Service<Request<A>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Send + 'static,
        A: Body + Default + Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        let mut slots = Slots::new(self.config.max_variants);
        while let Some(slot) = slots.next() {
            let key = slot_key(&self.url, self.credentials, slot);
            match self.look(&mut inner, &key).await {
                Looked::Found(found, outcome) => {
                    let Kind::Stored(stored) = &found.value.0 else { break };
                    if stored.is_selected_by(&self.parts.headers) {
                        let response = answer(stored, &self.parts, outcome);
                        return Ok(with_status(response, &self.config, outcome));
                    }
                    let names = stored.selecting.iter().map(|selecting| &selecting.name);
                    slots.begin_at(names, &self.parts.headers);
                }
                Looked::Live(response) => return Ok(with_status(response, &self.config, Outcome::NotStored)),
                Looked::Error(error) => return Err(error),
                Looked::Pass => break,
            }
        }
        let parts = Arc::try_unwrap(self.parts).unwrap_or_else(|shared| (*shared).clone());
        pass(self.config, inner, Request::from_parts(parts, A::default())).await
    }

    /// Looks into one slot, and loads if it is empty.
    async fn look<S, A, B>(&self, inner: &mut S, key: &String) -> Looked<B, S::Error>
    where
        S: Service<Request<A>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Send + 'static,
        A: Body + Default + Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        let looked = self.ask(inner, key, Accept::StaleAtOnce).await;
        let Looked::Found(found, Outcome::Hit) = &looked else { return looked };
        let Kind::Stored(stored) = &found.value.0 else { return looked };
        // Another variant's age does not matter.
        if !stored.is_selected_by(&self.parts.headers) {
            return looked;
        }
        let now = SystemTime::now();
        match stale_since(&stored.life, found.source, now) {
            Some(since) if since < stored.life.while_revalidate => {
                Looked::Found(found.clone(), Outcome::Stale)
            }
            // It may answer only if the load fails. So wait for the load.
            Some(_) => self.ask(inner, key, Accept::StaleOnError).await,
            None if !self.config.rules.allows(&self.parts.headers, &stored.life, now) => {
                self.ask(inner, key, Accept::New).await
            }
            None => looked,
        }
    }

    async fn ask<S, A, B>(&self, inner: &mut S, key: &String, accept: Accept) -> Looked<B, S::Error>
    where
        S: Service<Request<A>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Send + 'static,
        A: Body + Default + Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        let (sender, mut news) = oneshot::channel();
        let load =
            Load { config: Arc::clone(&self.config), inner: inner.clone(), parts: Arc::clone(&self.parts) };
        let load = move |context| load.run::<A, B>(context, sender);
        // The load sets how long this response is kept. The call needs some `stale_for`, or it permits no stale
        // answers.
        let least = Duration::from_millis(1);
        let cache = &self.config.cache;
        let found = match accept {
            Accept::StaleAtOnce => {
                cache.get_or_load_with(key, load).stale_for(least).stale_while_revalidate(true).traced().await
            }
            Accept::StaleOnError => {
                cache
                    .get_or_load_with(key, load)
                    .stale_for(least)
                    .stale_while_revalidate(false)
                    .traced()
                    .await
            }
            Accept::New => cache.refresh_with(key, load).await.map(loaded),
        };
        self.weigh(found.ok(), news.try_recv().ok(), accept)
    }

    /// Chooses between the answer of the cache and the news of this request's own load.
    fn weigh<B: Body, E>(
        &self,
        found: Option<Held>,
        news: Option<News<B, E>>,
        accept: Accept,
    ) -> Looked<B, E> {
        // A stale response replaces a failure for as long as its own headers allow.
        let fallback = || {
            let found = found.as_ref()?;
            let Kind::Stored(stored) = &found.value.0 else { return None };
            let since = stale_since(&stored.life, found.source, SystemTime::now())?;
            let is_mine = stored.is_selected_by(&self.parts.headers);
            (is_mine && since < stored.life.if_error).then(|| Looked::Found(found.clone(), Outcome::Stale))
        };
        match news {
            Some(News::Stored { own, refusals }) => {
                let is_known = found.is_some() && refusals == self.config.refusals();
                let outcome = if is_known { Outcome::Stored } else { Outcome::Loaded };
                Looked::Found(found.unwrap_or_else(|| loaded(Arc::new(own))), outcome)
            }
            Some(News::NotStored(response)) => Looked::Live(response),
            Some(News::Failed(response)) => fallback().unwrap_or(Looked::Live(response)),
            Some(News::Error(error)) => fallback().unwrap_or(Looked::Error(error)),
            None if accept == Accept::StaleOnError => match (fallback(), found) {
                (Some(stale), _) => stale,
                (None, Some(found)) if is_fresh(&found) => Looked::Found(found, Outcome::Hit),
                (None, _) => Looked::Pass,
            },
            None => found.map_or(Looked::Pass, |found| Looked::Found(found, Outcome::Hit)),
        }
    }
}

/// A response that the handler has just made.
fn loaded(value: Arc<CachedResponse>) -> Held {
    Traced { value, source: Source::Load, age: Duration::ZERO }
}

/// How long a response has been stale: by its own lifetime, or because a change has expired it. The time of that change
/// is not known, so it counts as now. Such a change drops a response that may never answer stale. So if the cache calls
/// a response of that kind stale, the reason is that L2 cannot be asked, and it counts as fresh.
fn stale_since(life: &Life, source: Source, now: SystemTime) -> Option<Duration> {
    let is_expired = || source == Source::Stale && !life.stale_for().is_zero();
    life.stale_since(now).or_else(|| is_expired().then_some(Duration::ZERO))
}

fn is_fresh(found: &Held) -> bool {
    match &found.value.0 {
        Kind::Stored(stored) => stale_since(&stored.life, found.source, SystemTime::now()).is_none(),
        Kind::NotStorable => false,
    }
}
