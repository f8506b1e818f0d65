//! The leader of a flight has the duty to end it.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Entry, Tick};
use crate::error::{Error, ErrorKind, Result};
use crate::faults::mutant::Mutant;
use crate::faults::planted;
use crate::format::key::Key;
use crate::local::flight::{AnsweredBy, Fallback, Flight, Landed, Ticket};
use crate::local::l1::L1;
use crate::local::request::{Answer, CacheMode, LookupRequest};
use crate::local::stripe::{Admitted, FailedLoad};
use crate::local::stripes::Enter;
use crate::options::OutagePolicy;
use crate::sync::Ordering;

pub(crate) enum Entered<V: 'static> {
    Lead(Lead<V>),
    Join(Arc<Flight<V>>, JoinBound),
}

/// Whether a change would have removed the flight. It cannot if the bus was silent and this node has missed
/// the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinBound {
    /// It would have, or the flight is younger than `max_staleness`.
    Within,
    /// Perhaps it would not have. The outage policy accepts that.
    Exceeded,
}

/// The duty to end a flight. If this value is dropped before the flight has ended, the flight counts as
/// abandoned, and a joined caller leads the next one. So a cancelled leader leaves nobody waiting. If the task of
/// the load panics, everyone gets an error.
pub(crate) struct Lead<V: 'static> {
    pub(crate) request: Arc<LookupRequest>,
    pub(crate) ticket: Ticket,
    /// The longest time that L1 may use the result without asking L2.
    pub(crate) l1_ttl: Option<Duration>,
    pub(crate) l1: Arc<L1<V>>,
    pub(crate) flight: Arc<Flight<V>>,
}

impl<V: 'static> Lead<V> {
    pub(crate) fn key(&self) -> &Key {
        &self.request.key
    }

    pub(crate) fn flight(&self) -> Arc<Flight<V>> {
        Arc::clone(&self.flight)
    }

    /// Notes that the flight begins its next step, which may take up to `limit`.
    pub(crate) fn goes_on(&self, limit: Duration) {
        let due = self.l1.now().after(limit);
        self.flight.due.fetch_max(due.0, Ordering::AcqRel);
    }

    /// Offers the callers of the flight a fallback that the leader has found.
    pub(crate) fn found_stale(&self, entry: Entry<V>, confirmed: Tick) {
        // An entry that a change has expired does not reflect that change.
        let reflects = match entry.life.by_change {
            true => entry.seq,
            false => self.ticket.seq.max(entry.seq).max(self.flight.min_seq),
        };
        self.flight.offer(Fallback { entry, ticket: self.ticket, confirmed, reflects });
    }

    /// Whether an unverified entry is new enough for all callers of the flight. From this question on no
    /// caller joins the flight. Otherwise:
    ///
    /// 1. An entry is found new enough; 2. a get with a later stamp joins; 3. the entry answers both.
    pub(crate) fn suffices(&self, entry: &Entry<V>) -> bool {
        self.l1.stripes.land(self.key(), &self.flight, false, None);
        entry.seq >= self.flight.max_min_seq.load(Ordering::Acquire)
    }

    /// Notes that the refresh has failed. The next attempt must wait for `backoff`.
    pub(crate) fn postpone(&self, backoff: Duration) {
        let now = self.l1.now();
        self.l1.stripes.postpone(self.l1.engine(), self.key(), now, now.after(backoff));
    }

    /// Remembers the error of the load, for lookups with `error_ttl`. The load reflected every change up to `seq`. A
    /// change of the key since then has removed the flight, so the error is not remembered:
    ///
    /// 1. a load begins; 2. the key is invalidated; 3. the load fails; 4. a get starts. It must not get the error.
    pub(crate) fn remember(&self, error: &Error, seq: u64) {
        let error_ttl = self.request.options.load.error_ttl;
        if error_ttl.is_zero() {
            return;
        }
        let (now, generation) = (self.l1.now(), self.ticket.generation);
        let failed =
            FailedLoad { error: error.clone(), failed: now, until: now.after(error_ttl), generation, seq };
        let mut stripe = self.l1.stripes.stripe(self.key().as_bytes()).lock();
        let current = stripe.flights.get(self.key().as_bytes());
        if current.is_some_and(|current| Arc::ptr_eq(current, &self.flight)) {
            stripe.failed.note(self.key(), now, failed);
        }
    }

    /// The error with which the flight ends in place of a load.
    pub(crate) fn recalled(&self) -> Option<Error> {
        if self.flight.recalls { recalled(&self.l1, &self.request) } else { None }
    }

    /// Ends the flight with the entry of a tier. If it did not come from L1, L1 is offered it.
    pub(crate) fn found(self, entry: Entry<V>, by: AnsweredBy) {
        self.flight.found_by(by);
        self.flight.born_at(entry.life.born());
        self.flight.came_from(entry.seq, &entry.tags);
        let offer = (!matches!(by, AnsweredBy::L1 | AnsweredBy::Unverified)).then(|| entry.clone());
        self.land(Ok(entry.value), offer);
    }

    /// Ends the flight. L1 gets the value first, then the callers.
    pub(crate) fn land(self, outcome: Result<Answer<V>>, entry: Option<Entry<V>>) {
        let l1 = &*self.l1;
        let (_, partition) = l1.partition_of(self.key().as_bytes());
        if let Some(entry) = &entry {
            self.flight.born_at(entry.life.born());
            self.flight.came_from(entry.seq, &entry.tags);
        }
        let loaded = outcome.is_ok() && self.flight.answered_by() == AnsweredBy::Load;
        let offer = entry.and_then(|entry| {
            l1.engine().map(|engine| (engine, partition, self.ticket, l1.capped(entry, self.l1_ttl)))
        });
        if l1.stripes.land(self.key(), &self.flight, loaded, offer) == Some(Admitted::Rejected) {
            l1.observer.fill_rejected(self.key().as_bytes());
        }
        self.flight.end(Landed::Answer(outcome));
    }
}

