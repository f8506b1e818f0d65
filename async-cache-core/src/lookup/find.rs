//! What the tiers have for the leader of a flight.

use crate::backend::{Accept, Entry, Tick};
use crate::inner::Inner;
use crate::local::flight::AnsweredBy;
use crate::local::lead::Lead;
use crate::local::probe::Probe;
use crate::local::request::{FirstTier, LookupRequest};
use crate::lookup::progress::Seen;
use crate::lookup::stale::{Aged, aged, is_allowed};
use crate::lookup::step::{InL1, InL2, Learnt};
use crate::observe::StaleCause;
use crate::remote::read::{Fetched, fetch};

/// Probes L1 again. Another flight may have ended between the caller's probe and its lead.
pub(crate) fn in_l1<V: Send + Sync + 'static>(inner: &Inner<V>, lead: &Lead<V>) -> Seen<V> {
    let request = &*lead.request;
    if request.first_tier != FirstTier::L1 {
        return Seen::bare(Learnt::L1(InL1::Nothing(Accept::Any)));
    }
    match inner.local.probe(request.key.as_bytes(), request.min_stamp.as_ref()) {
        Probe::Hit(entry) | Probe::Ripe(entry) if request.is_answered_by(&entry) => {
            Seen::of(Learnt::L1(InL1::Answers), entry)
        }
        Probe::Unverified(entry) | Probe::Capped(entry)
            if request.is_answered_by(&entry) && !inner.local.liveness.unsent.voids(&entry) =>
        {
            Seen::of(Learnt::L1(InL1::Unverified(entry.token)), entry)
        }
        Probe::Hit(entry) | Probe::Ripe(entry) | Probe::Stale(entry) => {
            let token = entry.token;
            lead.found_stale(entry, Tick(0));
            Seen::bare(Learnt::L1(InL1::Nothing(Accept::Other(token))))
        }
        Probe::Unverified(_) | Probe::Capped(_) | Probe::Miss => {
            Seen::bare(Learnt::L1(InL1::Nothing(Accept::Any)))
        }
    }
}

/// Reads L2.
pub(crate) async fn in_l2<V: Send + Sync + 'static>(inner: &Inner<V>, lead: &Lead<V>) -> Seen<V> {
    let asked = inner.local.liveness.node.clock.now();
    let LookupRequest { key, min_stamp, options, .. } = &*lead.request;
    let fetched = fetch(inner.remote.as_ref(), key, min_stamp.as_ref(), lead.ticket, options).await;
    read(inner, lead, asked, fetched)
}

/// The result of a read of L2 that was sent at `asked`. A value that does not answer becomes the fallback.
pub(crate) fn read<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    lead: &Lead<V>,
    asked: Tick,
    fetched: Fetched<V>,
) -> Seen<V> {
    let request = &*lead.request;
    if let (Fetched::Found(..) | Fetched::Stale(..), Some(l2)) = (&fetched, &inner.remote) {
        l2.miss_rate.found();
    }
    match fetched {
        Fetched::Found(entry, _) if request.is_answered_by(&entry) => {
            Seen::of(Learnt::L2(InL2::Answers), entry)
        }
        Fetched::Found(entry, _) | Fetched::Stale(entry, _) if backs_off(inner, request, &entry) => {
            Seen::of(Learnt::L2(InL2::BacksOff), entry)
        }
        Fetched::Found(entry, ticket) | Fetched::Stale(entry, ticket) => {
            let token = entry.token;
            inner.local.admit(&request.key, ticket, entry.clone(), request.options.store.l1_ttl);
            lead.found_stale(entry, asked);
            Seen::bare(Learnt::L2(InL2::Nothing(Accept::Other(token))))
        }
        Fetched::Absent(accept) => Seen::bare(Learnt::L2(InL2::Nothing(accept))),
        Fetched::Unreachable(error) => Seen::failed(Learnt::L2(InL2::Unreachable), error),
    }
}

/// Whether an expired value of L2 answers, because its refresh failed on this node a moment ago.
pub(crate) fn backs_off<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    request: &LookupRequest,
    entry: &Entry<V>,
) -> bool {
    request.is_plain()
        && request.accepts(&entry.value)
        && is_allowed(inner, request, entry)
        && matches!(
            aged(&entry.life, &request.options, inner.local.liveness.node.clock.now(), || 1.0),
            Aged::Serve(_)
        )
}

/// Whether an entry of L2 answers and is refreshed in the background, as a hit in L1 would be.
pub(crate) fn refreshes<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    request: &LookupRequest,
    entry: &Entry<V>,
    by: AnsweredBy,
) -> bool {
    by == AnsweredBy::L2
        && request.is_plain()
        && aged(&entry.life, &request.options, inner.local.liveness.node.clock.now(), || {
            1.0 - fastrand::f64()
        }) == Aged::Refresh
}

/// What a new lookup does with an entry of L1 that is close to its expiry or past it.
pub(crate) enum PastDue<V> {
    Answer(Entry<V>),
    /// The entry answers, and is refreshed in the background.
    AnswerAndRefresh(Entry<V>),
    Nothing,
}

/// Decides whether an entry that is close to its expiry or past it answers, and counts the lookup.
#[cold]
pub(crate) fn past_due<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &[u8],
    entry: Entry<V>,
    aged: Aged,
) -> PastDue<V> {
    match aged {
        Aged::Answers | Aged::Refresh => inner.local.hits.increment(),
        Aged::Serve(cause) => inner.observer.stale_served(key, cause),
        Aged::ServeAndRefresh => inner.observer.stale_served(key, StaleCause::Revalidating),
        Aged::Load => {}
    }
    match aged {
        Aged::Answers | Aged::Serve(_) => PastDue::Answer(entry),
        Aged::Refresh | Aged::ServeAndRefresh => PastDue::AnswerAndRefresh(entry),
        Aged::Load => PastDue::Nothing,
    }
}
