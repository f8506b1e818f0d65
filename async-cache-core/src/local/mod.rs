//! L1 of this node, and what decides whether a value may be stored in it.

pub(crate) mod approach;
pub(crate) mod flight;
pub(crate) mod postponed;
pub(crate) mod probe;
pub(crate) mod stripes;
pub(crate) mod sweep;
pub(crate) mod waiters;
