//! Single-flight: one caller of this process leads the lookup of a key, the others wait for it.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use crate::backend::{Born, Entry, Tick};
use crate::error::Result;
use crate::faults::planted;
use crate::format::tags::Tags;
use crate::liveness::partition::Partition;
use crate::local::request::{Answer, CacheMode, FirstTier, LookupRequest, Source};
use crate::sync::{AtomicU64, Notify, OnceLock, Ordering};

/// One lookup of a key, and all callers that wait for it.
pub(crate) struct Flight<V> {
    pub(crate) mode: CacheMode,
    /// Whether an absence answers the leader.
    pub(crate) absent_ok: bool,
    /// Whether the leader has found the error of an earlier load, with which it may end.
    pub(crate) recalls: bool,
    /// The tier at which the leader began.
    pub(crate) first_tier: FirstTier,
    pub(crate) started: Tick,
    /// The time at which the leader must have ended the flight or begun its next step. After that time nobody
    /// joins the flight.
    pub(crate) due: AtomicU64,
    /// The time at which its loader began to run: 0 before, and `u64::MAX` after it has ended.
    loading: AtomicU64,
    pub(crate) generation: u64,
    /// The number that the stamp of the leader requires. It is kept apart from `seq`, because it comes from
    /// outside. A number that no change ever had must not protect the flight from invalidations.
    pub(crate) min_seq: u64,
    /// The highest number that the stamp of any caller requires.
    pub(crate) max_min_seq: AtomicU64,
    /// The result reflects every change up to this number.
    seq: AtomicU64,
    /// The origin of the value. It is set before the end of the flight, if the value has tags.
    origin: OnceLock<Origin>,
    pub(crate) landed: OnceLock<Landed<V>>,
    answered_by: OnceLock<AnsweredBy>,
    /// When its value was stored, if it is.
    born: OnceLock<Born>,
    /// A fallback that the leader has found.
    fallback: OnceLock<Fallback<V>>,
    /// Set if the flight ended without a load here, because a load on another node failed.
    elsewhere: OnceLock<Elsewhere>,
    /// Notifies the callers when the flight has ended or has a fallback.
    news: Notify,
}

/// The tags of a value, and the number up to which it reflects every change.
#[derive(Debug)]
struct Origin {
    seq: u64,
    tags: Tags,
}

/// Where the value of a flight was found. The leader's lookup is counted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnsweredBy {
    /// L1 had it after all. Another flight had ended after this caller's probe and before it led.
    L1,
    /// L2 had it.
    L2,
    /// L2 had it after a wait for a load on another node.
    OtherNode,
    /// It was loaded.
    Load,
    /// L2 had it, but expired. It answers because its refresh failed on this node a moment ago.
    Backoff,
    /// L1 held it, but nothing verified it. The outage policy accepts that.
    Unverified,
}

impl AnsweredBy {
    /// The source for the caller that led the flight.
    pub(crate) fn source(self) -> Source {
        match self {
            Self::L1 => Source::L1,
            Self::L2 => Source::L2,
            Self::OtherNode => Source::Wait,
            Self::Load => Source::Load,
            Self::Backoff | Self::Unverified => Source::Stale,
        }
    }
}

/// What the flight has after a load on another node failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// It has a fallback, which was valid at that moment. The joined callers may have it.
    FallbackHeld,
    /// It has nothing, because no caller waited when the flight began. Callers that have joined since must
    /// load the key themselves.
    NothingHeld,
}

/// How a flight ended.
#[derive(Debug)]
pub(crate) enum Landed<V> {
    Answer(Result<Answer<V>>),
    /// Its leader was dropped before anything was loaded.
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

/// What a stripe knew of changes when a read or load began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    pub(crate) local: u64,
    pub(crate) remote: u64,
    pub(crate) generation: u64,
    /// A value that is read from now on reflects every change up to this number.
    pub(crate) seq: u64,
    /// A value that is loaded from now on reflects every change up to this number.
    pub(crate) reached: u64,
    /// The highest number of a change of the stripe that this node knows to be executed.
    pub(crate) last_seq: u64,
}

impl Ticket {
    /// The ticket of a read whose value is not stored in L1, because there is no L1.
    pub(crate) const NONE: Self =
        Self { local: u64::MAX, remote: u64::MAX, generation: 0, seq: 0, reached: 0, last_seq: 0 };
}

/// A fallback that a flight has found, and the facts that decide whether it may still answer.
#[derive(Debug)]
pub(crate) struct Fallback<V> {
    pub(crate) entry: Entry<V>,
    /// The ticket that was taken before the fallback was read.
    pub(crate) ticket: Ticket,
    /// The time at which the question to L2 was sent that brought the fallback. It is `Tick(0)` if L1 had it.
    pub(crate) confirmed: Tick,
    /// The fallback reflects every change up to this number.
    pub(crate) reflects: u64,
}

impl<V> Flight<V> {
    /// A flight that has just begun, and that may take up to `limit`.
    pub(crate) fn new(
        request: &LookupRequest,
        ticket: Ticket,
        min_seq: u64,
        started: Tick,
        limit: Duration,
    ) -> Self {
        Self {
            mode: request.mode,
            absent_ok: request.absent_ok,
            recalls: false,
            first_tier: request.first_tier,
            started,
            due: AtomicU64::new(started.after(limit).0),
            loading: AtomicU64::new(0),
            generation: ticket.generation,
            min_seq,
            max_min_seq: AtomicU64::new(min_seq),
            seq: AtomicU64::new(ticket.seq),
            origin: OnceLock::new(),
            landed: OnceLock::new(),
            answered_by: OnceLock::new(),
            born: OnceLock::new(),
            fallback: OnceLock::new(),
            elsewhere: OnceLock::new(),
            news: Notify::new(),
        }
    }

