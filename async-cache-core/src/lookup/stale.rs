//! Stale values: expired values that still answer.
//!
//! Whether a stale value may answer is decided at the moment of the answer. The conditions are those for a
//! hit and for storing a load. They prevent this race:
//!
//! 1. a lookup finds that version 1 has expired, and loads;
//! 2. version 2 is committed and the key invalidated, here or on another node;
//! 3. the load fails.
//!
//! In step 2 the entry leaves L1, the generation rises, or the ticket becomes invalid. In step 3 there is
//! then no fallback, and the caller gets the error. If this node is cut off, it may miss step 2. But then its
//! serving lease has ended when `max_staleness` is reached, and L2 is asked.

use crate::backend::{Entry, Expiry, Phase, Tick};
use crate::error::{Error, ErrorKind};
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::local::flight::{Elsewhere, Fallback, Flight};
use crate::local::l1::Probe;
use crate::local::request::{FirstTier, LookupRequest, Source};
use crate::observe::StaleCause;
use crate::options::{Options, OutagePolicy};
use crate::remote::read::{Fetched, fetch};

/// A value that may answer instead of a load's value.
#[derive(Debug)]
pub(crate) struct StandIn<V> {
    pub(crate) entry: Entry<V>,
    pub(crate) standing: Standing,
}

/// What is known of such a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// No change had voided it at a moment at most `max_staleness` ago.
    Verified,
    /// L2 has just returned it as valid.
    Confirmed,
    /// It is verified and not expired, but past its cap in L1. L2 must be asked first.
    Capped,
    /// L2 cannot be asked, and the outage policy accepts that.
    Unverified,
}

impl Standing {
    fn of<V>(self, entry: Entry<V>) -> StandIn<V> {
        StandIn { entry, standing: self }
    }
}

/// What to do with an entry that is close to its expiry or past it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aged {
    /// It answers.
    Answers,
    /// It answers, and is refreshed in the background.
    Refresh,
    /// It answers although it has expired.
    Serve(StaleCause),
    /// It answers although it has expired, and is refreshed in the background.
    ServeAndRefresh,
    /// It is to be replaced by a load. If the load fails, it is a fallback.
    Load,
}

impl Aged {
    /// The source of the answer.
    pub(crate) fn source(self) -> Source {
        match self {
            Self::Answers | Self::Refresh | Self::Load => Source::L1,
            Self::Serve(_) | Self::ServeAndRefresh => Source::Stale,
        }
    }
}

/// Decides what to do with an entry for a lookup with a loader. `draw` returns a random number from (0, 1]. It is
/// called only if the number matters.
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

/// Whether a stale value may answer instead of this error. It may if the source failed, not the cache.
pub(crate) fn is_source_failure(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Loader | ErrorKind::LoaderPanicked | ErrorKind::Timeout)
}

/// A value that may answer now, expired or not, without a question to L2.
pub(crate) fn at_hand<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    request: &LookupRequest,
    flight: &Flight<V>,
) -> Option<StandIn<V>> {
    // An entry of L1 is judged by its key alone. A ticket may also be invalid because of other keys of the
    // stripe.
    let probed = match request.first_tier {
        FirstTier::L1 => inner.local.probe(request.key.as_bytes(), request.min_stamp.as_ref()),
        FirstTier::L2 => Probe::Miss,
    };
    match probed {
        Probe::Hit(entry) | Probe::Ripe(entry) | Probe::Stale(entry) if request.accepts(&entry.value) => {
            return Some(Standing::Verified.of(entry));
        }
        Probe::Capped(entry) if request.accepts(&entry.value) => {
            return Some(Standing::Capped.of(entry));
        }
        _ => {}
    }
    if let Some(fallback) = flight.fallback()
        && is_of_tier(request, fallback)
        && request.accepts(&fallback.entry.value)
        && is_allowed(inner, request, &fallback.entry)
        && (holds(inner, &request.key, needed(inner, request), fallback)
            || (flight.elsewhere() == Some(Elsewhere::FallbackHeld)
                && fallback.reflects >= needed(inner, request)))
    {
        return Some(Standing::Verified.of(as_of_now(inner, &request.key, &fallback.entry)));
    }
    let cut_off = inner.remote.as_ref().is_some_and(|l2| !l2.region.info().available);
    if cut_off { unverified(inner, request) } else { None }
}

