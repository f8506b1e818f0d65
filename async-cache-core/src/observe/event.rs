//! The events of a cache, for its listeners.

use std::fmt;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::ErrorKind;

/// An event that an operator of the cache may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A lookup was answered with a value that has expired, or that could not be verified.
    StaleServed {
        /// The digest of the key.
        key: KeyHash,
        /// The reason for the stale answer.
        cause: StaleCause,
    },
    /// A loader returned an error, panicked or timed out.
    LoadFailed {
        /// The digest of the key.
        key: KeyHash,
        /// The kind of the error.
        kind: ErrorKind,
    },
    /// A value that was loaded or read was not stored. An invalidation came in the meantime, its lease was
    /// lost, other nodes held the lease for too long, or L2 could not be asked.
    FillRejected {
        /// The digest of the key.
        key: KeyHash,
    },
    /// A value was returned to its callers, but cannot be stored in L2. Its codec cannot write it or read it
    /// back, or it is too large. With feature `tracing` a warning has the cause; an insert returns it as an
    /// error.
    NotEncoded {
        /// The digest of the key.
        key: KeyHash,
    },
    /// A key in a lookup of many keys is longer than [`MAX_KEY_BYTES`](crate::format::key::MAX_KEY_BYTES). It
    /// was loaded, and is not cached.
    KeyTooLong,
    /// A stored value in L2 cannot be read. It is a miss, and will be overwritten.
    Unreadable {
        /// The digest of the key.
        key: KeyHash,
        /// The reason why it cannot be read.
        cause: UnreadableCause,
    },
    /// A loader chose an invalid lifetime, tag or other option. Its value was returned to the callers. With feature
    /// `tracing` a warning names the option and its value.
    ChoiceAmended {
        /// The digest of the key.
        key: KeyHash,
        /// What the cache did with the value.
        to: Amended,
    },
    /// L1 no longer answers.
    L1Suspended {
        /// The reason.
        cause: SuspendCause,
    },
    /// L1 answers, for the first time or again. The first one says nothing of a fault.
    L1Resumed {
        /// The state of the entries that L1 held.
        held: Resumed,
    },
    /// L2 cannot be reached any more, or does not answer in time.
    L2Lost,
    /// L2 can be reached again.
    L2Regained,
    /// L2 refuses an operation that this node needs. The cause is in the log. The node tries again, with growing
    /// pauses. The event is sent once for what it prevents, until L2 permits that again.
    L2Refused {
        /// What the node cannot do.
        what: Refused,
    },
    /// Invalidations could not be sent, and are being retried.
    InvalidationPending {
        /// The number of pending invalidations, as in [`Stats`](crate::observe::stats::Stats).
        pending: usize,
    },
    /// Retried invalidations have reached L2.
    InvalidationLanded {
        /// The number of invalidations that are still pending.
        pending: usize,
    },
    /// The [verifier](crate::api::builder::TieredCacheBuilder::verify) found that L1 answers with a value that is
    /// older than `max_staleness` allows.
    StaleHit {
        /// The digest of the key.
        key: KeyHash,
        /// Why the verifier says so. Only some kinds are a proof: see [`Evidence::is_proof`].
        evidence: Evidence,
        /// What this node knew when L1 answered.
        knew: Knowledge,
    },
    /// This listener was too slow, and has missed events.
    Dropped {
        /// The number of missed events.
        events: u64,
    },
}

/// What a node cannot do, because L2 refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refused {
    /// Serve: L2 refuses the subscription, a baseline or heartbeats, so L1 does not answer.
    /// [`ready`](crate::api::cache::TieredCache::ready) returns the cause.
    Serving,
    /// Send its pending changes. L1 answers, except with what they void. The calls that make changes return the
    /// cause.
    Changes,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serving => "serving",
            Self::Changes => "changes",
        })
    }
}

