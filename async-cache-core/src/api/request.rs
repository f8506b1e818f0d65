//! Awaitable requests: the return values of the lookup and insert methods. `.await` runs a request with the
//! options that were set before.
//!
//! The first poll of a lookup probes L1 on the stack of the caller. Only a miss allocates.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

use crate::backend::{Entry, Token};
use crate::changes::invalidate;
use crate::error::{Error, Result};
use crate::format::key::{CacheKey, Key, with_any_length, with_encoded};
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::probe::Probe;
use crate::local::request::{Answer, CacheMode, LookupRequest};
use crate::local::sample::{Sample, take_choice};
use crate::lookup::find::{self, PastDue};
use crate::lookup::loader::BoxLoader;
use crate::lookup::many::get;
use crate::lookup::stale::{Aged, aged};
use crate::lookup::{check, one, verify};
use crate::observe::trace;
use crate::options::{Options, StoreOptions, load_setters, negative_setters, stale_setters, store_setters};

/// Boxes a typed loader after a miss. It may change the options.
type Boxing<V, F> = fn(F, &mut StoreOptions) -> BoxLoader<V>;

/// A hit and nothing else, on the stack of the caller. [`first`] handles all other cases.
#[inline]
fn hit<V: 'static, Q: CacheKey + ?Sized>(
    inner: &Inner<V>,
    key: &Q,
    min_stamp: Option<&Stamp>,
    absent_ok: bool,
) -> Option<Answer<V>> {
    with_any_length(key, |bytes| inner.local.hit_at_once(bytes, min_stamp, absent_ok))
}

/// The result of the probe of L1 for a request, or the error of its key.
enum First<V> {
    Hit(Answer<V>),
    /// A hit that the verifier has chosen.
    Sampled(Answer<V>, Sample<V>),
    /// A hit. The entry with this token is to be refreshed.
    HitAndRefresh(Answer<V>, Key, Token),
    Miss(Key),
    Failed(Error),
}

/// Probes L1 and handles all cases. `options` is `None` for a lookup without a loader.
fn first<V: Send + Sync + 'static, Q: CacheKey + ?Sized>(
    inner: &Inner<V>,
    key: &Q,
    min_stamp: Option<&Stamp>,
    absent_ok: bool,
    options: Option<&Options>,
) -> First<V> {
    let chosen = take_choice();
    if let Err(error) = check::check_stamp(inner, min_stamp) {
        return First::Failed(error);
    }
    let probed = with_encoded(key, |bytes| match inner.local.probe(bytes, min_stamp) {
        Probe::Hit(entry) if absent_ok || entry.value.is_some() => {
            inner.local.hits.increment();
            match chosen {
                true => {
                    let key = Key::from_encoded(bytes);
                    First::Sampled(entry.value.clone(), Sample { key, entry, rerun: None })
                }
                false => First::Hit(entry.value),
            }
        }
        Probe::Ripe(entry) | Probe::Stale(entry) if absent_ok || entry.value.is_some() => {
            past_due(inner, bytes, entry, options)
        }
        _ => First::Miss(Key::from_encoded(bytes)),
    });
    probed.unwrap_or_else(|error| First::Failed(error.in_namespace(&inner.observer.namespace)))
}

#[cold]
fn past_due<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &[u8],
    entry: Entry<V>,
    options: Option<&Options>,
) -> First<V> {
    let now = inner.local.liveness.node.clock.now();
    let aged = match options {
        Some(options) => aged(&entry.life, options, now, || 1.0 - fastrand::f64()),
        None if now < entry.life.expires => Aged::Answers,
        None => Aged::Load,
    };
    match find::past_due(inner, key, entry, aged) {
        PastDue::Answer(entry) => First::Hit(entry.value),
        PastDue::AnswerAndRefresh(entry) => {
            First::HitAndRefresh(entry.value, Key::from_encoded(key), entry.token)
        }
        PastDue::Nothing => First::Miss(Key::from_encoded(key)),
    }
}

/// A lookup: [`TieredCache::get`](crate::api::cache::TieredCache::get).
#[must_use = "a request does nothing until it is awaited"]
pub struct Get<'a, V, Q: ?Sized> {
    inner: &'a Arc<Inner<V>>,
    key: &'a Q,
    min_stamp: Option<&'a Stamp>,
    slow: Option<BoxFuture<'a, Result<Answer<V>>>>,
}

impl<'a, V, Q: ?Sized> Get<'a, V, Q> {
    pub(crate) fn new(inner: &'a Arc<Inner<V>>, key: &'a Q) -> Self {
        Self { inner, key, min_stamp: None, slow: None }
    }

    /// Makes the lookup return no value from before this stamp, on any node.
    ///
    /// Never take a [`Stamp`] from a client unsigned: a forged one empties the cache.
    pub fn at_least(mut self, stamp: &'a Stamp) -> Self {
        self.min_stamp = Some(stamp);
        self
    }
}

