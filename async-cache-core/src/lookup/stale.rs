//! Stale values: those that have expired, and answer all the same.
//!
//! Whether one may be served is decided at the moment of serving, by what decides whether a hit
//! may be served and a load stored. The race this is about:
//!
//! 1. a lookup finds that version 1 has expired, and loads;
//! 2. version 2 is committed and the key invalidated, here or on another node;
//! 3. the load fails.
//!
//! In 2 the entry leaves L1, the generation moves, or the ticket is outdated; in 3 there is nothing to fall back
//! on, and the failure is what the caller gets. Where 2 went unheard because this node is cut off,
//! its serving lease has lapsed by the time the bound on staleness is reached, and L2 is asked.

use crate::backend::{Entry, Expiry, Phase, Tick};
use crate::error::{Error, ErrorKind};
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::approach::Want;
use crate::local::fallback::Fallback;
use crate::local::flight::{Elsewhere, Flight};
use crate::local::probe::Probe;
use crate::lookup::fetch::fetch;
use crate::observe::StaleCause;
use crate::options::{Options, OutagePolicy};
use crate::remote::read::Fetched;

/// A value that may stand in for what a load brings.
#[derive(Debug)]
pub(crate) struct StandIn<V> {
    pub(crate) entry: Entry<V>,
    pub(crate) standing: Standing,
}

/// What is known of a value that stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing has changed since, as of `max_staleness` ago.
    Verified,
    /// L2 has just said so.
    Confirmed,
    /// Likewise, and it is not even expired; but it is past its cap in L1, and L2 is to be asked first.
    Capped,
    /// Nobody can be asked, and the policy for outages makes do with that.
    Unverified,
}

impl Standing {
    fn of<V>(self, entry: Entry<V>) -> StandIn<V> {
        StandIn { entry, standing: self }
    }
}

/// What to do with an entry that is past its freshest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aged {
    /// It answers.
    Answers,
    /// It answers, and is refreshed behind the answer.
    Refresh,
    /// It answers although it has expired.
    Serve(StaleCause),
    /// Likewise, and is refreshed behind the answer.
    ServeAndRefresh,
    /// It is to be replaced; it is a fallback should that fail.
    Load,
}

/// Decides it, for a lookup with a loader. `draw` is drawn from (0, 1], and only if it matters.
pub(crate) fn aged(life: &Expiry, options: &Options, now: Tick, draw: impl FnOnce() -> f64) -> Aged {
    match (life.phase(now), life.may_retry(now)) {
        (Phase::Fresh, _) | (Phase::Ripe, false) => Aged::Answers,
        (Phase::Ripe, true) if life.is_drawn(now, draw()) => Aged::Refresh,
        (Phase::Ripe, true) => Aged::Answers,
        (Phase::Stale, true) if options.load.stale_while_revalidate => Aged::ServeAndRefresh,
        (Phase::Stale, false) if options.load.stale_on_error || options.load.stale_while_revalidate => {
            Aged::Serve(StaleCause::Backoff)
        }
        (Phase::Stale | Phase::Expired, _) => Aged::Load,
    }
}

/// Whether a stale value may stand in for this error: the source failed, not the cache.
pub(crate) fn is_source_failure(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Loader | ErrorKind::LoaderPanicked | ErrorKind::Timeout)
}

/// A lookup in want of a fallback.
#[derive(Clone, Copy)]
pub(crate) struct Seek<'a> {
    pub(crate) key: &'a Key,
    pub(crate) min_stamp: Option<&'a Stamp>,
    pub(crate) want: Want,
}

/// A value that may be served now, expired or not, without asking anyone.
pub(crate) fn at_hand<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    seek: Seek<'_>,
    flight: &Flight<V>,
) -> Option<StandIn<V>> {
    // What L1 has is judged by the key alone; the ticket of a flight also by its neighbours.
    match inner.local.probe(seek.key.as_bytes(), seek.min_stamp) {
        Probe::Hit(entry) | Probe::Ripe(entry) | Probe::Stale(entry) if seek.want.accepts(&entry.value) => {
            return Some(Standing::Verified.of(entry));
        }
        Probe::Capped(entry) if seek.want.accepts(&entry.value) => {
            return Some(Standing::Capped.of(entry));
        }
        _ => {}
    }
    if let Some(fallback) = flight.fallback()
        && seek.want.accepts(&fallback.entry.value)
        && (holds(inner, seek.key, needed(inner, seek), fallback)
            || (flight.elsewhere() == Some(Elsewhere::FallbackHeld)
                && fallback.reflects >= needed(inner, seek)))
    {
        return Some(Standing::Verified.of(fallback.entry.clone()));
    }
    let cut_off = inner.remote.as_ref().is_some_and(|l2| !l2.region.available());
    if cut_off { unverified(inner, seek) } else { None }
}

