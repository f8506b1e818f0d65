//! A lookup: what L1 has, then what L2 has, then the lease, the load and the fill.

pub(crate) mod evidence;
pub(crate) mod lease;
pub(crate) mod load;
pub(crate) mod loader;
pub(crate) mod many;
pub(crate) mod one;
pub(crate) mod progress;
pub(crate) mod queue;
pub(crate) mod stale;
pub(crate) mod step;
pub(crate) mod verify;
pub(crate) mod wait;
