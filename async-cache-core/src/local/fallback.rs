//! A fallback that a flight has found.

use crate::backend::{Entry, Tick};
use crate::local::ticket::Ticket;

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
