//! What a region asks of Redis: each operation is one command, one script or one pipeline.

pub(crate) mod batch;
mod calls;
pub(crate) mod coalesce;
mod orphan;
pub(crate) mod region;
