//! For tests of backends and of code that uses the cache (feature `testing`).

pub mod conformance;
mod source;

pub use crate::faults::mutant::Mutant;
pub use crate::liveness::clock::real_time;
pub use source::{No, Source, ms, until};
