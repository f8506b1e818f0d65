//! Lookups with a loader.

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
use crate::local::request::{Answer, CacheMode, FirstTier, Found, LookupRequest};
use crate::local::sample::Sample;
use crate::lookup::loader::BoxLoader;
use crate::lookup::one::{self, First, first, hit};
use crate::lookup::verify;
use crate::observe::trace;
use crate::options::{Options, StoreOptions, load_setters, negative_setters, stale_setters, store_setters};

/// Boxes a typed loader after a miss. It may change the options.
type Boxing<V, F> = fn(F, &mut StoreOptions) -> BoxLoader<V>;

/// A lookup with a loader. The requests of the macro `lookups` share it.
struct Lookup<'a, V, Q: ?Sized, F> {
    inner: &'a Arc<Inner<V>>,
    key: &'a Q,
    min_stamp: Option<&'a Stamp>,
    first_tier: FirstTier,
    /// Whether a hit may answer: no stamp is required, L1 is not skipped, and the lookup has not begun. A hit checks
    /// this alone.
    at_once: bool,
    options: Option<Options>,
    loader: Option<(F, Boxing<V, F>)>,
    slow: Option<BoxFuture<'a, Result<Found<V>>>>,
}

// The loader is moved out, and never pinned in place.
impl<V, Q: ?Sized, F> Unpin for Lookup<'_, V, Q, F> {}

impl<'a, V: Send + Sync + 'static, Q: CacheKey + ?Sized, F: Send> Lookup<'a, V, Q, F> {
    fn new(inner: &'a Arc<Inner<V>>, key: &'a Q, loader: F, boxing: Boxing<V, F>) -> Self {
        let loader = Some((loader, boxing));
        Self {
            inner,
            key,
            min_stamp: None,
            first_tier: FirstTier::L1,
            at_once: true,
            options: None,
            loader,
            slow: None,
        }
    }

    fn options(&mut self) -> &mut Options {
        self.options.get_or_insert_with(|| self.inner.policy.defaults.clone())
    }

    #[inline(always)]
    fn poll(&mut self, cx: &mut Context<'_>, absent_ok: bool, mode: CacheMode) -> Poll<Result<Answer<V>>> {
        if mode == CacheMode::Use
            && self.at_once
            && let Some(answer) = hit(self.inner, self.key, absent_ok)
        {
            return Poll::Ready(Ok(answer));
        }
        self.poll_slow(cx, absent_ok, mode)
    }

    /// Polls a lookup that is no hit. It is a call, so that a hit spills no registers for it.
    #[cold]
    #[inline(never)]
    fn poll_slow(
        &mut self,
        cx: &mut Context<'_>,
        absent_ok: bool,
        mode: CacheMode,
    ) -> Poll<Result<Answer<V>>> {
        self.go_on(cx, absent_ok, mode).map(|found| found.map(|found| found.answer))
    }

    /// Polls a lookup that takes cached values, and also returns where the answer was found.
    fn poll_traced<T>(
        &mut self,
        cx: &mut Context<'_>,
        absent_ok: bool,
        finish: fn(Answer<V>) -> T,
    ) -> Poll<Result<Traced<T>>> {
        self.at_once = false;
        self.go_on(cx, absent_ok, CacheMode::Use)
            .map(|found| found.map(|found| Traced::of(self.inner, found, finish)))
    }

    fn go_on(&mut self, cx: &mut Context<'_>, absent_ok: bool, mode: CacheMode) -> Poll<Result<Found<V>>> {
        if let Some(slow) = &mut self.slow {
            return slow.as_mut().poll(cx);
        }
        let tried_at_once = std::mem::take(&mut self.at_once);
        let looked = match (mode, self.first_tier) {
            (CacheMode::Reload, _) | (_, FirstTier::L2) => {
                Key::encode(self.key).map_or_else(First::Failed, First::Miss)
            }
            (CacheMode::Use | CacheMode::Revalidate(_), FirstTier::L1) => {
                if !tried_at_once {
                    self.inner.local.choose();
                }
                let options = self.options.as_ref().unwrap_or(&self.inner.policy.defaults);
                first(self.inner, self.key, self.min_stamp, absent_ok, Some(options))
            }
        };
        match looked {
            First::Hit(found) => Poll::Ready(Ok(found)),
            First::Sampled(found, sample) => {
                self.verify(sample, absent_ok, mode);
                Poll::Ready(Ok(found))
            }
            First::Failed(error) => Poll::Ready(Err(error.in_namespace(&self.inner.observer.namespace))),
            First::HitAndRefresh(found, key, token) => {
                let (request, loader) = self.start(key, absent_ok, mode);
                one::refresh_behind(self.inner, request.behind(token), loader);
                Poll::Ready(Ok(found))
            }
            First::Miss(key) => {
                let inner = self.inner;
                let digest = trace::digest(key.as_bytes());
                let (request, loader) = self.start(key, absent_ok, mode);
                let lookup = one::get_or_load(inner, request, loader);
                let slow = Box::pin(trace::lookup(&inner.observer.namespace, digest, lookup));
                self.slow.insert(slow).as_mut().poll(cx)
            }
        }
    }

    /// Hands a hit to the verifier, with the loader if that is to run once more.
    fn verify(&mut self, mut sample: Sample<V>, absent_ok: bool, mode: CacheMode) {
        if self.inner.local.sampler.as_ref().is_some_and(|sampler| sampler.verify.source) {
            let (request, loader) = self.start(sample.key.clone(), absent_ok, mode);
            let limit = request.options.load.load_timeout;
            sample.rerun = Some(verify::rerun(self.inner, loader, &sample.entry, limit));
        }
        verify::offer(self.inner, sample);
    }

    /// The request and the loader. The request starts once.
    fn start(&mut self, key: Key, absent_ok: bool, mode: CacheMode) -> (Arc<LookupRequest>, BoxLoader<V>) {
        let mut options = self.options.take().unwrap_or_else(|| self.inner.policy.defaults.clone());
        let Some((loader, boxing)) = self.loader.take() else { unreachable!("a request is started once") };
        let loader = boxing(loader, &mut options.store);
        let min_stamp = self.min_stamp.cloned();
        let first_tier = self.first_tier;
        let request =
            LookupRequest { key, min_stamp, mode, absent_ok, first_tier, background: false, options };
        (Arc::new(request), loader)
    }
}

