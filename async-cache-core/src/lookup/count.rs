//! How a lookup is counted, and where its answer was found. Each lookup is counted once, by its result.

use crate::error::Result;
use crate::inner::Inner;
use crate::local::flight::{AnsweredBy, Flight};
use crate::local::lead::JoinBound;
use crate::local::request::{Answer, Source};
use crate::observe::StaleCause;

/// The part of a caller in a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Leads,
    Joined(JoinBound),
}

/// The source of the answer of a flight, for one of its callers.
pub(crate) fn source<V>(flight: &Flight<V>, role: Role) -> Source {
    match (role, flight.answered_by().source()) {
        (Role::Leads, source) => source,
        (Role::Joined(JoinBound::Exceeded), _) | (_, Source::Stale) => Source::Stale,
        (Role::Joined(JoinBound::Within), _) => Source::Wait,
    }
}

/// Counts a lookup whose flight has ended. It is counted once, by its result.
pub(crate) fn landed<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &[u8],
    flight: &Flight<V>,
    role: Role,
    outcome: &Result<Answer<V>>,
) {
    match (outcome, role, flight.answered_by()) {
        (Err(_), ..) => inner.observer.counters.misses.add(1),
        (Ok(_), Role::Joined(JoinBound::Exceeded), _) => found(inner, key, AnsweredBy::Unverified),
        (Ok(_), Role::Leads, by) | (Ok(_), _, by @ (AnsweredBy::Unverified | AnsweredBy::Backoff)) => {
            found(inner, key, by);
        }
        (Ok(_), Role::Joined(JoinBound::Within), _) => inner.observer.counters.coalesced_waits.add(1),
    }
}

/// Counts a lookup by where its answer was found.
pub(crate) fn found<V: Send + Sync + 'static>(inner: &Inner<V>, key: &[u8], by: AnsweredBy) {
    match by {
        AnsweredBy::L1 => inner.local.hits.increment(),
        AnsweredBy::L2 | AnsweredBy::OtherNode => inner.observer.counters.l2_hits.add(1),
        AnsweredBy::Load => inner.observer.counters.misses.add(1),
        AnsweredBy::Backoff => inner.observer.stale_served(key, StaleCause::Backoff),
        AnsweredBy::Unverified => inner.observer.stale_served(key, StaleCause::Outage),
    }
}
