//! The options that a loader chose.

use std::time::Duration;

use crate::format::tags::Collected;

/// The options that a loader chose. Each replaces the option of the call.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Choice {
    pub(crate) ttl: Option<Duration>,
    pub(crate) l1_ttl: Option<Duration>,
    pub(crate) ttl_jitter: Option<f64>,
    pub(crate) stale_for: Option<Duration>,
    pub(crate) refresh_ahead: Option<f64>,
    /// These tags are added to the tags of the call.
    pub(crate) tags: Collected,
}
