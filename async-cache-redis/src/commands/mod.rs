//! The operations of a region: each is one command, one script or one pipeline.

mod coalesce;
mod errors;
mod leases;
mod operations;
mod orphan;
pub(crate) mod region;
mod values;
