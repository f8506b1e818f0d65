//! Options chosen by a loader.

use std::time::Duration;

use crate::format::tags::Collected;

/// Options chosen by a loader, each over that of the call.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Choice {
    pub(crate) ttl: Option<Duration>,
    pub(crate) l1_ttl: Option<Duration>,
    pub(crate) ttl_jitter: Option<f64>,
    pub(crate) stale_for: Option<Duration>,
    pub(crate) refresh_ahead: Option<f64>,
    /// Added to those of the call.
    pub(crate) tags: Collected,
}