impl<V: 'static> Drop for Lead<V> {
    fn drop(&mut self) {
        if planted!(StrandWaiters) {
            return;
        }
        if self.flight.landed.get().is_some() {
            return;
        }
        self.l1.stripes.land(self.key(), &self.flight, false, None);
        let landed = match std::thread::panicking() && self.flight.has_loaded() {
            true => Landed::Answer(Err(self.l1.observer.error(
                ErrorKind::LoaderPanicked,
                "something that the loader left behind panicked when it was dropped",
            ))),
            false => Landed::Abandoned,
        };
        self.flight.end(landed);
    }
}

/// Leads a new flight for the request, or joins the current one of its key. A flight that this caller leads may
/// take up to `limit`. `needs_value` is true if the caller has already joined a flight that ended with an
/// absence: then it joins only a flight that ends with a value or an error.
pub(crate) fn enter<V: 'static>(
    l1: &Arc<L1<V>>,
    request: &Arc<LookupRequest>,
    limit: Duration,
    needs_value: bool,
) -> Entered<V> {
    let (index, partition) = l1.partition_of(request.key.as_bytes());
    let min_seq = request.min_seq(index);
    let now = l1.now();
    let recalls = recalled(l1, request).is_some();
    let mut bound = JoinBound::Within;
    let joinable = |flight: &Flight<V>| {
        let recent = partition.serving_at(now) || now <= flight.started.after(l1.liveness.node.max_staleness);
        if !recent {
            bound = JoinBound::Exceeded;
        }
        // If the leader has no stamp, the flight may end with a plain read, which shows no sequence.
        let insists = min_seq == 0 || flight.min_seq > 0 || l1.faults.is(Mutant::ForgetNumbers);
        let joinable = insists
            && flight.seq().max(flight.min_seq) >= min_seq
            && !(needs_value && flight.absent_ok)
            && flight.begins_at(request.first_tier)
            && (!flight.recalls || recalls)
            && (now <= flight.due() || l1.faults.is(Mutant::WaitWithoutDeadline))
            && (recent || may_join_unheard(l1));
        if joinable {
            flight.max_min_seq.fetch_max(min_seq, Ordering::AcqRel);
        }
        joinable
    };
    let begin = |ticket| Flight::new(request, ticket, min_seq, now, limit).recalling(recalls);
    match l1.stripes.enter(request, partition, joinable, begin) {
        Enter::Join(flight) => Entered::Join(flight, bound),
        Enter::Lead(flight, ticket) => Entered::Lead(Lead {
            request: Arc::clone(request),
            ticket,
            l1_ttl: request.options.store.l1_ttl,
            l1: Arc::clone(l1),
            flight,
        }),
    }
}

/// The error of the last load of the key on this node, if it answers the request. It does not if a change may have
/// voided it, or if the stamp of the request requires a change that it does not reflect. The tags of a value that was
/// not loaded are unknown, so the change of any tag voids it.
fn recalled<V: 'static>(l1: &L1<V>, request: &LookupRequest) -> Option<Error> {
    let error_ttl = request.options.load.error_ttl;
    if error_ttl.is_zero() || request.mode == CacheMode::Reload {
        return None;
    }
    let (index, partition) = l1.partition_of(request.key.as_bytes());
    let (now, applied) = (l1.now(), partition.applied());
    let stripe = l1.stripes.stripe(request.key.as_bytes()).lock();
    let load = stripe.failed.of(request.key.as_bytes())?;
    let holds = now < load.until.min(load.failed.after(error_ttl))
        && load.generation == partition.generation()
        && partition.last_tag_change() <= load.seq
        && request.min_seq(index) <= load.seq.max(applied);
    holds.then(|| load.error.clone())
}

/// Whether a caller may join a flight that is older than `max_staleness`, although the bus may be silent. In
/// that case no message would have made this node remove the flight. A younger flight reflects every change
/// that was complete `max_staleness` ago, as promised. Older flights may be joined only in an outage, and
/// only if the policy accepts unverified answers. Their results count as unverified.
fn may_join_unheard<V: 'static>(l1: &L1<V>) -> bool {
    (l1.liveness.is_cut_off() && l1.outage == OutagePolicy::ServeL1)
        || l1.faults.is(Mutant::JoinWhileSuspended)
}
