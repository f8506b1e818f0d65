//! Lookups of many keys, in shared round trips.

pub(crate) mod get;
pub(crate) mod get_or_load;
pub(crate) mod keep;
pub(crate) mod lead;
pub(crate) mod load;
pub(crate) mod plan;
