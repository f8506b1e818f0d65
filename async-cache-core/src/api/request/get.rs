//! A lookup without a loader.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

use crate::api::request::traced::{Traced, TracedRequest};
use crate::error::Result;
use crate::format::key::{CacheKey, Key};
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::request::{Answer, FirstTier, Found};
use crate::lookup::one::{self, First, first, hit};
use crate::lookup::verify;
use crate::observe::trace;

/// A lookup: [`TieredCache::get`](crate::api::cache::TieredCache::get).
#[must_use = "a request does nothing until it is awaited"]
pub struct Get<'a, V, Q: ?Sized> {
    inner: &'a Arc<Inner<V>>,
    key: &'a Q,
    min_stamp: Option<&'a Stamp>,
    first_tier: FirstTier,
    /// Whether a hit may answer: no stamp is required, L1 is not skipped, and the lookup has not begun. A hit checks
    /// this alone.
    at_once: bool,
    slow: Option<BoxFuture<'a, Result<Found<V>>>>,
}

impl<'a, V, Q: ?Sized> Get<'a, V, Q> {
    pub(crate) fn new(inner: &'a Arc<Inner<V>>, key: &'a Q) -> Self {
        Self { inner, key, min_stamp: None, first_tier: FirstTier::L1, at_once: true, slow: None }
    }

    /// Makes the lookup return no value from before this stamp, on any node.
    ///
    /// Never take a [`Stamp`] from a client unsigned: a forged one empties the cache.
    pub fn at_least(mut self, stamp: &'a Stamp) -> Self {
        self.min_stamp = Some(stamp);
        self.at_once = false;
        self
    }

    /// Asks L2 although L1 may have the key. L1 gets what L2 has. While L2 cannot be asked, nothing of L1 answers
    /// either.
    ///
    /// It is for a single call that must see what the fleet shares. In a cache without an L2 it is an error of kind
    /// [`Config`](crate::error::ErrorKind::Config). To be as recent as a change, use `at_least` with its stamp: it asks
    /// L2 only if that is necessary.
    pub fn skip_l1(mut self) -> Self {
        self.first_tier = FirstTier::L2;
        self.at_once = false;
        self
    }

    /// Also returns where the answer was found, and its age. A hit costs a little more than without.
    pub fn traced(self) -> TracedRequest<Self> {
        TracedRequest(self)
    }
}

impl<V: Send + Sync + 'static, Q: CacheKey + ?Sized> Future for Get<'_, V, Q> {
    type Output = Result<Answer<V>>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.at_once
            && let Some(answer) = hit(this.inner, this.key, true)
        {
            return Poll::Ready(Ok(answer));
        }
        this.poll_slow(cx)
    }
}

impl<V: Send + Sync + 'static, Q: CacheKey + ?Sized> Future for TracedRequest<Get<'_, V, Q>> {
    type Output = Result<Traced<Answer<V>>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut self.get_mut().0;
        this.at_once = false;
        this.go_on(cx).map(|found| found.map(|found| Traced::of(this.inner, found, |answer| answer)))
    }
}

impl<V: Send + Sync + 'static, Q: CacheKey + ?Sized> Get<'_, V, Q> {
    /// Polls a lookup that is no hit. It is a call, so that a hit spills no registers for it.
    #[cold]
    #[inline(never)]
    fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer<V>>> {
        self.go_on(cx).map(|found| found.map(|found| found.answer))
    }

    fn go_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<Found<V>>> {
        if let Some(slow) = &mut self.slow {
            return slow.as_mut().poll(cx);
        }
        let tried_at_once = std::mem::take(&mut self.at_once);
        let looked = match self.first_tier {
            FirstTier::L1 => {
                if !tried_at_once {
                    self.inner.local.choose();
                }
                first(self.inner, self.key, self.min_stamp, true, None)
            }
            FirstTier::L2 => Key::encode(self.key).map_or_else(First::Failed, First::Miss),
        };
        match looked {
            First::Hit(found) | First::HitAndRefresh(found, ..) => Poll::Ready(Ok(found)),
            First::Sampled(found, sample) => {
                verify::offer(self.inner, sample);
                Poll::Ready(Ok(found))
            }
            First::Failed(error) => Poll::Ready(Err(error.in_namespace(&self.inner.observer.namespace))),
            First::Miss(key) => {
                let (inner, min_stamp, first_tier) = (self.inner, self.min_stamp, self.first_tier);
                let digest = trace::digest(key.as_bytes());
                let lookup = async move { one::get(inner, &key, min_stamp, first_tier).await };
                let slow = Box::pin(trace::lookup(&inner.observer.namespace, digest, lookup));
                self.slow.insert(slow).as_mut().poll(cx)
            }
        }
    }
}

impl<V, Q: ?Sized> fmt::Debug for Get<'_, V, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Get").field("namespace", &self.inner.observer.namespace).finish_non_exhaustive()
    }
}
