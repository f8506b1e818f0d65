//! The operations of a region: each is one command, one script or one pipeline.

mod batch;
mod calls;
mod coalesce;
mod errors;
mod operations;
mod orphan;
pub(crate) mod region;
