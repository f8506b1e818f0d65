//! L1 of this node, and the state that decides whether it may store a value.

pub(crate) mod flight;
pub(crate) mod l1;
pub(crate) mod lead;
pub(crate) mod request;
pub(crate) mod sample;
pub(crate) mod stripe;
pub(crate) mod stripes;
pub(crate) mod sweep;
