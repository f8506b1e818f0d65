//! What an instance reports about itself: every read, every query, every invalidation.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock;

/// One thing that happened. Times are of [`clock::now`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// A read that was answered.
    Read(Read),
    /// A read that ended with an error.
    ReadFailed { at: u64 },
    /// A database query for a row began.
    QueryBegan { product: u32, at: u64 },
    /// The query that began then has ended.
    QueryEnded { product: u32, began: u64, at: u64 },
    /// A write that began then has committed a version, and its invalidation has returned.
    Invalidated { product: u32, version: u32, began: u64, at: u64 },
    /// A write whose invalidation returned an error, or which was not made.
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

/// Where the answer came from, as far as its caller can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// This instance's own L1.
    L1,
    /// The shared tier.
    L2,
    /// The database: this caller's own query.
    Loaded,
    /// The shared tier, or somebody else's query: the caller waited, and knows no more.
    Shared,
}

/// What a read was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// It is traffic.
    Traffic,
    /// To see when a write shows.
    Lag,
}

impl Event {
    /// When it is in order to look at it: of a read, its end.
    pub(crate) fn at(&self) -> u64 {
        match self {
            Self::Read(read) => read.end,
            Self::ReadFailed { at }
            | Self::QueryBegan { at, .. }
            | Self::QueryEnded { at, .. }
            | Self::Invalidated { at, .. }
            | Self::WriteFailed { at } => *at,
        }
    }
}

/// Events of one instance that have not been reported yet.
///
/// Changes are noted with the time read under the lock, and so is the time up to which a batch is
/// complete. Without that: 1. an invalidation returns, and the time is read; 2. a batch is taken,
/// complete up to a later time; 3. the invalidation is noted, too late for a read that begins in
/// between and should have been held against it.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Vec<Event>>);

impl Journal {
    /// Notes a change that has happened by now. Returns the time it was given.
    pub(crate) fn note(&self, event: impl FnOnce(u64) -> Event) -> u64 {
        let mut events = self.0.lock();
        let now = clock::now();
        events.push(event(now));
        now
    }

    /// Adds reads. They may be late: they are held against what is known, and change nothing.
    pub(crate) fn append(&self, reads: &mut Vec<Event>) {
        self.0.lock().append(reads);
    }

    /// Takes what there is, with the time up to which every change is in this batch or an earlier one.
    pub(crate) fn take(&self) -> (Vec<Event>, u64) {
        let mut events = self.0.lock();
        (std::mem::take(&mut *events), clock::now())
    }
}
