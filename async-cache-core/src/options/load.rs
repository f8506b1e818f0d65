//! How a value is loaded.

use std::time::Duration;

use serde::Deserialize;

use crate::error::Result;
use crate::options::{in_range, wrong};

/// How a value is loaded, and what answers meanwhile: options of a cache, and of what loads.
///
/// Can be deserialized; times are text, such as `"5m"` or `"250ms"`, and an unknown field is an error.
///
/// ```
/// # use async_cache_core::LoadOptions; use std::time::Duration;
/// let options: LoadOptions = serde_json::from_str(r#"{ "load_timeout": "2s", "refresh_ahead": 1.0 }"#)?;
/// assert_eq!(options, LoadOptions::new().load_timeout(Duration::from_secs(2)).refresh_ahead(1.0));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use = "options do nothing until they are given to a cache"]
#[non_exhaustive]
pub struct LoadOptions {
    /// Hard limit on one load: the load is ended and everyone who waits gets
    /// [`ErrorKind::Timeout`](crate::error::ErrorKind::Timeout). Default 30 s.
    #[serde(with = "humantime_serde")]
    pub load_timeout: Duration,
    /// With a stale value at hand, answer it when the load takes longer than this; the load goes
    /// on. Default: wait for the load. Needs [`stale_for`](super::StoreOptions::stale_for).
    #[serde(with = "humantime_serde")]
    pub soft_timeout: Option<Duration>,
    /// Life of the lease on a load, renewed while the load runs: how long other nodes wait for a
    /// node that died. Default 3 s.
    #[serde(with = "humantime_serde")]
    pub lease_ttl: Duration,
    /// How long to wait for other nodes' loads before loading here, uncached. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub wait_timeout: Duration,
    /// Refresh behind a lookup that finds a value about to expire, drawn at random so that one
    /// lookup of many does it: the eagerness β of XFetch. With 1, refreshing begins about as long
    /// before the expiry as loading takes, times the logarithm of the lookups meanwhile; more is
    /// earlier. Default: no refresh before expiry.
    pub refresh_ahead: Option<f64>,
    /// With a stale value at hand, answer it at once and refresh behind it. Default false. Needs
    /// [`stale_for`](super::StoreOptions::stale_for).
    pub stale_while_revalidate: bool,
    /// With a stale value at hand, answer it when the load fails or times out. Default true.
    pub stale_on_error: bool,
    /// Least time from a failed refresh to the next on this node: meanwhile the stale value answers those with
    /// `stale_on_error`, and nothing is loaded. Default 1 s.
    #[serde(with = "humantime_serde")]
    pub error_backoff: Duration,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            load_timeout: Duration::from_secs(30),
            soft_timeout: None,
            lease_ttl: Duration::from_secs(3),
            wait_timeout: Duration::from_secs(10),
            refresh_ahead: None,
            stale_while_revalidate: false,
            stale_on_error: true,
            error_backoff: Duration::from_secs(1),
        }
    }
}

impl LoadOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    super::load_setters!(|this| this);
    super::stale_setters!(|this| this);

    pub(crate) fn validate(&self) -> Result<()> {
        if self.load_timeout < Duration::from_millis(1) {
            return wrong("load_timeout", "at least 1 ms; with less no load could end");
        }
        for (name, span) in [
            ("load_timeout", self.load_timeout),
            ("error_backoff", self.error_backoff),
            ("soft_timeout", self.soft_timeout.unwrap_or_default()),
            ("wait_timeout", self.wait_timeout),
        ] {
            in_range(name, span)?;
        }
        if self.refresh_ahead.is_some_and(|eagerness| !(0.0..=100.0).contains(&eagerness)) {
            return wrong("refresh_ahead", "from 0 to 100");
        }
        if self.lease_ttl < Duration::from_millis(10) || self.lease_ttl > Duration::from_secs(3600) {
            return wrong("lease_ttl", "from 10 ms to 1 hour");
        }
        Ok(())
    }

    /// Δ·β: how far ahead of its expiry a value that took `cost` to load is refreshed, as a unit
    /// of the draw.
    pub(crate) fn ahead(&self, cost: Duration) -> Duration {
        self.refresh_ahead.map_or(Duration::ZERO, |eagerness| cost.mul_f64(eagerness))
    }
}
