//! Single-flight: lead or wait in this process.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Entry, Tick};
use crate::error::Result;
use crate::faults::mutant::Mutant;
use crate::faults::planted;
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::inner::Shared;
use crate::liveness::partition::Partition;
use crate::liveness::stamp::Stamp;
use crate::local::approach::{Answer, Approach, Joins, Reuse, Want};
use crate::local::stripes::{Admitted, Enter, Ticket};
use crate::lookup::stale::Fallback;
use crate::options::Outage;
use crate::sync::{AtomicU64, Notify, OnceLock, Ordering};

/// One lookup under way, and everyone who waits for it.
pub(crate) struct Flight<V> {
    pub(crate) reuse: Reuse,
    /// Whether an absence answers whoever leads it.
    pub(crate) want: Want,
    pub(crate) started: Tick,
    /// When its leader must have ended it, or gone on to its next step. After that nobody joins it.
    due: AtomicU64,
    pub(crate) generation: u64,
    /// What its leader insisted on. Kept apart from `seq`: it comes from outside, and a number
    /// nobody ever handed out must not make the flight immune to invalidations.
    pub(crate) need: u64,
    /// The most that anyone insists on who waits for it.
    insisted: AtomicU64,
    /// Every change up to this one is reflected in the result.
    seq: AtomicU64,
    /// What the value is a value of; set before the end, if it has tags.
    source: OnceLock<Source>,
    landed: OnceLock<Landed<V>>,
    answered_by: OnceLock<AnsweredBy>,
    /// A stale value found on the way.
    fallback: OnceLock<Fallback<V>>,
    /// It ended without a load here, because one elsewhere came to nothing.
    elsewhere: OnceLock<Elsewhere>,
    /// One of the two above has come.
    news: Notify,
}

/// The tags of a value, and the number up to which it reflects every change.
#[derive(Debug)]
struct Source {
    seq: u64,
    tags: Tags,
}

/// Where a flight's value was found: what its leader is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnsweredBy {
    /// L1 had it after all: another flight had landed between this caller's probe and its lead.
    L1,
    /// L2 had it.
    L2,
    /// It was loaded.
    Load,
    /// L2 had it, expired, and refreshing it has failed here a moment ago.
    Backoff,
    /// L1 held it, and nothing verifies it: the policy for outages makes do with that.
    Unverified,
}

/// What there is where a load elsewhere came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// The fallback, which held at that moment: those who had joined may have it.
    FallbackHeld,
    /// Nothing: nobody waited when the flight began. Who has joined it since loads.
    NothingHeld,
}

/// How a flight ended.
#[derive(Debug)]
pub(crate) enum Landed<V> {
    Answer(Result<Answer<V>>),
    /// Its leader went away before anything was loaded.
    Abandoned,
}

impl<V> Clone for Landed<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Answer(outcome) => Self::Answer(outcome.clone()),
            Self::Abandoned => Self::Abandoned,
        }
    }
}

impl<V> Flight<V> {
    pub(crate) fn new(approach: Approach, started: Tick, ticket: Ticket, need: u64) -> Self {
        let Approach { reuse, want, limit, .. } = approach;
        Self {
            reuse,
            want,
            started,
            due: AtomicU64::new(started.after(limit).0),
            generation: ticket.generation,
            need,
            insisted: AtomicU64::new(need),
            seq: AtomicU64::new(ticket.seq),
            source: OnceLock::new(),
            landed: OnceLock::new(),
            answered_by: OnceLock::new(),
            fallback: OnceLock::new(),
            elsewhere: OnceLock::new(),
            news: Notify::new(),
        }
    }

    pub(crate) fn due(&self) -> Tick {
        Tick(self.due.load(Ordering::Acquire))
    }

