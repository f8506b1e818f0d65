//! Counters, events, metrics and traces of a cache.

mod event;
mod events;
mod limits;
mod log;
#[cfg(feature = "metrics")]
mod metrics;
mod observer;
mod seat;
mod stage;
mod stats;
pub(crate) mod trace;

pub use event::{
    Amended, Event, Evidence, KeyHash, Knowledge, LoadFailureLog, Refused, Resumed, StaleCause, SuspendCause,
    UnreadableCause,
};
pub use events::EventStream;
pub use limits::Limits as WarningLimits;
#[cfg(feature = "metrics")]
pub(crate) use metrics::describe;
pub(crate) use observer::Observer;
pub(crate) use stage::{Stage, Timer};
pub use stats::Stats;
pub(crate) use stats::StripedCounter;
