//! A stale value that a flight has found.

use crate::backend::{Entry, Tick};
use crate::local::ticket::Ticket;

/// A stale value that a flight has found, and what decides whether it may still be served.
#[derive(Debug)]
pub(crate) struct Fallback<V> {
    pub(crate) entry: Entry<V>,
    /// Taken before it was read.
    pub(crate) ticket: Ticket,
    /// When the question was sent that L2 answered with it; `Tick(0)` if L1 had it.
    pub(crate) confirmed: Tick,
    /// Every change up to this one is reflected in it.
    pub(crate) reflects: u64,
}
