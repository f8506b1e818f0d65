//! What a cache tells about itself.

mod stats;

pub(crate) use stats::Counters;
pub use stats::Stats;
