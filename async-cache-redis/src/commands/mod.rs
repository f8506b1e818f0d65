//! What a region asks of Redis: each operation is one command, one script or one pipeline.

mod batch;
mod calls;
mod coalesce;
mod errors;
mod operations;
mod orphan;
pub(crate) mod region;
