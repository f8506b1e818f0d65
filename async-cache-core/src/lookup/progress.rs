//! The progress of the lookup of one key.

use crate::backend::{Accept, Entry};
use crate::error::{Error, ErrorKind};
use crate::inner::Inner;
use crate::local::flight::AnsweredBy;
use crate::local::lead::Lead;
use crate::local::request::{Answer, CacheMode, Found, LookupRequest};
use crate::lookup::stale::is_source_failure;
use crate::lookup::step::{Access, Action, InL1, Knowledge, Learnt, step};
use crate::options::OutagePolicy;

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
