//! The first poll of a lookup: it probes L1.

use futures_util::future::BoxFuture;

use crate::backend::{Entry, Token};
use crate::error::{Error, Result};
use crate::format::key::{CacheKey, Key, with_any_length, with_encoded};
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::l1::{Probe, take_choice};
use crate::local::request::{Answer, Found, Source};
use crate::local::sample::Sample;
use crate::lookup::progress::{self, PastDue};
use crate::lookup::stale::{Aged, aged};
use crate::observe::trace;
use crate::options::Options;

/// A hit and nothing else, on the stack of the caller. [`first`] handles all other cases.
#[inline]
pub(super) fn hit<V: 'static, Q: CacheKey + ?Sized>(
    inner: &Inner<V>,
    key: &Q,
    absent_ok: bool,
) -> Option<Answer<V>> {
    with_any_length(key, |bytes| inner.local.hit_at_once(bytes, absent_ok))
}

/// The result of the probe of L1 for a request, or the error of its key.
pub(super) enum First<V> {
    Hit(Found<V>),
    /// A hit that the verifier has chosen.
    Sampled(Found<V>, Sample<V>),
    /// A hit. The entry with this token is to be refreshed.
    HitAndRefresh(Found<V>, Key, Token),
    Miss(Key),
    Failed(Error),
}

/// Probes L1 and handles all cases. `options` is `None` for a lookup without a loader.
pub(super) fn first<V: Send + Sync + 'static, Q: CacheKey + ?Sized>(
    inner: &Inner<V>,
    key: &Q,
    min_stamp: Option<&Stamp>,
    absent_ok: bool,
    options: Option<&Options>,
) -> First<V> {
    let chosen = take_choice().then(|| inner.local.liveness.node.clock.coarse_now());
    if let Err(error) = inner.local.liveness.check_stamp(min_stamp) {
        return First::Failed(error);
    }
    let probed = with_encoded(key, |bytes| match inner.local.probe(bytes, min_stamp) {
        Probe::Hit(entry) if absent_ok || entry.value.is_some() => {
            inner.local.hits.increment();
            let found = Found::copied(&entry, Source::L1);
            match chosen {
                Some(begun) => {
                    let key = Key::from_encoded(bytes);
                    First::Sampled(found, Sample { key, entry, begun, rerun: None })
                }
                None => First::Hit(found),
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
    let now = inner.local.now();
    let aged = match options {
        Some(options) => aged(&entry.life, options, now, || 1.0 - fastrand::f64()),
        None if now < entry.life.expires => Aged::Answers,
        None => Aged::Load,
    };
    match progress::past_due(inner, key, entry, aged) {
        PastDue::Answer(entry) => First::Hit(Found::of(entry, aged.source())),
        PastDue::AnswerAndRefresh(entry) => {
            let token = entry.token;
            First::HitAndRefresh(Found::of(entry, aged.source()), Key::from_encoded(key), token)
        }
        PastDue::Nothing => First::Miss(Key::from_encoded(key)),
    }
}

/// Boxes the rest of a lookup that L1 did not answer, in a tracing span.
pub(super) fn in_span<'a, V>(
    inner: &Inner<V>,
    digest: trace::Digest,
    work: impl Future<Output = Result<Found<V>>> + Send + 'a,
) -> BoxFuture<'a, Result<Found<V>>> {
    Box::pin(trace::lookup(&inner.observer.namespace, digest, work))
}
