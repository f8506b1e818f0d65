//! What a cache tells about itself.

mod event;
mod seat;
mod stats;

pub(crate) use event::Events;
pub use event::{Event, EventStream, KeyHash, Resumed, StaleCause, SuspendCause};
pub(crate) use stats::Counters;
pub use stats::Stats;