/// The fallback of a flight, if it has not expired. It is a value of L2 that a flight in the background replaces. No
/// caller needs to wait for that flight.
pub(crate) fn fresh<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    request: &LookupRequest,
    fallback: &Fallback<V>,
) -> Option<StandIn<V>> {
    let entry = as_of_now(inner, &request.key, &fallback.entry);
    let fresh = matches!(entry.life.phase(inner.local.now()), Phase::Fresh | Phase::Ripe);
    (fresh
        && is_of_tier(request, fallback)
        && request.accepts(&fallback.entry.value)
        && is_allowed(inner, request, &fallback.entry)
        && holds(inner, &request.key, needed(inner, request), fallback))
    .then(|| Standing::Confirmed.of(entry))
}

/// Finds what [`at_hand`] finds. If there is nothing, it asks L2.
pub(crate) async fn fallback<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    request: &LookupRequest,
    flight: &Flight<V>,
) -> Option<StandIn<V>> {
    if let Some(found) = at_hand(inner, request, flight) {
        return Some(found);
    }
    let (ticket, options) = (inner.local.ticket(&request.key), &request.options);
    match fetch(inner.remote.as_ref(), &request.key, request.min_stamp.as_ref(), ticket, options).await {
        Fetched::Found(entry, ticket) | Fetched::Stale(entry, ticket)
            if request.accepts(&entry.value) && is_allowed(inner, request, &entry) =>
        {
            inner.local.admit(&request.key, ticket, entry.clone(), options.store.l1_ttl);
            Some(Standing::Confirmed.of(entry))
        }
        Fetched::Unreachable(_) => unverified(inner, request),
        Fetched::Found(..) | Fetched::Stale(..) | Fetched::Absent(_) => None,
    }
}

/// The value that a load is to replace.
pub(crate) fn previous<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    request: &LookupRequest,
    flight: &Flight<V>,
) -> Option<Entry<V>> {
    let any_value = LookupRequest { min_stamp: None, absent_ok: false, ..request.asking_l1() };
    at_hand(inner, &any_value, flight).map(|found| found.entry)
}

/// Whether the fallback of a flight may still answer its leader.
pub(crate) fn has_fallback<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    request: &LookupRequest,
    flight: &Flight<V>,
) -> bool {
    let stands = |fallback: &Fallback<V>| {
        request.accepts(&fallback.entry.value)
            && is_allowed(inner, request, &fallback.entry)
            && holds(inner, &request.key, flight.min_seq, fallback)
    };
    flight.fallback().is_some_and(stands)
}

/// The number that the lookup's stamp requires. It is 0 without a stamp.
fn needed<V: Send + Sync + 'static>(inner: &Inner<V>, request: &LookupRequest) -> u64 {
    let (index, _) = inner.local.partition_of(request.key.as_bytes());
    request.min_seq(index)
}

/// Whether the lookup may be answered by the tier that had the fallback. A lookup that skips L1 may have joined a load
/// that was to replace an entry of L1.
fn is_of_tier<V>(request: &LookupRequest, fallback: &Fallback<V>) -> bool {
    request.first_tier == FirstTier::L1 || fallback.confirmed > Tick(0)
}

/// Whether an entry that a change has expired may be a fallback for this lookup. It may not if the lookup's stamp
/// requires that change. Without an L2 changes have no numbers, so then no stamp allows the entry.
pub(crate) fn is_allowed<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    request: &LookupRequest,
    entry: &Entry<V>,
) -> bool {
    let (index, partition) = inner.local.partition_of(request.key.as_bytes());
    let reflects = || inner.remote.is_some() && entry.seq >= request.min_seq(index);
    let is_expired = || entry.life.by_change || partition.outdates_by_tag(&entry.tags, entry.seq);
    request.min_stamp.is_none() || reflects() || !is_expired()
}