    pub(crate) fn seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }

    /// The lease was granted at this number: what is loaded from now on reflects it.
    pub(crate) fn granted(&self, seq: u64) {
        self.seq.fetch_max(seq, Ordering::AcqRel);
    }

    /// Notes where the value comes from. The first word counts: what is stored may be sealed with
    /// a later number than it was loaded at.
    pub(crate) fn came_from(&self, seq: u64, tags: &Tags) {
        if !tags.is_empty() {
            let _ = self.source.set(Source { seq, tags: tags.clone() });
        }
    }

    /// Notes where the value was found; before the end.
    pub(crate) fn found_by(&self, by: AnsweredBy) {
        let _ = self.answered_by.set(by);
    }

    pub(crate) fn answered_by(&self) -> AnsweredBy {
        self.answered_by.get().copied().unwrap_or(AnsweredBy::Load)
    }

    /// Whether the value is too old for a caller who joined when `known` was the last tag change.
    ///
    /// While a load runs nobody knows its tags, so that an invalidation of one cannot make the
    /// node forget the flight:
    ///
    /// 1. a load begins, and reads version 1;
    /// 2. version 2 is committed, and its tag invalidated: change 7;
    /// 3. a get starts here, and joins the load; 4. the load ends: its value has the tag.
    ///
    /// The value is of before 7, and 7 is not newer than the last tag change known at 3: the get
    /// asks again. Those who joined before 2 may have the value. Which of two changes of one tag
    /// came before 3 is not known; then the get asks once more than it need.
    ///
    /// While it flies it has given nothing: what the caller has got then is a stand-in, which has been
    /// held against its own tags, and asking again would find the same flight and the same stand-in.
    pub(crate) fn too_old_since(&self, known: u64, partition: &Partition) -> bool {
        self.landed.get().is_some()
            && self
                .source
                .get()
                .is_some_and(|Source { seq, tags }| *seq < known && partition.voids_by_tag(tags, *seq))
    }

    /// How it ended, if it has.
    pub(crate) fn has_landed(&self) -> Option<Landed<V>> {
        self.landed.get().cloned()
    }

    /// Waits for the end.
    #[cfg(all(test, shuttle))]
    pub(crate) async fn landed(&self) -> Landed<V> {
        self.until(|| self.has_landed()).await
    }

    /// Waits until there is something to be seen, and looks again whenever there is news.
    pub(crate) async fn until<T>(&self, look: impl Fn() -> Option<T>) -> T {
        loop {
            if planted!(LookBeforeRegistering) {
                if let Some(seen) = look() {
                    return seen;
                }
                self.news.notified().await;
                continue;
            }
            // Registered before the look, so that news between the look and the wait are not missed.
            let mut news = pin!(self.news.notified());
            news.as_mut().enable();
            if let Some(seen) = look() {
                return seen;
            }
            news.await;
        }
    }

    /// Puts a stale value at the hand of those who wait.
    pub(crate) fn offer(&self, fallback: Fallback<V>) {
        if self.fallback.set(fallback).is_ok() {
            self.news.notify_waiters();
        }
    }

    pub(crate) fn fallback(&self) -> Option<&Fallback<V>> {
        self.fallback.get()
    }

    /// It ends because a load elsewhere came to nothing.
    pub(crate) fn came_to_nothing(&self, elsewhere: Elsewhere) {
        let _ = self.elsewhere.set(elsewhere);
    }

    /// Whether it ended because a load elsewhere came to nothing, and with what.
    pub(crate) fn elsewhere(&self) -> Option<Elsewhere> {
        self.elsewhere.get().copied()
    }

    fn end(&self, landed: Landed<V>) {
        if self.landed.set(landed).is_ok() {
            self.news.notify_waiters();
        }
    }
}

impl<V> fmt::Debug for Flight<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight")
            .field("started", &self.started)
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

pub(crate) enum Entered<V: 'static> {
    Lead(Lead<V>),
    Join(Arc<Flight<V>>, Hearing),
}

/// Whether this node would have been told to forget the flight that it leads or joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hearing {
    /// It would, or the flight is younger than the bound.
    Heard,
    /// It may not, and the policy for outages makes do with that.
    Unheard,
}

/// The duty to end a flight. Dropped without that, the flight is abandoned and somebody else
/// leads: a leader that is cancelled strands nobody.
pub(crate) struct Lead<V: 'static> {
    pub(crate) key: Key,
    pub(crate) ticket: Ticket,
    /// Cap on the life in L1 of what it ends with.
    pub(crate) l1_ttl: Option<Duration>,
    shared: Arc<Shared<V>>,
    flight: Arc<Flight<V>>,
}

