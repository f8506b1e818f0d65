//! The events of an instance: every read, every query, every invalidation.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock;

/// One event. Times are of [`clock::now`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// A read that was answered.
    Read(Read),
    /// A read that ended with an error.
    ReadFailed { at: u64, purpose: Purpose },
    /// A database query for a row began.
    QueryBegan { product: u32, at: u64 },
    /// The query that began at `began` has ended.
    QueryEnded { product: u32, began: u64, at: u64 },
    /// A write that began at `began` has committed a version, and its invalidation has returned.
    Invalidated { product: u32, version: u32, began: u64, at: u64 },
    /// A write that failed, or whose invalidation returned an error.
    WriteFailed { at: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Read {
    pub(crate) product: u32,
    pub(crate) version: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) answer: Answer,
    pub(crate) purpose: Purpose,
}

/// The source of an answer, as the cache reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// This instance's own L1.
    L1,
    /// The shared tier.
    L2,
    /// The database, by this caller's own query.
    Loaded,
    /// Another caller's query, on this instance or another: the caller waited for it.
    Waited,
    /// A value that had expired, because the database failed or was slow, or that the shared tier could not confirm.
    Stale,
}

/// The purpose of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// It belongs to the traffic.
    Traffic,
    /// It observes when a write becomes visible.
    Lag,
}

impl Event {
    /// The time that orders the event; for a read its end.
    pub(crate) fn at(&self) -> u64 {
        match self {
            Self::Read(read) => read.end,
            Self::ReadFailed { at, .. }
            | Self::QueryBegan { at, .. }
            | Self::QueryEnded { at, .. }
            | Self::Invalidated { at, .. }
            | Self::WriteFailed { at } => *at,
        }
    }
}

/// Events of one instance that have not been reported yet.
///
/// The time of a change is read under the lock, and so is the time up to which a batch is
/// complete. Otherwise: 1. an invalidation returns, and its time is read; 2. a batch is taken,
/// complete up to a later time; 3. the invalidation is recorded, too late for a read that begins in
/// between and should be judged by it.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Vec<Event>>);

impl Journal {
    /// Records a change that has happened. Returns the time that it recorded.
    pub(crate) fn note(&self, event: impl FnOnce(u64) -> Event) -> u64 {
        let mut events = self.0.lock();
        let now = clock::now();
        events.push(event(now));
        now
    }

    /// Adds reads. They may be late, because the judgement of other reads does not depend on them.
    pub(crate) fn append(&self, reads: &mut Vec<Event>) {
        self.0.lock().append(reads);
    }

    /// Takes all events, and the time up to which every change is in this batch or an earlier one.
    pub(crate) fn take(&self) -> (Vec<Event>, u64) {
        let mut events = self.0.lock();
        (std::mem::take(&mut *events), clock::now())
    }
}