impl<V: Send + Sync + 'static, Q: CacheKey + ?Sized> Future for Get<'_, V, Q> {
    type Output = Result<Answer<V>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(slow) = &mut this.slow {
            return slow.as_mut().poll(cx);
        }
        match hit(this.inner, this.key, this.min_stamp, true) {
            Some(answer) => Poll::Ready(Ok(answer)),
            None => this.go_on(cx),
        }
    }
}

impl<V: Send + Sync + 'static, Q: CacheKey + ?Sized> Get<'_, V, Q> {
    #[cold]
    #[inline(never)]
    fn go_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer<V>>> {
        match first(self.inner, self.key, self.min_stamp, true, None) {
            First::Hit(answer) | First::HitAndRefresh(answer, ..) => Poll::Ready(Ok(answer)),
            First::Sampled(answer, sample) => {
                verify::offer(self.inner, sample);
                Poll::Ready(Ok(answer))
            }
            First::Failed(error) => Poll::Ready(Err(error)),
            First::Miss(key) => {
                let (inner, min_stamp) = (self.inner, self.min_stamp);
                let digest = trace::digest(key.as_bytes());
                let slow = in_span(inner, digest, async move { one::get(inner, &key, min_stamp).await });
                let slow = self.slow.insert(slow);
                slow.as_mut().poll(cx)
            }
        }
    }
}

/// Boxes the rest of a lookup that L1 did not answer, in a tracing span.
fn in_span<'a, V>(
    inner: &Inner<V>,
    digest: trace::Digest,
    work: impl Future<Output = Result<Answer<V>>> + Send + 'a,
) -> BoxFuture<'a, Result<Answer<V>>> {
    Box::pin(trace::lookup(&inner.observer.namespace, digest, work))
}

/// A lookup with a loader. The requests of the macro `lookups` share it.
struct Lookup<'a, V, Q: ?Sized, F> {
    inner: &'a Arc<Inner<V>>,
    key: &'a Q,
    min_stamp: Option<&'a Stamp>,
    options: Option<Options>,
    loader: Option<(F, Boxing<V, F>)>,
    slow: Option<BoxFuture<'a, Result<Answer<V>>>>,
}

// The loader is moved out, and never pinned in place.
impl<V, Q: ?Sized, F> Unpin for Lookup<'_, V, Q, F> {}

impl<'a, V: Send + Sync + 'static, Q: CacheKey + ?Sized, F: Send> Lookup<'a, V, Q, F> {
    fn new(inner: &'a Arc<Inner<V>>, key: &'a Q, loader: F, boxing: Boxing<V, F>) -> Self {
        Self { inner, key, min_stamp: None, options: None, loader: Some((loader, boxing)), slow: None }
    }

    fn options(&mut self) -> &mut Options {
        self.options.get_or_insert_with(|| self.inner.policy.defaults.clone())
    }

    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>, absent_ok: bool, mode: CacheMode) -> Poll<Result<Answer<V>>> {
        if let Some(slow) = &mut self.slow {
            return slow.as_mut().poll(cx);
        }
        if mode == CacheMode::Use
            && let Some(answer) = hit(self.inner, self.key, self.min_stamp, absent_ok)
        {
            return Poll::Ready(Ok(answer));
        }
        self.go_on(cx, absent_ok, mode)
    }

    #[cold]
    #[inline(never)]
    fn go_on(&mut self, cx: &mut Context<'_>, absent_ok: bool, mode: CacheMode) -> Poll<Result<Answer<V>>> {
        let looked = match mode {
            CacheMode::Reload => Key::encode(self.key).map_or_else(First::Failed, First::Miss),
            CacheMode::Use | CacheMode::Revalidate(_) => {
                let options = self.options.as_ref().unwrap_or(&self.inner.policy.defaults);
                first(self.inner, self.key, self.min_stamp, absent_ok, Some(options))
            }
        };
        match looked {
            First::Hit(answer) => Poll::Ready(Ok(answer)),
            First::Sampled(answer, sample) => {
                self.verify(sample, absent_ok, mode);
                Poll::Ready(Ok(answer))
            }
            First::Failed(error) => Poll::Ready(Err(error.in_namespace(&self.inner.observer.namespace))),
            First::HitAndRefresh(answer, key, token) => {
                let (request, loader) = self.start(key, absent_ok, mode);
                one::refresh_behind(self.inner, request.behind(token), loader);
                Poll::Ready(Ok(answer))
            }
            First::Miss(key) => {
                let inner = self.inner;
                let digest = trace::digest(key.as_bytes());
                let (request, loader) = self.start(key, absent_ok, mode);
                let slow = in_span(inner, digest, one::get_or_load(inner, request, loader));
                self.slow.insert(slow).as_mut().poll(cx)
            }
        }
    }

    /// Hands a hit to the verifier, with the loader if that is to run once more.
    fn verify(&mut self, mut sample: Sample<V>, absent_ok: bool, mode: CacheMode) {
        if self.inner.local.sampler.as_ref().is_some_and(|sampler| sampler.verify.source) {
            let (_, loader) = self.start(sample.key.clone(), absent_ok, mode);
            sample.rerun = Some(verify::rerun(self.inner, loader, &sample.entry));
        }
        verify::offer(self.inner, sample);
    }

    /// The request and the loader. The request starts once.
    fn start(&mut self, key: Key, absent_ok: bool, mode: CacheMode) -> (LookupRequest, BoxLoader<V>) {
        let mut options = self.options.take().unwrap_or_else(|| self.inner.policy.defaults.clone());
        let Some((loader, boxing)) = self.loader.take() else { unreachable!("a request is started once") };
        let loader = boxing(loader, &mut options.store);
        let min_stamp = self.min_stamp.cloned();
        (LookupRequest { key, min_stamp, mode, absent_ok, background: false, options }, loader)
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
                self
            }

            store_setters!(|this| this.0.options().store);
            negative_setters!(|this| this.0.options().store);
            load_setters!(|this| this.0.options().load);
        }

        impl<V: Send + Sync + 'static, Q: CacheKey + ?Sized, F: Send> Future for $name<'_, V, Q, F> {
            type Output = Result<$output>;

            #[inline]
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

/// The options for stale values. A refresh never answers with a stale value, so it does not have them.
macro_rules! may_answer_stale {
    ($($name:ident)*) => {$(
        impl<'a, V: Send + Sync + 'static, Q: CacheKey + ?Sized, F: Send> $name<'a, V, Q, F> {
            stale_setters!(|this| this.0.options().load);
        }
    )*};
}
may_answer_stale!(GetOrLoad GetOrLoadOptional);