impl<V: 'static> Lead<V> {
    pub(crate) fn flight(&self) -> Arc<Flight<V>> {
        Arc::clone(&self.flight)
    }

    /// Notes that the flight goes on to its next step, which may take so long.
    pub(crate) fn goes_on(&self, limit: Duration) {
        let due = self.shared.node.clock.now().after(limit);
        self.flight.due.fetch_max(due.0, Ordering::AcqRel);
    }

    /// Gives L1 and those who wait a stale value found on the way.
    pub(crate) fn found_stale(&self, entry: Entry<V>, confirmed: Tick) {
        let reflects = self.ticket.seq.max(entry.seq).max(self.flight.need);
        self.flight.offer(Fallback { entry, ticket: self.ticket, confirmed, reflects });
    }

    /// Whether an unverified entry answers everyone who waits. Nobody joins any more once it is asked:
    ///
    /// 1. an entry is found new enough; 2. a get joins that insists on more; 3. the entry answers both.
    pub(crate) fn suffices(&self, entry: &Entry<V>) -> bool {
        self.shared.fence.land(&self.key, &self.flight, None);
        entry.seq >= self.flight.insisted.load(Ordering::Acquire)
    }

    /// Notes that refreshing has failed: the next attempt waits a while.
    pub(crate) fn postpone(&self, backoff: Duration) {
        let now = self.shared.node.clock.now();
        self.shared.fence.postpone(self.shared.l1(), &self.key, (now, now.after(backoff)));
    }

    /// Ends the flight with what a tier had. What was not in L1 is offered to it.
    pub(crate) fn found(self, entry: Entry<V>, by: AnsweredBy) {
        self.flight.found_by(by);
        self.flight.came_from(entry.seq, &entry.tags);
        let offer = (by != AnsweredBy::L1).then(|| entry.clone());
        self.land(Ok(entry.value), offer);
    }

    /// Ends the flight: L1 first, then those who wait.
    pub(crate) fn land(self, outcome: Result<Answer<V>>, entry: Option<Entry<V>>) {
        let shared = &*self.shared;
        let (_, partition) = shared.node.partition_of(self.key.as_bytes());
        if let Some(entry) = &entry {
            self.flight.came_from(entry.seq, &entry.tags);
        }
        if outcome.is_ok() && self.flight.answered_by() == AnsweredBy::Load {
            shared.fence.loaded(self.key.as_bytes());
        }
        let offer = entry.and_then(|entry| {
            shared.l1().map(|l1| (l1, partition, self.ticket, shared.capped(entry, self.l1_ttl)))
        });
        if shared.fence.land(&self.key, &self.flight, offer) == Some(Admitted::Rejected) {
            shared.rejected(&self.key);
        }
        self.flight.end(Landed::Answer(outcome));
    }
}

impl<V: 'static> Drop for Lead<V> {
    fn drop(&mut self) {
        if planted!(StrandWaiters) {
            return;
        }
        if self.flight.landed.get().is_none() {
            self.shared.fence.land(&self.key, &self.flight, None);
            self.flight.end(Landed::Abandoned);
        }
    }
}

impl<V: 'static> Shared<V> {
    /// Leads a new flight for the key, or joins the one under way.
    pub(crate) fn enter(self: &Arc<Self>, key: &Key, need: Option<&Stamp>, approach: Approach) -> Entered<V> {
        let (index, partition) = self.node.partition_of(key.as_bytes());
        let need = need.map_or(0, |stamp| stamp.seq(index));
        let now = self.node.clock.now();
        let mut hearing = Hearing::Heard;
        let entered = self.fence.enter(key, partition, (approach, now, need), |flight| {
            let recent = partition.serving_at(now) || now <= flight.started.after(self.node.max_staleness);
            if !recent {
                hearing = Hearing::Unheard;
            }
            // Led by a caller without a stamp it may end with a plain read, which shows no number.
            let insists = need == 0 || flight.need > 0 || self.switch.is(Mutant::ForgetNumbers);
            let joinable = insists
                && flight.seq().max(flight.need) >= need
                && (approach.joins == Joins::Any || flight.want == Want::Value)
                && (now <= flight.due() || self.switch.is(Mutant::WaitWithoutDeadline))
                && (recent || self.may_join_unheard());
            if joinable {
                flight.insisted.fetch_max(need, Ordering::AcqRel);
            }
            joinable
        });
        match entered {
            Enter::Join(flight) => Entered::Join(flight, hearing),
            Enter::Lead(flight, ticket) => Entered::Lead(Lead {
                key: key.clone(),
                ticket,
                l1_ttl: approach.l1_ttl,
                shared: Arc::clone(self),
                flight,
            }),
        }
    }

    /// Whether to join a flight older than `max_staleness` although the bus may be silent, so that
    /// nobody would have told this node to forget it. A younger one reflects every change that was
    /// complete that long ago, which is what is promised. Only a policy that suspends the bound in an
    /// outage lets older ones be joined; what they bring is served as unverified.
    fn may_join_unheard(&self) -> bool {
        let outage = self.l2.as_ref().is_some_and(|l2| !l2.region.available());
        (outage && self.outage == Outage::ServeL1) || self.switch.is(Mutant::JoinWhileSuspended)
    }
}
