//! Counters, events, metrics and traces of a cache.

mod event;
mod events;
#[cfg(feature = "metrics")]
mod metrics;
mod observer;
mod seat;
mod stats;
pub(crate) mod trace;

pub use event::{
    Amended, Event, KeyHash, LoadFailureLog, Resumed, StaleCause, SuspendCause, UnreadableCause,
};
pub use events::EventStream;
#[cfg(feature = "metrics")]
pub(crate) use metrics::{loaded, publish};
pub(crate) use observer::Observer;
pub use stats::Stats;
pub(crate) use stats::StripedCounter;
