//! Single-flight: lead or wait in this process.

use std::fmt;
use std::pin::pin;

use crate::backend::Tick;
use crate::error::Result;
use crate::faults::planted;
use crate::format::tags::Tags;
use crate::liveness::partition::Partition;
use crate::local::approach::{Answer, Approach, Reuse, Want};
use crate::local::fallback::Fallback;
use crate::local::ticket::Ticket;
use crate::sync::{AtomicU64, Notify, OnceLock, Ordering};

/// One lookup under way, and everyone who waits for it.
pub(crate) struct Flight<V> {
    pub(crate) reuse: Reuse,
    /// Whether an absence answers whoever leads it.
    pub(crate) want: Want,
    pub(crate) started: Tick,
    /// When its leader must have ended it, or gone on to its next step. After that nobody joins it.
    pub(crate) due: AtomicU64,
    pub(crate) generation: u64,
    /// What its leader insisted on. Kept apart from `seq`: it comes from outside, and a number
    /// nobody ever handed out must not make the flight immune to invalidations.
    pub(crate) min_seq: u64,
    /// The most that anyone insists on who waits for it.
    pub(crate) max_min_seq: AtomicU64,
    /// Every change up to this one is reflected in the result.
    seq: AtomicU64,
    /// What the value is a value of; set before the end, if it has tags.
    source: OnceLock<Source>,
    pub(crate) landed: OnceLock<Landed<V>>,
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
    pub(crate) fn new(approach: Approach, started: Tick, ticket: Ticket, min_seq: u64) -> Self {
        let Approach { reuse, want, limit, .. } = approach;
        Self {
            reuse,
            want,
            started,
            due: AtomicU64::new(started.after(limit).0),
            generation: ticket.generation,
            min_seq,
            max_min_seq: AtomicU64::new(min_seq),
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