    /// The flight, whose leader has found the error of an earlier load, or has not.
    pub(crate) fn recalling(self, recalls: bool) -> Self {
        Self { recalls, ..self }
    }

    /// Notes that the loader begins to run.
    pub(crate) fn load_begins(&self, now: Tick) {
        self.loading.store(now.0.max(1), Ordering::Release);
    }

    /// Notes that the loader has ended.
    pub(crate) fn load_ends(&self) {
        self.loading.store(u64::MAX, Ordering::Release);
    }

    /// Since when the loader runs, if it runs now.
    pub(crate) fn loading_since(&self) -> Option<Tick> {
        let since = self.loading.load(Ordering::Acquire);
        (since != 0 && since != u64::MAX).then_some(Tick(since))
    }

    /// Whether a loader has begun to run for this flight.
    pub(crate) fn has_loaded(&self) -> bool {
        self.loading.load(Ordering::Acquire) != 0
    }

    pub(crate) fn due(&self) -> Tick {
        Tick(self.due.load(Ordering::Acquire))
    }

    pub(crate) fn seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }

    /// Notes that the lease was granted at this number. A load that begins now reflects every change up to
    /// it.
    pub(crate) fn granted(&self, seq: u64) {
        self.seq.fetch_max(seq, Ordering::AcqRel);
    }

    /// Notes the origin of the value. Only the first call counts. The number sealed with the stored value may
    /// be higher than the number at which it was loaded.
    pub(crate) fn came_from(&self, seq: u64, tags: &Tags) {
        if !tags.is_empty() {
            let _ = self.origin.set(Origin { seq, tags: tags.clone() });
        }
    }

    /// Notes where the value was found. It is called before the end of the flight.
    pub(crate) fn found_by(&self, by: AnsweredBy) {
        let _ = self.answered_by.set(by);
    }

    pub(crate) fn answered_by(&self) -> AnsweredBy {
        self.answered_by.get().copied().unwrap_or(AnsweredBy::Load)
    }

    /// Notes when the value was stored. It is called before the end of the flight, and only the first call counts.
    pub(crate) fn born_at(&self, born: Born) {
        let _ = self.born.set(born);
    }

    pub(crate) fn born(&self) -> Option<Born> {
        self.born.get().copied()
    }

    /// Whether an answer of this flight may serve a caller that begins at this tier. A flight that runs its loader
    /// has no answer from L1 any more.
    pub(crate) fn begins_at(&self, first_tier: FirstTier) -> bool {
        self.first_tier >= first_tier || self.has_loaded()
    }

    /// Whether the value is too old for a caller that joined when `known` was the number of the last tag
    /// change.
    ///
    /// While a load runs, nobody knows the tags of its value. So an invalidation of a tag cannot make the
    /// node remove the flight:
    ///
    /// 1. a load begins, and reads version 1;
    /// 2. version 2 is committed, and its tag is invalidated: change 7;
    /// 3. a get starts on this node, and joins the load;
    /// 4. the load ends: its value has the tag.
    ///
    /// The value is older than change 7. The last tag change known at step 3 was 7 or later. So the get asks
    /// again. Callers that joined before step 2 may have the value. If a tag has changed twice, the node
    /// cannot tell which of the changes came before step 3. Then the get asks once more than necessary.
    ///
    /// Before its end a flight has given no value. If the caller has an answer by then, it is a stand-in,
    /// which was checked against its own tags. If the caller asked again, it would find the same flight and
    /// the same stand-in.
    pub(crate) fn too_old_since(&self, known: u64, partition: &Partition) -> bool {
        self.landed.get().is_some()
            && self
                .origin
                .get()
                .is_some_and(|Origin { seq, tags }| *seq < known && partition.outdates_by_tag(tags, *seq))
    }

    /// The end of the flight, if it has ended.
    pub(crate) fn has_landed(&self) -> Option<Landed<V>> {
        self.landed.get().cloned()
    }

    /// Waits for the end.
    #[cfg(all(test, shuttle))]
    pub(crate) async fn landed(&self) -> Landed<V> {
        self.until(|| self.has_landed()).await
    }

    /// Waits until `look` returns something. It looks again after each notification.
    pub(crate) async fn until<T>(&self, look: impl Fn() -> Option<T>) -> T {
        loop {
            if planted!(LookBeforeRegistering) {
                if let Some(seen) = look() {
                    return seen;
                }
                self.news.notified().await;
                continue;
            }
            // The registration comes before the look, so that a notification between the look and the wait is
            // not missed.
            let mut news = pin!(self.news.notified());
            news.as_mut().enable();
            if let Some(seen) = look() {
                return seen;
            }
            news.await;
        }
    }

    /// Offers a fallback to the callers of the flight.
    pub(crate) fn offer(&self, fallback: Fallback<V>) {
        if self.fallback.set(fallback).is_ok() {
            self.news.notify_waiters();
        }
    }

    pub(crate) fn fallback(&self) -> Option<&Fallback<V>> {
        self.fallback.get()
    }

    /// Notes that the flight ends because a load on another node failed.
    pub(crate) fn came_to_nothing(&self, elsewhere: Elsewhere) {
        let _ = self.elsewhere.set(elsewhere);
    }

    /// What the flight had, if it ended because a load on another node failed.
    pub(crate) fn elsewhere(&self) -> Option<Elsewhere> {
        self.elsewhere.get().copied()
    }

    pub(crate) fn end(&self, landed: Landed<V>) {
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