/// Why the verifier reports a hit. Unless a kind says more, L1 has answered with the same entry for longer than
/// `max_staleness` after the verifier had seen a contradiction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Evidence {
    /// A change of the key, or an invalidation of a tag of the value, made on this node, had returned before the lookup
    /// began, and the value does not reflect it. It is a proof, and needs no time: such a change counts on its node at
    /// once.
    ChangeReturned,
    /// This node had received a change of the key, or an invalidation of a tag of the value, `max_staleness` or more
    /// before L1 answered, and the value does not reflect it. It is a proof.
    ChangeReceived,
    /// L2 had executed changes that this node had not applied, although L1 answered. It is a proof that L1 did
    /// not know what it must know. L2 did not have the value any more.
    ChangeUnknown,
    /// The namespace had been cleared, or L2 had lost its memory, since the value was loaded. It is a proof.
    Cleared,
    /// A tag of the value had been invalidated in L2 since it was loaded. It is a proof.
    TagInvalidated,
    /// L2 had another value. It is no proof: the value may have been evicted from L2 or refreshed ahead, and
    /// loaded anew before an invalidation was made.
    L2Differs,
    /// The source had another value. It is no proof: nobody may have invalidated the key yet, or ever.
    SourceDiffers,
}

impl Evidence {
    /// Whether the evidence proves that the cache has broken its promise. Otherwise it is a suspicion.
    #[must_use]
    pub fn is_proof(self) -> bool {
        !matches!(self, Self::L2Differs | Self::SourceDiffers)
    }
}

/// What a node knew when L1 answered with a value that the verifier reports. The numbers are those of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Knowledge {
    /// The node had applied every change up to this number.
    pub applied: u64,
    /// L2 had executed every change up to this number, at least `max_staleness` before.
    pub reached: u64,
    /// The value reflects every change up to this number.
    pub reflects: u64,
    /// The age of the last proof that the node knew every change.
    pub serving_lease_age: Duration,
}

/// How failed loads are logged (feature `tracing`). Listeners get [`Event::LoadFailed`] in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum LoadFailureLog {
    /// One warning for each failed call of a loader, with the error and all its causes, but at most ten in a
    /// minute. The messages of the loader's error are in the log.
    #[default]
    Warn,
    /// At debug level, without the messages of the errors. It is for loaders that log their errors themselves,
    /// or whose errors must not be in a log.
    Off,
}

/// The reason why a stale or unverified value was returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StaleCause {
    /// The option `stale_while_revalidate` is set, and the value is being refreshed in the background.
    Revalidating,
    /// The load failed, with an error of this kind.
    LoadFailed(ErrorKind),
    /// The load takes longer than `soft_timeout`.
    SlowLoad,
    /// A load failed less than `error_backoff` ago, or another node is refreshing the value.
    Backoff,
    /// L2 cannot be reached, and the policy is
    /// [`OutagePolicy::ServeL1`](crate::options::OutagePolicy::ServeL1).
    Outage,
}

/// The reason why a stored value cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnreadableCause {
    /// It was not written by this crate, or it is truncated or damaged.
    Corrupt,
    /// It was stored with another codec, another version of the value type, or another version of this crate.
    OtherFormat,
    /// The codec cannot decode it.
    Codec,
}

impl fmt::Display for UnreadableCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Corrupt => "it was not written by this crate, or is damaged",
            Self::OtherFormat => {
                "it was stored with another codec, or by another version of its type or of this crate"
            }
            Self::Codec => "the codec cannot decode it",
        })
    }
}

/// What the cache did with a value whose loader chose an invalid option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Amended {
    /// The value is cached. An invalid duration was clamped, and any other invalid option was replaced by that
    /// of the call.
    Clamped,
    /// The value is not cached, because its lifetime is zero or one of its tags is invalid.
    Uncached,
}

/// The reason why L1 stopped answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SuspendCause {
    /// The connection for invalidations was lost.
    BusLost,
    /// Invalidations were missed.
    Missed,
    /// The server was replaced, or lost its data.
    ServerChanged,
    /// No message came for `max_staleness`.
    Silence,
}

impl fmt::Display for SuspendCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BusLost => "the connection for messages was lost",
            Self::Missed => "a message is missing",
            Self::ServerChanged => "another server process answers, or the server lost its data",
            Self::Silence => "no message came for `max_staleness`",
        })
    }
}

/// The state of the entries that L1 held when it began to answer again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resumed {
    /// No invalidation was missed, so the entries answer.
    Kept,
    /// Invalidations may have been missed, so each entry is verified on its next use. At the start of a process
    /// L1 may be empty.
    InDoubt,
}

/// A 64-bit digest of a key. It tells keys apart in events and does not reveal them.
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
