//! What the tiers have for the leader of a flight.

use crate::backend::{Accept, Entry, Tick};
use crate::error::Result;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::approach::Reuse;
use crate::local::flight::AnsweredBy;
use crate::local::lead::Lead;
use crate::local::probe::Probe;
use crate::lookup::fetch::fetch;
use crate::lookup::loader::Wish;
use crate::lookup::outage::{OutageDecision, decide_in_outage};
use crate::lookup::request::{Aim, Origin};
use crate::lookup::stale::{Aged, aged};
use crate::remote::read::Fetched;

/// How far the leader goes for a value that was not found.
pub(crate) enum Route<V> {
    /// Over the lease. Holds what L1 has, unverified.
    Fleet(Accept, Option<Entry<V>>),
    /// Without the inner tier: there is none, or it must not or cannot be asked.
    Alone,
}

/// What the tiers have for the leader.
pub(crate) async fn find<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    lead: &Lead<V>,
    min_stamp: Option<&Stamp>,
    aim: &Aim,
) -> Result<Found<V>> {
    let accept = match find_here(inner, lead, min_stamp, aim) {
        Here::Enough(found) => return Ok(found),
        Here::Ask(accept) => accept,
    };
    if inner.remote.as_ref().is_some_and(|l2| l2.miss_rate.skip_read())
        && aim.reuse != Reuse::Nothing
        && !inner.liveness.is_unsent(lead.key.as_bytes())
    {
        return Ok(Found::Nothing(route(inner, &lead.key, accept, None)));
    }
    let asked = inner.liveness.node.clock.now();
    let fetched = fetch(inner, &lead.key, min_stamp, lead.ticket, &aim.options).await;
    found(inner, lead, aim, (accept, asked), fetched)
}

/// What L1 has for the leader.
pub(crate) fn find_here<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    lead: &Lead<V>,
    min_stamp: Option<&Stamp>,
    aim: &Aim,
) -> Here<V> {
    let mut accept = Accept::Any;
    // Between this caller's probe and its lead, another flight may have landed.
    match inner.local.probe(lead.key.as_bytes(), min_stamp) {
        Probe::Hit(entry) | Probe::Ripe(entry) if aim.is_answered_by(&entry) => {
            return Here::Enough(Found::Answer(entry, AnsweredBy::L1));
        }
        // Its token is worth a question that needs no payload for an answer: ask with the lease.
        Probe::Unverified(entry) | Probe::Capped(entry)
            if aim.is_answered_by(&entry) && !inner.liveness.unsent.voids(&entry) =>
        {
            let route = route(inner, &lead.key, Accept::Known(entry.token), Some(entry));
            return Here::Enough(Found::Nothing(route));
        }
        Probe::Hit(entry) | Probe::Ripe(entry) | Probe::Stale(entry) => {
            accept = Accept::Other(entry.token);
            lead.found_stale(entry, Tick(0));
        }
        Probe::Unverified(_) | Probe::Capped(_) | Probe::Miss => {}
    }
    if aim.reuse == Reuse::Nothing && !(aim.wish == Wish::Previous && accept == Accept::Any) {
        return Here::Enough(Found::Nothing(route(inner, &lead.key, Accept::Nothing, None)));
    }
    Here::Ask(accept)
}

/// What is left to do for the leader after L2 has been read. `asked` is when the question was sent.
pub(crate) fn found<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    lead: &Lead<V>,
    aim: &Aim,
    (mut accept, asked): (Accept, Tick),
    fetched: Fetched<V>,
) -> Result<Found<V>> {
    if let Fetched::Found(..) | Fetched::Stale(..) = fetched {
        if let Some(l2) = &inner.remote {
            l2.miss_rate.found();
        }
    }
    match fetched {
        Fetched::Found(entry, _) if aim.is_answered_by(&entry) => {
            return Ok(Found::Answer(entry, AnsweredBy::L2));
        }
        Fetched::Found(entry, ticket) | Fetched::Stale(entry, ticket) => {
            if backs_off(inner, aim, &entry) {
                return Ok(Found::Answer(entry, AnsweredBy::Backoff));
            }
            accept = Accept::Other(entry.token);
            inner.local.admit(&lead.key, ticket, entry.clone(), aim.options.store.l1_ttl);
            lead.found_stale(entry, asked);
        }
        Fetched::Absent(found) if accept == Accept::Any => accept = found,
        Fetched::Absent(_) => {}
        Fetched::Unreachable(error) => match decide_in_outage(inner, lead.key.as_bytes(), None, error) {
            OutageDecision::Fail(error) => return Err(error),
            OutageDecision::Serve(_) | OutageDecision::Load(_) => return Ok(Found::Nothing(Route::Alone)),
        },
    }
    let accept = if aim.reuse == Reuse::Nothing { Accept::Nothing } else { accept };
    Ok(Found::Nothing(route(inner, &lead.key, accept, None)))
}

/// Whether an expired value of L2 answers because refreshing it has failed here a moment ago.
pub(crate) fn backs_off<V: Send + Sync + 'static>(inner: &Inner<V>, aim: &Aim, entry: &Entry<V>) -> bool {
    (aim.origin, aim.reuse) == (Origin::Caller, Reuse::Cached)
        && aim.want.accepts(&entry.value)
        && matches!(aged(&entry.life, &aim.options, inner.liveness.node.clock.now(), || 1.0), Aged::Serve(_))
}

/// Whether an entry that L2 had answers and is to be refreshed behind that, as a hit in L1 would be.
pub(crate) fn refreshes<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    aim: &Aim,
    entry: &Entry<V>,
    by: AnsweredBy,
) -> bool {
    by == AnsweredBy::L2
        && (aim.origin, aim.reuse) == (Origin::Caller, Reuse::Cached)
        && aged(&entry.life, &aim.options, inner.liveness.node.clock.now(), || 1.0 - fastrand::f64())
            == Aged::Refresh
}

pub(crate) fn route<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &Key,
    accept: Accept,
    held: Option<Entry<V>>,
) -> Route<V> {
    if inner.remote.is_none() || inner.liveness.is_unsent(key.as_bytes()) {
        Route::Alone
    } else {
        Route::Fleet(accept, held)
    }
}

/// How far L1 has brought a leader.
pub(crate) enum Here<V> {
    Enough(Found<V>),
    /// L2 is to be read; and what is acceptable there when the lease is asked for.
    Ask(Accept),
}

pub(crate) enum Found<V> {
    /// An entry that answers, and who had it.
    Answer(Entry<V>, AnsweredBy),
    Nothing(Route<V>),
}