fn value<V>(answer: Answer<V>) -> Arc<V> {
    match answer {
        Some(value) => value,
        None => unreachable!("a lookup that wants a value ends with one, or with an error"),
    }
}

lookups! {
    /// A lookup with a loader: [`TieredCache::get_or_load`](crate::api::cache::TieredCache::get_or_load).
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

impl<V, Q: ?Sized> fmt::Debug for Get<'_, V, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Get").field("namespace", &self.inner.observer.namespace).finish_non_exhaustive()
    }
}

/// A lookup of many keys: [`TieredCache::get_many`](crate::api::cache::TieredCache::get_many).
#[must_use = "a request does nothing until it is awaited"]
pub struct GetMany<'a, V> {
    inner: &'a Arc<Inner<V>>,
    keys: Result<Vec<Key>>,
    min_stamp: Option<&'a Stamp>,
}

impl<'a, V> GetMany<'a, V> {
    pub(crate) fn new(inner: &'a Arc<Inner<V>>, keys: Result<Vec<Key>>) -> Self {
        Self { inner, keys, min_stamp: None }
    }

    /// Makes the lookup return no value from before this stamp, on any node.
    ///
    /// Never take a [`Stamp`] from a client unsigned: a forged one empties the cache.
    pub fn at_least(mut self, stamp: &'a Stamp) -> Self {
        self.min_stamp = Some(stamp);
        self
    }
}

impl<'a, V: Send + Sync + 'static> IntoFuture for GetMany<'a, V> {
    type Output = Result<Vec<Answer<V>>>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let keys = self.keys.map_err(|error| error.in_namespace(&self.inner.observer.namespace))?;
            get::get_many(self.inner, keys, self.min_stamp).await
        })
    }
}

/// A change that stores values: [`TieredCache::insert`](crate::api::cache::TieredCache::insert) and
/// [`TieredCache::insert_many`](crate::api::cache::TieredCache::insert_many).
#[must_use = "a request does nothing until it is awaited"]
pub struct Insert<'a, V> {
    inner: &'a Arc<Inner<V>>,
    values: Result<Vec<(Key, Arc<V>)>>,
    options: StoreOptions,
}

impl<'a, V> Insert<'a, V> {
    pub(crate) fn new(inner: &'a Arc<Inner<V>>, values: Result<Vec<(Key, Arc<V>)>>) -> Self {
        Self { inner, values, options: inner.policy.defaults.store.clone() }
    }

    store_setters!(|this| this.options);
}

impl<'a, V: Send + Sync + 'static> IntoFuture for Insert<'a, V> {
    type Output = Result<Stamp>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let values = self.values.map_err(|error| error.in_namespace(&self.inner.observer.namespace))?;
            invalidate::insert(self.inner, values, self.options).await
        })
    }
}

impl<V> fmt::Debug for GetMany<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetMany").field("namespace", &self.inner.observer.namespace).finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for Insert<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Insert").field("namespace", &self.inner.observer.namespace).finish_non_exhaustive()
    }
}
