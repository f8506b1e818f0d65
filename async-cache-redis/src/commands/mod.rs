//! The operations of a region: each is one command, one script or one pipeline.

#[cfg(feature = "cluster")]
mod beats;
mod coalesce;
pub(crate) mod errors;
mod leases;
pub(crate) mod operations;
mod orphan;
pub(crate) mod region;
mod values;
