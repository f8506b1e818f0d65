//! The journey of one lookup.
//!
//! 1. [`probe`]: L1, if the node's serving lease is live. A hit ends here, synchronously.
//! 2. [`flight`]: one caller per key leads, the others wait for what it finds.
//! 3. [`fetch`]: the leader reads L2.
//! 4. [`lease`]: L2 has nothing: one node of the fleet gets the lease, the others wait.
//! 5. [`load`]: the loader runs, in a task of its own, under a deadline.
//! 6. [`fill`]: the value goes to L2, then to L1, unless an invalidation has met it.

mod fetch;
mod fill;
mod flight;
pub(crate) mod guard;
mod lease;
mod load;
mod many;
mod probe;
mod reentry;

use std::sync::Arc;

use crate::backend::Entry;
use crate::coherence::{Mutant, Stamp};
use crate::error::{ErrorKind, Result};
use crate::key::Key;
use crate::options::EntryOptions;
use crate::resilience::{Recourse, recourse};
use crate::shared::Shared;
use fetch::{Fetched, Trust};
pub(crate) use flight::Flight;
use flight::{Entered, Landed, Lead};
pub(crate) use load::{BoxLoader, box_loader, box_optional_loader};
pub(crate) use probe::Probe;

/// A value, or a known absence.
pub(crate) type Answer<V> = Option<Arc<V>>;

/// What a lookup with a loader wants, besides the key.
pub(crate) struct Plan<V> {
    pub(crate) want: Want,
    pub(crate) reuse: Reuse,
    pub(crate) options: EntryOptions,
    pub(crate) loader: BoxLoader<V>,
}

/// Whether a cached absence answers the lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Value,
    ValueOrAbsence,
}

impl Want {
    pub(crate) fn accepts<V>(self, answer: &Answer<V>) -> bool {
        self == Self::ValueOrAbsence || answer.is_some()
    }
}

/// Whether what is cached answers the lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    Cached,
    /// Load whatever is cached, and let every node know of the new value.
    Nothing,
}

/// How far the leader goes for a value that was not found.
pub(crate) enum Route<V> {
    /// Over the lease. Holds what L1 has, unverified.
    Fleet(Trust, Option<Entry<V>>),
    /// Without the shared tier: there is none, or it must not or cannot be asked.
    Alone,
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// A lookup without a loader, after the probe has missed.
    pub(crate) async fn get(&self, key: &Key, need: Option<&Stamp>) -> Result<Answer<V>> {
        self.check(need)?;
        let unreachable = match self.fetch_unless_pending(key, need, self.ticket(key)).await {
            Fetched::Found(entry, ticket) => {
                self.counters.l2_hits.add(1);
                self.admit(key, ticket, entry.clone(), self.defaults.l1_ttl);
                return Ok(entry.value);
            }
            Fetched::Absent(_) => {
                self.counters.misses.add(1);
                return Ok(None);
            }
            Fetched::Unreachable(error) => error,
        };
        match recourse(self, key.as_bytes(), self.held(key.as_bytes()), unreachable) {
            Recourse::Serve(entry) => {
                self.counters.stale_served.add(1);
                Ok(entry.value)
            }
            Recourse::Load(error) | Recourse::Fail(error) => Err(error),
        }
    }

    /// A lookup with a loader, after the probe has missed.
    pub(crate) async fn get_or_load(
        self: &Arc<Self>,
        key: &Key,
        need: Option<&Stamp>,
        mut plan: Plan<V>,
    ) -> Result<Answer<V>> {
        self.check(need)?;
        plan.options.validate().map_err(|error| error.in_namespace(&self.namespace))?;
        reentry::check(self, key)?;
        loop {
            let flight = match self.enter(key, need, plan.reuse, plan.options.l1_ttl) {
                Entered::Lead(lead) => return self.lead(lead, need, plan).await,
                Entered::Join(flight) => flight,
            };
            match flight.landed().await {
                Landed::Answer(Ok(answer)) if !plan.want.accepts(&answer) => plan.reuse = Reuse::Nothing,
                Landed::Answer(outcome) => {
                    self.counters.coalesced_waits.add(1);
                    return outcome;
                }
                // The leader was cancelled before it began to load: someone else must lead.
                Landed::Abandoned => self.check_open()?,
            }
        }
    }

