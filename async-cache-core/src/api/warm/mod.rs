//! Warming: a cache filled before anyone asks.

pub(crate) mod report;
pub(crate) mod verbs;
