//! The progress of the lookup of one key: what the tiers have for the leader of its flight, what is therefore known,
//! and how its end is counted. Each lookup is counted once, by its result.

use crate::backend::{Accept, Entry, Tick};
use crate::error::{Error, ErrorKind, Result};
use crate::inner::Inner;
use crate::local::flight::{AnsweredBy, Flight};
use crate::local::l1::Probe;
use crate::local::lead::{JoinBound, Lead};
use crate::local::request::{Answer, CacheMode, FirstTier, Found, LookupRequest, Source};
use crate::lookup::stale::{Aged, aged, is_allowed, is_source_failure};
use crate::lookup::step::{Access, Action, InL1, InL2, Knowledge, Learnt, step};
use crate::observe::StaleCause;
use crate::options::OutagePolicy;
use crate::remote::read::{Fetched, fetch};

/// A new fact, with its entry or its error.
#[derive(Debug)]
pub(crate) struct Seen<V> {
    pub(crate) learnt: Learnt,
    pub(crate) entry: Option<Entry<V>>,
    pub(crate) error: Option<Error>,
}

impl<V> Seen<V> {
    pub(crate) fn bare(learnt: Learnt) -> Self {
        Self { learnt, entry: None, error: None }
    }

    pub(crate) fn of(learnt: Learnt, entry: Entry<V>) -> Self {
        Self { learnt, entry: Some(entry), error: None }
    }

    pub(crate) fn failed(learnt: Learnt, error: Error) -> Self {
        Self { learnt, entry: None, error: Some(error) }
    }
}

/// The knowledge by which [`step`] decides, with the entries that belong to it.
pub(crate) struct Progress<V> {
    known: Knowledge,
    /// The entry of L1 that has not expired and that nothing verifies.
    pub(crate) held: Option<Entry<V>>,
    /// The entry of the last fact.
    entry: Option<Entry<V>>,
    error: Option<Error>,
    /// The error of an earlier load that takes the place of a load.
    recalled: Option<Error>,
}

impl<V: Send + Sync + 'static> Progress<V> {
    /// Begins a lookup. `skips_read` says whether L2 is asked for the lease without a read before.
    pub(crate) fn begin(
        inner: &Inner<V>,
        request: &LookupRequest,
        wants_previous: bool,
        skips_read: bool,
    ) -> Self {
        let known = Knowledge {
            reloads: request.mode == CacheMode::Reload,
            wants_previous,
            skips_read,
            recalls: !request.options.load.error_ttl.is_zero(),
            fails_in_outage: inner.policy.outage == OutagePolicy::Fail,
            waited: false,
            l2: Access::Missing,
            accept: Accept::Any,
        };
        Self { known, held: None, entry: None, error: None, recalled: None }
    }

    /// Notes a new fact, and decides the next action.
    pub(crate) fn learn(&mut self, inner: &Inner<V>, lead: &Lead<V>, seen: Seen<V>) -> Action {
        self.known.l2 = match &inner.remote {
            None => Access::Missing,
            Some(_) if inner.local.liveness.is_unsent(lead.key().as_bytes()) => Access::Unsent,
            Some(_) => Access::Open,
        };
        if let Learnt::L1(InL1::Unverified(_)) = seen.learnt {
            self.held.clone_from(&seen.entry);
        }
        (self.entry, self.error) = (seen.entry, seen.error);
        // Asked each time, because a change may have come meanwhile. Once there is none, the lookup may ask for a
        // lease, and must not end with an error that was noted later.
        if self.known.recalls {
            self.recalled = lead.recalled();
            self.known.recalls = self.recalled.is_some();
        }
        step(&mut self.known, seen.learnt)
    }

    /// The entry that answers.
    pub(crate) fn answer(&self) -> Option<&Entry<V>> {
        self.entry.as_ref()
    }

    /// Ends a flight that needs no load, by performing `action`.
    pub(crate) fn end(self, inner: &Inner<V>, lead: Lead<V>, action: Action) -> End<V> {
        match (action, self.entry) {
            (Action::Answer(by), Some(entry)) => {
                let found = Found::copied(&entry, by.source());
                lead.found(entry, by);
                Ok((found, by))
            }
            (Action::Fail, _) => {
                let error = self.error.unwrap_or_else(|| failed_elsewhere(inner));
                land(lead, Err(error.clone()), None);
                Err(error)
            }
            (Action::FailAgain, _) => {
                let error = self.recalled.unwrap_or_else(|| failed_elsewhere(inner));
                lead.land(Err(error.clone()), None);
                Err(error)
            }
            _ => {
                let error = failed_elsewhere(inner);
                land(lead, Err(error.clone()), None);
                Err(error)
            }
        }
    }
}