/// The life of an entry that was read before, after the expiries of its tags since then.
fn life_left<V: Send + Sync + 'static>(inner: &Inner<V>, key: &Key, entry: &Entry<V>) -> Expiry {
    let (_, partition) = inner.local.partition_of(key.as_bytes());
    match partition.outdates_by_tag(&entry.tags, entry.seq) {
        true => entry.life.expired(inner.local.now()),
        false => entry.life,
    }
}

fn as_of_now<V: Send + Sync + 'static>(inner: &Inner<V>, key: &Key, entry: &Entry<V>) -> Entry<V> {
    Entry { life: life_left(inner, key, entry), ..entry.clone() }
}

/// Whether the fallback of a flight may still answer. As in a probe, the clock and the serving lease are read
/// first, before the state that changes can alter.
fn holds<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &Key,
    min_seq: u64,
    fallback: &Fallback<V>,
) -> bool {
    let Fallback { entry, ticket, confirmed, reflects } = fallback;
    let (_, partition) = inner.local.partition_of(key.as_bytes());
    let now = inner.local.now();
    let recent = *confirmed > Tick(0) && now <= confirmed.after(inner.local.liveness.node.max_staleness);
    let life = life_left(inner, key, entry);
    if !(recent || partition.serving_at(now)) || life.phase(now) == Phase::Expired {
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

/// The entry of L1, verified or not, if the outage policy lets it answer.
fn unverified<V: Send + Sync + 'static>(inner: &Inner<V>, request: &LookupRequest) -> Option<StandIn<V>> {
    if request.first_tier != FirstTier::L1 {
        return None;
    }
    let (index, partition) = inner.local.partition_of(request.key.as_bytes());
    let entry = as_of_now(inner, &request.key, &inner.local.engine()?.get(request.key.as_bytes())?);
    // `applied` says nothing about an entry of an older generation.
    let late_enough = entry.seq >= request.min_seq(index);
    let usable = inner.policy.outage == OutagePolicy::ServeL1
        && entry.life.phase(inner.local.now()) != Phase::Expired
        && !partition.voids(&entry)
        && !inner.local.liveness.unsent_of(request.key.as_bytes()).voids(&entry);
    (usable && late_enough && request.accepts(&entry.value)).then(|| Standing::Unverified.of(entry))
}

/// What the lookup does in an outage.
pub(crate) enum OutageDecision<V> {
    /// Answer with the unverified entry of L1.
    Serve(Entry<V>),
    /// Load if there is a loader.
    Load(Error),
    /// Return the error.
    Fail(Error),
}

/// Decides by the outage policy. `held` is the entry of L1 that has not expired, if there is one.
pub(crate) fn decide_in_outage<V: 'static>(
    inner: &Inner<V>,
    key: &[u8],
    held: Option<Entry<V>>,
    error: Error,
) -> OutageDecision<V> {
    let (_, partition) = inner.local.partition_of(key);
    match (inner.policy.outage, held) {
        (OutagePolicy::Fail, _) => OutageDecision::Fail(error),
        // A void value does not answer, not even in an outage. An entry that has expired while L2 was asked
        // does not answer, either.
        (OutagePolicy::ServeL1, Some(entry))
            if matches!(entry.life.phase(inner.local.now()), Phase::Fresh | Phase::Ripe)
                && !partition.voids(&entry)
                && !partition.outdates_by_tag(&entry.tags, entry.seq)
                && !inner.local.liveness.unsent_of(key).voids(&entry) =>
        {
            OutageDecision::Serve(entry)
        }
        (OutagePolicy::ServeL1 | OutagePolicy::Load, _) => OutageDecision::Load(error),
    }
}
