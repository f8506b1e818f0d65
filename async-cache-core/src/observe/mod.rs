//! What a cache tells about itself.

mod event;
#[cfg(feature = "metrics")]
mod metrics;
mod seat;
mod stats;
pub(crate) mod trace;

pub(crate) use event::Events;
pub use event::{
    Amended, Event, EventStream, KeyHash, LoadFailureLog, Resumed, StaleCause, SuspendCause, UnreadableCause,
};
#[cfg(feature = "metrics")]
pub(crate) use metrics::{loaded, publish, run as run_metrics};
pub(crate) use stats::Counters;
pub use stats::Stats;
