//! What can be set per cache, per call and per value.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// Options of an entry. The cache has defaults; each call may differ.
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use = "options do nothing until they are given to a cache"]
#[non_exhaustive]
pub struct EntryOptions {
    /// Lifetime of a value. Default 5 minutes.
    pub ttl: Duration,
    /// Cap on the lifetime in L1. Default: as long as `ttl`.
    pub l1_ttl: Option<Duration>,
    /// Fraction of the lifetime, from 0 to below 1, by which it is shortened at random, once per
    /// fill, so that values written together do not expire together. Default 0.
    pub ttl_jitter: f64,
    /// Lifetime of a cached absence. Default 30 s.
    pub negative_ttl: Duration,
    /// Hard limit on one load: the load is ended and everyone who waits gets
    /// [`ErrorKind::Timeout`]. Default 30 s.
    pub load_timeout: Duration,
    /// Life of the lease on a load, renewed while the load runs: how long other nodes wait for a
    /// node that died. Default 3 s.
    pub lease_ttl: Duration,
    /// How long to wait for other nodes' loads before loading here, uncached. Default 10 s.
    pub wait_timeout: Duration,
}

impl Default for EntryOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            l1_ttl: None,
            ttl_jitter: 0.0,
            negative_ttl: Duration::from_secs(30),
            load_timeout: Duration::from_secs(30),
            lease_ttl: Duration::from_secs(3),
            wait_timeout: Duration::from_secs(10),
        }
    }
}

/// Longest lifetime of an entry: a hundred years, so that no sum of times overflows.
const MAX_LIFE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl EntryOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let wrong = |name: &str, wish: &str| {
            Err(Error::new(ErrorKind::Config, format!("option `{name}` must be {wish}")))
        };
        let millisecond = Duration::from_millis(1);
        for (name, span) in [
            ("ttl", self.ttl),
            ("l1_ttl", self.l1_ttl.unwrap_or(self.ttl)),
            ("negative_ttl", self.negative_ttl),
            ("load_timeout", self.load_timeout),
        ] {
            if span < millisecond {
                return wrong(
                    name,
                    "at least 1 ms; zero would cache nothing: leave the call uncached instead",
                );
            }
            if span > MAX_LIFE {
                return wrong(name, "at most 100 years");
            }
        }
        if !(0.0..1.0).contains(&self.ttl_jitter) {
            return wrong("ttl_jitter", "a fraction from 0 to below 1");
        }
        if self.lease_ttl < 10 * millisecond || self.lease_ttl > Duration::from_secs(3600) {
            return wrong("lease_ttl", "from 10 ms to 1 hour");
        }
        Ok(())
    }

    /// The lifetime of a value (`chosen` by its loader, or else by these options) or of an
    /// absence, jitter drawn.
    pub(crate) fn draw_life(&self, absent: bool, chosen: Option<Duration>) -> Duration {
        let full = chosen.unwrap_or(if absent { self.negative_ttl } else { self.ttl }).min(MAX_LIFE);
        let shortened =
            if self.ttl_jitter > 0.0 { full.mul_f64(1.0 - self.ttl_jitter * fastrand::f64()) } else { full };
        shortened.max(Duration::from_millis(1))
    }
}

/// Setters for every field of [`EntryOptions`], on whatever holds one.
macro_rules! option_setters {
    (|$this:ident| $options:expr) => {
        /// Sets the lifetime of the value.
        pub fn ttl(mut self, ttl: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.ttl = ttl;
            self
        }

        /// Caps the lifetime in L1.
        pub fn l1_ttl(mut self, l1_ttl: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.l1_ttl = Some(l1_ttl);
            self
        }

        /// Shortens each lifetime at random by up to this fraction (0 to below 1).
        pub fn ttl_jitter(mut self, fraction: f64) -> Self {
            let $this = &mut self;
            $options.ttl_jitter = fraction;
            self
        }

        /// Sets the lifetime of a cached absence.
        pub fn negative_ttl(mut self, negative_ttl: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.negative_ttl = negative_ttl;
            self
        }

        /// Sets the hard limit on one load.
        pub fn load_timeout(mut self, load_timeout: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.load_timeout = load_timeout;
            self
        }

        /// Sets the life of the lease on a load.
        pub fn lease_ttl(mut self, lease_ttl: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.lease_ttl = lease_ttl;
            self
        }

        /// Sets how long to wait for other nodes' loads.
        pub fn wait_timeout(mut self, wait_timeout: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.wait_timeout = wait_timeout;
            self
        }
    };
}
pub(crate) use option_setters;

impl EntryOptions {
    option_setters!(|this| this);
}

/// What a loader gives: a value, and what it knows about caching it.
///
/// A loader may return the plain value instead.
#[derive(Debug, Clone)]
pub struct Loaded<V> {
    pub(crate) value: V,
    pub(crate) ttl: Option<Duration>,
    pub(crate) keep: Keep,
}

/// Whether a loaded value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Cached,
    Uncached,
}

impl<V> Loaded<V> {
    /// A value to be cached as the call says.
    pub fn new(value: V) -> Self {
        Self { value, ttl: None, keep: Keep::Cached }
    }

    /// Sets the lifetime of this value.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Returns the value to everyone who waits, and stores it nowhere.
    #[must_use]
    pub fn uncached(mut self) -> Self {
        self.keep = Keep::Uncached;
        self
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

/// What a cache does while its shared tier cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Outage {
    /// L1 entries live out their time, unverified; the rest is loaded. The bound on staleness is
    /// suspended meanwhile, and [`Stats::l1_suspended`](crate::Stats::l1_suspended) says so.
    #[default]
    ServeL1,
    /// Everything is loaded: nothing unverified is served.
    Load,
    /// Everything that cannot be verified is an error of kind [`ErrorKind::Backend`].
    Fail,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_by_name() {
        let refused = |options: EntryOptions| options.validate().unwrap_err().to_string();
        assert!(refused(EntryOptions::new().ttl(Duration::ZERO)).contains("`ttl`"));
        assert!(refused(EntryOptions::new().l1_ttl(Duration::ZERO)).contains("`l1_ttl`"));
        assert!(refused(EntryOptions::new().negative_ttl(Duration::ZERO)).contains("`negative_ttl`"));
        assert!(refused(EntryOptions::new().ttl(Duration::MAX)).contains("`ttl`"));
        assert!(refused(EntryOptions::new().ttl_jitter(1.0)).contains("`ttl_jitter`"));
        assert!(refused(EntryOptions::new().ttl_jitter(f64::NAN)).contains("`ttl_jitter`"));
        assert!(refused(EntryOptions::new().lease_ttl(Duration::ZERO)).contains("`lease_ttl`"));
        assert!(EntryOptions::new().validate().is_ok());
    }

    #[test]
    fn jitter_only_ever_shortens() {
        let options = EntryOptions::new().ttl(Duration::from_secs(100)).ttl_jitter(0.1);
        for _ in 0..1000 {
            let life = options.draw_life(false, None);
            assert!(life > Duration::from_secs(89) && life <= Duration::from_secs(100), "{life:?}");
        }
        assert_eq!(EntryOptions::new().draw_life(true, None), Duration::from_secs(30));
    }
}
