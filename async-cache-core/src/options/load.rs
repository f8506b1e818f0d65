//! The options for loading a value.

use std::time::Duration;

use serde::Deserialize;

use crate::error::Result;
use crate::options::{in_range, wrong};

/// The options for loading a value, and for the answers during the load. They can be set for a cache and for
/// each loading call.
///
/// They can be deserialized. A duration is text, such as `"5m"` or `"250ms"`. An unknown field is an error.
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
    /// The hard limit on one load: at least 1 ms. When it is over, the load is cancelled, and all its callers
    /// get [`ErrorKind::Timeout`](crate::error::ErrorKind::Timeout). The default is 30 s.
    #[serde(deserialize_with = "crate::options::duration::required")]
    pub load_timeout: Duration,
    /// If the load takes longer than this and there is a stale value, the caller gets the stale value, and the
    /// load goes on. By default the caller waits for the load. It needs
    /// [`stale_for`](super::StoreOptions::stale_for).
    #[serde(deserialize_with = "crate::options::duration::optional")]
    pub soft_timeout: Option<Duration>,
    /// The duration of the lease on a load: 10 ms to 1 hour. The lease is renewed while the load runs. If the
    /// loading node dies, other nodes wait this long. The default is 3 s.
    #[serde(deserialize_with = "crate::options::duration::required")]
    pub lease_ttl: Duration,
    /// How long a lookup waits for loads on other nodes. After that it loads the value on this node, uncached.
    /// The default is 10 s.
    #[serde(deserialize_with = "crate::options::duration::required")]
    pub wait_timeout: Duration,
    /// Refreshes a value in the background before it expires. A lookup that finds the value close to its expiry
    /// draws at random whether it starts the refresh. This number is the eagerness β of the XFetch algorithm,
    /// from 0 to 100. With 1, refreshing starts before the expiry by about the duration of a load, times the
    /// logarithm of the number of lookups in that time. A larger number starts it earlier. By default nothing
    /// is refreshed before its expiry.
    pub refresh_ahead: Option<f64>,
    /// If there is a stale value, the lookup answers with it at once, and the value is refreshed in the
    /// background. The default is false. It needs [`stale_for`](super::StoreOptions::stale_for).
    pub stale_while_revalidate: bool,
    /// If the load fails or times out and there is a stale value, the lookup answers with it. The default is
    /// true.
    pub stale_on_error: bool,
    /// The minimum time between a failed refresh and the next refresh of the key on this node. In this time
    /// nothing is loaded, and lookups with `stale_on_error` answer with the stale value. The default is 1 s.
    #[serde(deserialize_with = "crate::options::duration::required")]
    pub error_backoff: Duration,
    /// How long this node remembers that a load of a key failed, panicked or timed out. In this time its lookups of
    /// the key get the same error, and nothing is loaded. The default is 0: every lookup loads again.
    ///
    /// * A cached value answers first, also a stale one with `stale_on_error`, and a value that another node has
    ///   stored meanwhile. A refresh loads in any case.
    /// * A change of the key ends it: an insert, an invalidation, an expiry or a refresh, of any node. So does a load
    ///   of the key that succeeds on this node, a clear, and a change of *any* tag, because the tags of a value that
    ///   was not loaded are unknown.
    /// * Other nodes do not learn of the error: each of them loads once. No change of another node ends it while
    ///   this node cannot hear the other. Both the call that failed and the call that asks must have the option, and
    ///   the shorter time counts.
    /// * A node remembers at most 16,384 errors. A further one is not remembered.
    #[serde(deserialize_with = "crate::options::duration::required")]
    pub error_ttl: Duration,
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
            error_ttl: Duration::ZERO,
        }
    }
}

impl LoadOptions {
    /// Returns the default options.
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
            ("error_ttl", self.error_ttl),
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

    /// Δ·β of XFetch, for a value whose load took `cost`. The random draw multiplies it by a logarithm to get
    /// the time before the expiry.
    pub(crate) fn ahead(&self, cost: impl FnOnce() -> Duration) -> Duration {
        self.refresh_ahead.map_or(Duration::ZERO, |eagerness| cost().mul_f64(eagerness))
    }
}