macro_rules! lookups {
    ($($(#[$doc:meta])* $name:ident, $absent_ok:expr, $mode:expr, $output:ty, $finish:expr;)*) => {$(
        $(#[$doc])*
        #[must_use = "a request does nothing until it is awaited"]
        pub struct $name<'a, V, Q: ?Sized, F>(Lookup<'a, V, Q, F>);

        impl<'a, V: Send + Sync + 'static, Q: CacheKey + ?Sized, F: Send> $name<'a, V, Q, F> {
            pub(crate) fn new(inner: &'a Arc<Inner<V>>, key: &'a Q, loader: F, boxing: Boxing<V, F>) -> Self {
                Self(Lookup::new(inner, key, loader, boxing))
            }

            /// Makes the lookup return no value from before this stamp, on any node.
            ///
            /// Never take a [`Stamp`] from a client unsigned: a forged one empties the cache.
            pub fn at_least(mut self, stamp: &'a Stamp) -> Self {
                self.0.min_stamp = Some(stamp);
                self.0.at_once = false;
                self
            }

            store_setters!(|this| this.0.options().store);
            negative_setters!(|this| this.0.options().store);
            load_setters!(|this| this.0.options().load);
        }

        impl<V: Send + Sync + 'static, Q: CacheKey + ?Sized, F: Send> Future for $name<'_, V, Q, F> {
            type Output = Result<$output>;

            #[inline(always)]
            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                self.get_mut().0.poll(cx, $absent_ok, $mode).map(|outcome| outcome.map($finish))
            }
        }

        impl<V, Q: ?Sized, F> fmt::Debug for $name<'_, V, Q, F> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("namespace", &self.0.inner.observer.namespace).finish_non_exhaustive()
            }
        }
    )*};
}

