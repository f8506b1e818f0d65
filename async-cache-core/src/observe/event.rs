//! What happens in a cache, told to those who listen.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::ErrorKind;

/// Something that an operator of the cache may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A lookup was answered with a value that has expired, or that could not be verified.
    StaleServed {
        /// Which key.
        key: KeyHash,
        /// Why.
        cause: StaleCause,
    },
    /// A loader gave an error, panicked or timed out.
    LoadFailed {
        /// Which key.
        key: KeyHash,
        /// How.
        kind: ErrorKind,
    },
    /// A loaded or read value was not stored: an invalidation had met it, its lease was lost, others held the lease
    /// for too long, or L2 could not be asked.
    FillRejected {
        /// Which key.
        key: KeyHash,
    },
    /// A value was answered, but cannot be stored in L2: its codec cannot write it or read it back, or it is too
    /// large. With feature `tracing` a warning says why; an insert gives it as an error.
    NotEncoded {
        /// Which key.
        key: KeyHash,
    },
    /// A key of many is longer than [`MAX_KEY_BYTES`](crate::format::key::MAX_KEY_BYTES): it was loaded, and is not cached.
    KeyTooLong,
    /// What L2 holds cannot be read. It is a miss, and will be overwritten.
    Unreadable {
        /// Which key.
        key: KeyHash,
        /// Why.
        cause: UnreadableCause,
    },
    /// A loader chose a lifetime or a tag that cannot be. Its value was answered.
    ChoiceAmended {
        /// Which key.
        key: KeyHash,
        /// What was done instead.
        to: Amended,
    },
    /// L1 no longer answers.
    L1Suspended {
        /// Why.
        cause: SuspendCause,
    },
    /// L1 answers: for the first time since the cache was built, or again.
    L1Resumed {
        /// What became of what it held.
        held: Resumed,
    },
    /// L2 can no longer be reached, or not in time.
    L2Lost,
    /// L2 can be reached again.
    L2Regained,
    /// L2 does not permit this node something that it needs, so its L1 does not answer:
    /// [`ready`](crate::api::cache::TieredCache::ready) and the log say what. It is asked again, ever less often.
    L2Refused,
    /// Invalidations could not be sent and are being retried.
    InvalidationPending {
        /// How many are.
        pending: usize,
    },
    /// Retried invalidations have landed.
    InvalidationLanded {
        /// How many are still being retried.
        pending: usize,
    },
    /// This listener did not keep up, and has missed events.
    Dropped {
        /// How many.
        events: u64,
    },
}

/// How failed loads are logged (feature `tracing`); [`Event::LoadFailed`] is told in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum LoadFailureLog {
    /// As warnings, with the error and all its causes: what the loader's error says is logged. One for each call
    /// of a loader.
    #[default]
    Warn,
    /// For debugging alone, and without what the errors say: for loaders that log their errors themselves, or
    /// whose errors must not be seen.
    Off,
}

/// Why a value was served that has expired or could not be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StaleCause {
    /// `stale_while_revalidate`: it is being refreshed behind the answer.
    Revalidating,
    /// Loading failed, with an error of this kind.
    LoadFailed(ErrorKind),
    /// Loading takes longer than `soft_timeout`.
    SlowLoad,
    /// Loading failed less than `error_backoff` ago, or another node's refresh is awaited.
    Backoff,
    /// L2 cannot be reached, and the policy is [`OutagePolicy::ServeL1`](crate::options::OutagePolicy::ServeL1).
    Outage,
}

/// Why a stored value cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnreadableCause {
    /// It is not ours, cut short, or damaged.
    Corrupt,
    /// It was stored by another codec, another version of the value's type, or another version of this crate.
    OtherFormat,
    /// Its codec refuses the bytes.
    Codec,
}

/// What was done about a loader's choice that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Amended {
    /// The value is cached, with the nearest option that can be.
    Clamped,
    /// The value is not cached: without a lifetime, or without a tag that it should have had.
    Uncached,
}

/// Why L1 stopped answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SuspendCause {
    /// The connection that invalidations arrive on was lost.
    BusLost,
    /// Invalidations were missed.
    Missed,
    /// The server was replaced, or lost its memory.
    ServerChanged,
    /// Nothing was heard for `max_staleness`.
    Silence,
}

/// What became of what L1 held when it came to answer again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resumed {
    /// Nothing had been missed: it answers.
    Kept,
    /// Something may have been missed: each entry is verified on its next use. At the start of a process there may be none.
    InDoubt,
}

/// A key, to be told from others in events and not to be read from them: a 64-bit digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(u64);

impl KeyHash {
    pub(crate) fn of(key: &[u8]) -> Self {
        Self(xxh3_64(key))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
