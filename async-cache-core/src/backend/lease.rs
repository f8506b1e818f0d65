//! The lease: the right to load one key, held by one node of the fleet at a time.

use std::time::Duration;

use bytes::Bytes;

use crate::format::frame::Ends;
use crate::format::key::Key;
use crate::format::token::Token;

/// The granted right to load a key and to store the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The acquisition to which it was granted.
    pub token: Token,
    /// The partition's sequence number at the grant. A value loaded under this lease reflects
    /// every change up to it.
    pub seq: u64,
}

/// The arguments of [`Region::acquire`](super::Region::acquire) for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acquire {
    /// A token never used before.
    pub token: Token,
    /// The duration of the lease, if it is not renewed.
    pub ttl: Duration,
    /// The stored values that may answer.
    pub accept: Accept,
}

/// The stored values that may answer an [`Acquire`]. Any other value counts as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Any valid one.
    Any,
    /// Any valid value. The caller holds the value with this token. If that one is stored and no change has expired it,
    /// the answer is [`Acquired::Unchanged`], without the payload.
    Known(Token),
    /// Any valid value except the one with this token. The caller has found that one and cannot use it: it has expired
    /// (it is kept as a fallback), or cannot be read.
    Other(Token),
    /// No value: the caller loads in any case, or the stored bytes are too short to have a token.
    Nothing,
}

/// Answer to [`Region::acquire`](super::Region::acquire).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// A valid value is stored: seal and frame.
    Value(Bytes),
    /// The stored value is valid, and is the one that the caller holds.
    Unchanged {
        /// The partition's sequence number now: the value reflects every change up to it.
        seq: u64,
        /// When what is stored ends: [`ends_of`](crate::format::frame::ends_of).
        ends: Ends,
    },
    /// The caller holds the lease and should load.
    Granted(Lease),
    /// Another acquisition holds the lease. This node is noted as a waiter and will get
    /// [`BusEvent::Woken`](super::BusEvent::Woken). The lease expires after this time.
    Busy(Duration),
    /// No valid value is stored, and none can be, because there is no memory even for a lease. The caller should load,
    /// and not try to store the value here.
    NoRoom {
        /// The partition's sequence number now. A load that begins now reflects every change up to it.
        seq: u64,
    },
}

/// Answer to [`Region::fill`](super::Region::fill).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// The value is stored, the lease has ended, and the waiters are woken.
    Stored {
        /// The sequence number of its seal: that of the lease, or of the announced change.
        seq: u64,
    },
    /// Nothing is stored. The lease was lost or broken, or a clear or a change of one of the frame's tags came after
    /// its grant.
    Refused,
}

/// Whether other nodes must drop the value that a fill replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    /// The load began because there was no value.
    No,
    /// The load was a refresh: the fill is a change, published as [`BusEvent::Invalidated`](super::BusEvent::Invalidated).
    Yes,
}

/// One of the values given to [`Region::fill`](super::Region::fill).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// The key.
    pub key: Key,
    /// The lease it was loaded under.
    pub lease: Lease,
    /// What is stored.
    pub frame: Bytes,
    /// How long it is stored.
    pub life: Duration,
    /// Whether other nodes must drop their older values.
    pub announce: Announce,
}

/// Answer to [`Region::renew`](super::Region::renew).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// The lease is extended.
    Held,
    /// The lease is no longer the caller's.
    Lost,
}