/// What a refresh does not have: it never answers with a stale or cached value.
macro_rules! may_answer_cached {
    ($($name:ident, $absent_ok:expr, $output:ty, $finish:expr;)*) => {$(
        impl<'a, V: Send + Sync + 'static, Q: CacheKey + ?Sized, F: Send> $name<'a, V, Q, F> {
            stale_setters!(|this| this.0.options().load);

            /// Asks L2 although L1 may have the key. L1 gets what L2 has. While L2 cannot be asked, the lookup loads, or
            /// fails, as the outage policy says.
            ///
            /// In a cache without an L2 it is an error of kind [`Config`](crate::error::ErrorKind::Config).
            pub fn skip_l1(mut self) -> Self {
                self.0.first_tier = FirstTier::L2;
                self.0.at_once = false;
                self
            }

            /// Also returns where the answer was found, and its age. A hit costs a little more than without.
            ///
            /// ```
            /// # use async_cache_core::{Result, Source, TieredCache}; use async_cache_memory::MemoryBackend;
            /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
            /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
            /// # async fn find(id: u64) -> Result<Option<String>> { Ok(Some(format!("user {id}"))) }
            /// let found = users.get_or_load_optional(&42, || find(42)).traced().await?;
            /// assert_eq!((found.value.is_some(), found.source), (true, Source::Load));
            /// assert_eq!(users.get(&42).traced().await?.source, Source::L1);
            /// # Ok(()) }
            /// ```
            pub fn traced(self) -> TracedRequest<Self> {
                TracedRequest(self)
            }
        }

        impl<V: Send + Sync + 'static, Q: CacheKey + ?Sized, F: Send> Future for TracedRequest<$name<'_, V, Q, F>> {
            type Output = Result<Traced<$output>>;

            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                self.get_mut().0.0.poll_traced(cx, $absent_ok, $finish)
            }
        }
    )*};
}
may_answer_cached! {
    GetOrLoad, false, Arc<V>, value;
    GetOrLoadOptional, true, Answer<V>, |answer| answer;
}

fn value<V>(answer: Answer<V>) -> Arc<V> {
    match answer {
        Some(value) => value,
        None => unreachable!("a lookup that wants a value ends with one, or with an error"),
    }
}

lookups! {
    /// A lookup with a loader: [`TieredCache::get_or_load`](crate::api::cache::TieredCache::get_or_load).
    ///
    /// The load inherits the `tracing` span of its caller, and nothing else of the caller's task. A
    /// `tokio::task_local!` that the caller has set is not set in the load, and reading it panics
    /// ([`LoaderPanicked`](crate::error::ErrorKind::LoaderPanicked)). Read it before, and move it into the
    /// closure. If the value depends on it, such as on a tenant, make it a part of the key: all callers of one
    /// key get the same value.
    ///
    /// ```
    /// # use async_cache_core::{Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<(u32, u64), String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(tenant: u32, id: u64) -> Result<String> { Ok(format!("user {id} of {tenant}")) }
    /// tokio::task_local! { static TENANT: u32; }
    ///
    /// # TENANT.scope(9, async {
    /// let tenant = TENANT.get(); // here, not in the loader
    /// let user = users.get_or_load(&(tenant, 42), move || find(tenant, 42)).await?;
    /// assert_eq!(*user, "user 42 of 9");
    /// # Result::Ok(()) }).await
    /// # }
    /// ```
    ///
    /// The load outlives the call, so it must own what it uses. `|| self.load(id)` borrows `self`, and the
    /// compiler reports "borrowed data escapes outside of method" (E0521). Give the load its own handle:
    ///
    /// ```
    /// # use async_cache_core::{Error, TieredCache};
    /// # #[derive(Clone)] struct Pool;
    /// #[derive(Clone)] // of handles: cheap
    /// struct Repository {
    ///     pool: Pool,
    ///     users: TieredCache<u64, String>,
    /// }
    ///
    /// impl Repository {
    ///     async fn load(&self, id: u64) -> Result<String, std::io::Error> {
    /// #       let _ = &self.pool;
    ///         Ok(format!("user {id}")) // a query
    ///     }
    ///
    ///     async fn user(&self, id: u64) -> Result<std::sync::Arc<String>, Error> {
    ///         let this = self.clone(); // or of what the load needs: `self.pool.clone()`
    ///         self.users.get_or_load(&id, move || async move { this.load(id).await }).await
    ///     }
    /// }
    /// ```
    GetOrLoad, false, CacheMode::Use, Arc<V>, value;
    /// A lookup with a loader that may find nothing:
    /// [`TieredCache::get_or_load_optional`](crate::api::cache::TieredCache::get_or_load_optional).
    GetOrLoadOptional, true, CacheMode::Use, Answer<V>, |answer| answer;
    /// A load of a key even if it is cached: [`TieredCache::refresh`](crate::api::cache::TieredCache::refresh).
    Refresh, false, CacheMode::Reload, Arc<V>, value;
    /// A load of a key even if it is cached, whose loader may find nothing:
    /// [`TieredCache::refresh_optional`](crate::api::cache::TieredCache::refresh_optional).
    RefreshOptional, true, CacheMode::Reload, Answer<V>, |answer| answer;
}
