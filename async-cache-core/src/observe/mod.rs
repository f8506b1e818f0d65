//! What a cache tells about itself.

mod event;
#[cfg(feature = "metrics")]
mod metrics;
mod seat;
mod stats;
pub(crate) mod trace;
mod watch;

#[cfg(feature = "metrics")]
pub(crate) use self::metrics::{loaded, publish, run as run_metrics};
pub(crate) use event::Events;
pub use event::{
    Amended, Event, EventStream, KeyHash, LoadFailureLog, Resumed, StaleCause, SuspendCause, UnreadableCause,
};
pub(crate) use stats::Counters;
pub use stats::Stats;
pub(crate) use watch::{Asked, Watch};
