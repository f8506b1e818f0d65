//! The options of a cache, a call or a value: how values are stored, and how they are loaded.

pub(crate) mod choice;
pub mod duration;
mod load;
mod setters;
mod store;
mod verify;

use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};
pub(crate) use choice::{Amendment, Choice, Keep};
pub use choice::{IntoLoaded, Loaded};
pub use load::LoadOptions;
pub(crate) use setters::{load_setters, negative_setters, setters, stale_setters, store_setters};
pub use store::StoreOptions;
pub(crate) use store::Term;
pub use verify::Verify;

/// The maximum lifetime and limit: a hundred years, so that no sum of durations overflows.
const MAX_LIFE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[cold]
fn wrong(name: &str, wish: &str) -> Result<()> {
    Err(Error::new(ErrorKind::Config, format!("option `{name}` must be {wish}")))
}

#[inline]
fn in_range(name: &str, span: Duration) -> Result<()> {
    if span > MAX_LIFE { wrong(name, "at most 100 years") } else { Ok(()) }
}

/// The default options of a cache: a [`StoreOptions`], a [`LoadOptions`], or a pair of both.
///
/// They can be deserialized from the fields `store` and `load`. Either may be missing.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use = "options do nothing until they are given to a cache"]
#[non_exhaustive]
pub struct Defaults {
    /// How values are stored. `None` does not change it.
    pub store: Option<StoreOptions>,
    /// How values are loaded. `None` does not change it.
    pub load: Option<LoadOptions>,
}

impl From<StoreOptions> for Defaults {
    fn from(store: StoreOptions) -> Self {
        Self { store: Some(store), load: None }
    }
}

impl From<LoadOptions> for Defaults {
    fn from(load: LoadOptions) -> Self {
        Self { store: None, load: Some(load) }
    }
}

impl From<(StoreOptions, LoadOptions)> for Defaults {
    fn from((store, load): (StoreOptions, LoadOptions)) -> Self {
        Self { store: Some(store), load: Some(load) }
    }
}

/// The options of a call: how a value is loaded, and how it is stored.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Options {
    pub(crate) store: StoreOptions,
    pub(crate) load: LoadOptions,
}

impl Options {
    /// Replaces the options that are given.
    pub(crate) fn set(&mut self, given: Defaults) {
        self.store = given.store.unwrap_or_else(|| std::mem::take(&mut self.store));
        self.load = given.load.unwrap_or_else(|| std::mem::take(&mut self.load));
    }

    pub(crate) fn validate(&self) -> Result<()> {
        self.store.validate()?;
        self.load.validate()?;
        let needs_stale = |name: &str| {
            let message = format!(
                "option `{name}` has no effect without a stale value to answer with: set `stale_for`, or leave `{name}` out"
            );
            Err(Error::new(ErrorKind::Config, message))
        };
        match self.store.stale_for.is_zero() {
            true if self.load.stale_while_revalidate => needs_stale("stale_while_revalidate"),
            true if self.load.soft_timeout.is_some() => needs_stale("soft_timeout"),
            _ => Ok(()),
        }
    }

    /// Applies the options that a loader chose.
    pub(crate) fn chosen(mut self, choice: &Choice) -> Self {
        self.store.choose(choice);
        self.load.refresh_ahead = choice.refresh_ahead.or(self.load.refresh_ahead);
        self
    }
}

/// The behavior of a cache while it cannot reach L2. It does not matter whether other nodes can.
///
/// In a configuration file it is `"serve_l1"`, `"load"` or `"fail"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OutagePolicy {
    /// Entries of L1 answer until they expire, although L2 cannot verify them. All other keys are loaded.
    /// During the outage there is no bound on staleness, and
    /// [`Stats::l1_suspended`](crate::observe::Stats::l1_suspended) is true.
    #[default]
    ServeL1,
    /// All keys are loaded. No unverified value is returned.
    Load,
    /// A lookup that L2 would have to verify returns an error of kind [`ErrorKind::Backend`].
    Fail,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_by_name() {
        fn refused(given: impl Into<Defaults>) -> String {
            let mut options = Options::default();
            options.set(given.into());
            options.validate().unwrap_err().to_string()
        }
        assert!(refused(StoreOptions::new().ttl(Duration::ZERO)).contains("`ttl`"));
        assert!(refused(StoreOptions::new().l1_ttl(Duration::ZERO)).contains("`l1_ttl`"));
        assert!(refused(StoreOptions::new().negative_ttl(Duration::ZERO)).contains("`negative_ttl`"));
        assert!(refused(StoreOptions::new().ttl(Duration::MAX)).contains("`ttl`"));
        assert!(refused(StoreOptions::new().ttl_jitter(1.0)).contains("`ttl_jitter`"));
        assert!(refused(StoreOptions::new().ttl_jitter(f64::NAN)).contains("`ttl_jitter`"));
        assert!(refused(StoreOptions::new().stale_for(Duration::MAX)).contains("`stale_for`"));
        assert!(refused(LoadOptions::new().lease_ttl(Duration::ZERO)).contains("`lease_ttl`"));
        assert!(refused(LoadOptions::new().load_timeout(Duration::ZERO)).contains("`load_timeout`"));
        assert!(refused(LoadOptions::new().soft_timeout(Duration::MAX)).contains("`soft_timeout`"));
        assert!(refused(LoadOptions::new().wait_timeout(Duration::MAX)).contains("`wait_timeout`"));
        assert!(refused(LoadOptions::new().error_ttl(Duration::MAX)).contains("`error_ttl`"));
        assert!(refused(LoadOptions::new().refresh_ahead(f64::NAN)).contains("`refresh_ahead`"));
        assert!(refused(LoadOptions::new().refresh_ahead(-1.0)).contains("`refresh_ahead`"));
        assert!(Options::default().validate().is_ok());
    }

    #[test]
    fn jitter_only_ever_shortens() {
        let options = StoreOptions::new().ttl(Duration::from_secs(100)).ttl_jitter(0.1);
        for _ in 0..1000 {
            let ttl = options.draw_term(false).ttl;
            assert!(ttl > Duration::from_secs(89) && ttl <= Duration::from_secs(100), "{ttl:?}");
        }
        assert_eq!(StoreOptions::new().draw_term(true).ttl, Duration::from_secs(30));
    }
}
