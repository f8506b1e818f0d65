//! The lease: the right to load one key, held by one node of the fleet at a time.

use std::time::Duration;

use bytes::Bytes;

use crate::format::key::Key;
use crate::format::token::Token;

/// A granted right to load a key and to store the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The acquisition it was granted to.
    pub token: Token,
    /// The partition's sequence number at the grant. A value loaded under this lease reflects
    /// every change up to it.
    pub seq: u64,
}

/// What a caller of [`Region::acquire`](super::Region::acquire) brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acquire {
    /// A token never used before.
    pub token: Token,
    /// Life of the lease unless renewed.
    pub ttl: Duration,
    /// Which stored value answers.
    pub accept: Accept,
}

/// Which stored value answers an [`Acquire`]. One that does not counts as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Any valid one.
    Any,
    /// Any valid one. The caller already holds the one with this token: if it is that, and no change has expired it,
    /// the answer is [`Acquired::Unchanged`], without the payload.
    Known(Token),
    /// Any valid one but that with this token, which the caller has found and cannot use: it has expired
    /// (a value is kept past its expiry, as a fallback), or is unreadable.
    Other(Token),
    /// None: the caller loads whatever is stored, or what is stored is too short to have a token.
    Nothing,
}

/// Answer to [`Region::acquire`](super::Region::acquire).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// A valid value is stored: seal and frame.
    Value(Bytes),
    /// The valid stored value is the one the caller knows.
    Unchanged {
        /// The partition's sequence number now: the value reflects every change up to it.
        seq: u64,
        /// When what is stored expires and ends, on the server's clock:
        /// [`ends_of`](crate::format::frame::ends_of).
        ends: (u64, u64),
    },
    /// The caller holds the lease and should load.
    Granted(Lease),
    /// Another acquisition holds the lease. This node has been noted as waiting and will get
    /// [`BusEvent::Woken`](super::BusEvent::Woken); the lease lapses after the given time.
    Busy(Duration),
    /// No valid value is stored, and none can be: there is no room for so much as a lease. The caller
    /// should load, and keep what it loads to itself.
    NoRoom {
        /// The partition's sequence number now: what is loaded from here on reflects every change up
        /// to it.
        seq: u64,
    },
}

/// Answer to [`Region::fill`](super::Region::fill).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// The value is stored, the lease is gone, the waiters are woken.
    Stored {
        /// The sequence number it is sealed with: the lease's, or that of the announced change.
        seq: u64,
    },
    /// The lease was lost, broken by an invalidation, or overtaken by a clear or by an invalidation
    /// of one of the frame's tags: nothing is stored.
    Refused,
}

/// Whether other nodes are to drop the value they hold when a fill replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    /// The load began because there was none.
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
    /// For how long.
    pub life: Duration,
    /// Whether other nodes are to hear of it.
    pub announce: Announce,
}

/// Answer to [`Region::renew`](super::Region::renew).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// The lease lives on.
    Held,
    /// The lease is no longer the caller's.
    Lost,
}
