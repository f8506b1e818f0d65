//! L2: what is read from it, and what is stored in it.

pub(crate) mod l2;
pub(crate) mod miss_rate;
pub(crate) mod read;