/// The answer of a lookup and how it is counted, or the error.
pub(crate) type End<V> = Result<(Found<V>, AnsweredBy), Error>;

/// Ends a flight. If the source failed, the next attempt must wait a while.
pub(crate) fn land<V: Send + Sync + 'static>(
    lead: Lead<V>,
    outcome: Result<Answer<V>, Error>,
    entry: Option<Entry<V>>,
) {
    if outcome.as_ref().is_err_and(is_source_failure) {
        lead.postpone(lead.request.options.load.error_backoff);
    }
    lead.land(outcome, entry);
}

/// Ends a flight whose load has ended. The load reflects every change up to `loaded_at`.
pub(crate) fn land_load<V: Send + Sync + 'static>(
    lead: Lead<V>,
    loaded_at: u64,
    outcome: Result<Answer<V>, Error>,
    entry: Option<Entry<V>>,
) {
    if let Err(error) = &outcome
        && is_source_failure(error)
    {
        lead.remember(error, loaded_at);
    }
    land(lead, outcome, entry);
}

fn failed_elsewhere<V: 'static>(inner: &Inner<V>) -> Error {
    inner.observer.error(ErrorKind::Loader, "another node failed to load this key, or takes too long")
}

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
            if request.is_answered_by(&entry)
                && !inner.local.liveness.unsent_of(request.key.as_bytes()).voids(&entry) =>
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
    let asked = inner.local.now();
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
        && matches!(aged(&entry.life, &request.options, inner.local.now(), || 1.0), Aged::Serve(_))
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
        && aged(&entry.life, &request.options, inner.local.now(), || 1.0 - fastrand::f64()) == Aged::Refresh
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

/// The part of a caller in a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Leads,
    Joined(JoinBound),
}

/// The source of the answer of a flight, for one of its callers.
pub(crate) fn source_of<V>(flight: &Flight<V>, role: Role) -> Source {
    match (role, flight.answered_by().source()) {
        (Role::Leads, source) => source,
        (Role::Joined(JoinBound::Exceeded), _) | (_, Source::Stale) => Source::Stale,
        (Role::Joined(JoinBound::Within), _) => Source::Wait,
    }
}

/// Counts a lookup whose flight has ended. It is counted once, by its result.
pub(crate) fn count_landed<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &[u8],
    flight: &Flight<V>,
    role: Role,
    outcome: &Result<Answer<V>>,
) {
    match (outcome, role, flight.answered_by()) {
        (Err(_), ..) => inner.observer.counters.misses.add(1),
        (Ok(_), Role::Joined(JoinBound::Exceeded), _) => count_found(inner, key, AnsweredBy::Unverified),
        (Ok(_), Role::Leads, by) | (Ok(_), _, by @ (AnsweredBy::Unverified | AnsweredBy::Backoff)) => {
            count_found(inner, key, by);
        }
        (Ok(_), Role::Joined(JoinBound::Within), _) => inner.observer.counters.coalesced_waits.add(1),
    }
}

/// Counts a lookup by where its answer was found.
pub(crate) fn count_found<V: Send + Sync + 'static>(inner: &Inner<V>, key: &[u8], by: AnsweredBy) {
    match by {
        AnsweredBy::L1 => inner.local.hits.increment(),
        AnsweredBy::L2 | AnsweredBy::OtherNode => inner.observer.counters.l2_hits.add(1),
        AnsweredBy::Load => inner.observer.counters.misses.add(1),
        AnsweredBy::Backoff => inner.observer.stale_served(key, StaleCause::Backoff),
        AnsweredBy::Unverified => inner.observer.stale_served(key, StaleCause::Outage),
    }
}