    async fn lead(self: &Arc<Self>, lead: Lead<V>, need: Option<&Stamp>, plan: Plan<V>) -> Result<Answer<V>> {
        let route = match self.find(&lead, need, plan.want, plan.reuse).await {
            Ok(Found::Answer(entry, admissible)) => {
                let answer = entry.value.clone();
                lead.land(Ok(answer.clone()), admissible.then_some(entry));
                return Ok(answer);
            }
            Ok(Found::Nothing(route)) => route,
            Err(error) => {
                lead.land(Err(error.clone()), None);
                return Err(error);
            }
        };
        let flight = lead.flight();
        load::spawn(self, lead, plan, route);
        match flight.landed().await {
            Landed::Answer(outcome) => outcome,
            Landed::Abandoned => Err(self.error(ErrorKind::Shutdown, "the load ended with the runtime")),
        }
    }

    /// What the tiers have for the leader.
    async fn find(&self, lead: &Lead<V>, need: Option<&Stamp>, want: Want, reuse: Reuse) -> Result<Found<V>> {
        if reuse == Reuse::Nothing {
            return Ok(Found::Nothing(self.route(&lead.key, Trust::Nothing, None)));
        }
        // Between this caller's probe and its lead, another flight may have landed.
        let held = match self.probe(lead.key.as_bytes(), need) {
            Probe::Hit(entry) if want.accepts(&entry.value) => {
                self.counters.l1_hits.increment();
                return Ok(Found::Answer(entry, false));
            }
            Probe::Hit(_) => return Ok(Found::Nothing(self.route(&lead.key, Trust::Nothing, None))),
            // Its token is worth a question that needs no payload for an answer: ask with the lease.
            Probe::Unverified(entry) if want.accepts(&entry.value) => Some(entry),
            Probe::Unverified(_) | Probe::Miss => None,
        };
        if held.is_some() {
            return Ok(Found::Nothing(self.route(&lead.key, Trust::Stored, held)));
        }
        match self.fetch_unless_pending(&lead.key, need, lead.ticket).await {
            Fetched::Found(entry, _) if want.accepts(&entry.value) => {
                self.counters.l2_hits.add(1);
                Ok(Found::Answer(entry, true))
            }
            Fetched::Found(..) => Ok(Found::Nothing(self.route(&lead.key, Trust::Nothing, None))),
            Fetched::Absent(trust) => Ok(Found::Nothing(self.route(&lead.key, trust, None))),
            Fetched::Unreachable(error) => match recourse(self, lead.key.as_bytes(), None, error) {
                Recourse::Fail(error) => Err(error),
                Recourse::Serve(_) | Recourse::Load(_) => Ok(Found::Nothing(Route::Alone)),
            },
        }
    }

    fn route(&self, key: &Key, trust: Trust, held: Option<Entry<V>>) -> Route<V> {
        if self.l2.is_none()
            || (self.pending.covers(key.as_bytes()) && !self.switch.is(Mutant::ReadPastPending))
        {
            Route::Alone
        } else {
            Route::Fleet(trust, held)
        }
    }

    fn check(&self, need: Option<&Stamp>) -> Result<()> {
        self.check_open()?;
        match need {
            Some(stamp) if stamp.namespace() != &*self.namespace => {
                Err(crate::coherence::foreign_stamp(stamp.namespace(), &self.namespace))
            }
            _ => Ok(()),
        }
    }
}

enum Found<V> {
    /// An entry that answers, and whether it is new to L1.
    Answer(Entry<V>, bool),
    Nothing(Route<V>),
}