/// A value that L2 has, and that a flight behind an answer is to replace before it expires: nobody need wait.
pub(crate) fn fresh_at_hand<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    seek: Seek<'_>,
    flight: &Flight<V>,
) -> Option<StandIn<V>> {
    let fallback = flight.fallback()?;
    let fresh = matches!(
        fallback.entry.life.phase(inner.local.liveness.node.clock.now()),
        Phase::Fresh | Phase::Ripe
    );
    (fresh
        && seek.want.accepts(&fallback.entry.value)
        && holds(inner, seek.key, needed(inner, seek), fallback))
    .then(|| Standing::Confirmed.of(fallback.entry.clone()))
}

/// As [`at_hand`](Self::at_hand); asks L2 if need be.
pub(crate) async fn fallback<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    seek: Seek<'_>,
    flight: &Flight<V>,
    options: &Options,
) -> Option<StandIn<V>> {
    if let Some(found) = at_hand(inner, seek, flight) {
        return Some(found);
    }
    let ticket = inner.local.ticket(seek.key);
    match fetch(inner, seek.key, seek.min_stamp, ticket, options).await {
        Fetched::Found(entry, ticket) | Fetched::Stale(entry, ticket) if seek.want.accepts(&entry.value) => {
            inner.local.admit(seek.key, ticket, entry.clone(), options.store.l1_ttl);
            Some(Standing::Confirmed.of(entry))
        }
        Fetched::Unreachable(_) => unverified(inner, seek),
        Fetched::Found(..) | Fetched::Stale(..) | Fetched::Absent(_) => None,
    }
}

/// The value that a load is to replace.
pub(crate) fn previous<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &Key,
    flight: &Flight<V>,
) -> Option<Entry<V>> {
    at_hand(inner, Seek { key, min_stamp: None, want: Want::Value }, flight).map(|found| found.entry)
}

/// Whether the stale value that a flight has found may still stand in for what its leader wants.
pub(crate) fn has_fallback<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &Key,
    want: Want,
    flight: &Flight<V>,
) -> bool {
    let stands = |fallback: &Fallback<V>| {
        want.accepts(&fallback.entry.value) && holds(inner, key, flight.min_seq, fallback)
    };
    flight.fallback().is_some_and(stands)
}

/// The number that a lookup insists on; every one is at least zero.
fn needed<V: Send + Sync + 'static>(inner: &Inner<V>, seek: Seek<'_>) -> u64 {
    let (index, _) = inner.local.liveness.node.partition_of(seek.key.as_bytes());
    seek.min_stamp.map_or(0, |stamp| stamp.seq(index))
}

/// Whether what a flight has found still holds. As in a probe, the clock and the serving lease come
/// before what could undo them.
fn holds<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &Key,
    min_seq: u64,
    fallback: &Fallback<V>,
) -> bool {
    let Fallback { entry, ticket, confirmed, reflects } = fallback;
    let (_, partition) = inner.local.liveness.node.partition_of(key.as_bytes());
    let now = inner.local.liveness.node.clock.now();
    let recent = *confirmed > Tick(0) && now <= confirmed.after(inner.local.liveness.node.max_staleness);
    if !(recent || partition.serving_at(now)) || entry.life.phase(now) == Phase::Expired {
        return false;
    }
    let late_enough = partition.applied() >= min_seq || *reflects >= min_seq;
    if inner.policy.faults.is(Mutant::FallbackUnchecked) {
        return true;
    }
    late_enough
        && partition.generation() == ticket.generation
        && !partition.voids_by_tag(&entry.tags, entry.seq)
        && inner.local.stripes.unmoved(key.as_bytes(), *ticket, entry.seq)
}

/// What L1 holds, verified or not, if the policy for outages lets it answer.
fn unverified<V: Send + Sync + 'static>(inner: &Inner<V>, seek: Seek<'_>) -> Option<StandIn<V>> {
    let (index, partition) = inner.local.liveness.node.partition_of(seek.key.as_bytes());
    let entry = inner.local.engine()?.get(seek.key.as_bytes())?;
    // What has been applied since says nothing of an entry from before a flush.
    let late_enough = seek.min_stamp.is_none_or(|stamp| entry.seq >= stamp.seq(index));
    let usable = inner.policy.outage == OutagePolicy::ServeL1
        && entry.life.phase(inner.local.liveness.node.clock.now()) != Phase::Expired
        && !partition.voids(&entry)
        && !inner.local.liveness.unsent.voids(&entry);
    (usable && late_enough && seek.want.accepts(&entry.value)).then(|| Standing::Unverified.of(entry))
}
