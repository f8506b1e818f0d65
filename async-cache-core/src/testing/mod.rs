//! For tests of backends and of code that uses the cache (feature `testing`).

pub mod conformance;
mod source;

pub use crate::clock::real_time;
pub use crate::coherence::Mutant;
pub use source::{No, Source, ms, until};
