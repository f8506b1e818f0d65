//! The changes made on this node, and the changes that arrive from other nodes.

pub(crate) mod intent;
pub(crate) mod invalidate;
pub(crate) mod listener;
pub(crate) mod retry;
pub(crate) mod send;
