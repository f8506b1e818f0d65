//! What can be set per cache, per call and per value.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::loaded::Choice;
use crate::tags::Collected;

/// Options of an entry. The cache has defaults; each call may differ.
#[derive(Debug, Clone, PartialEq)]
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
    /// How long past its expiry a value is kept as a fallback: see `stale_while_revalidate`,
    /// `stale_on_error` and `soft_timeout`. A cached absence is kept as long. Default 0.
    ///
    /// Only ever a value that has *expired*: one that was invalidated or replaced is gone.
    pub stale_for: Duration,
    /// With a stale value at hand, answer it at once and refresh behind it. Default false.
    pub stale_while_revalidate: bool,
    /// With a stale value at hand, answer it when the load fails or times out. Default true.
    pub stale_on_error: bool,
    /// Least time from a failed refresh to the next on this node: meanwhile the stale value answers those with
    /// `stale_on_error`, and nothing is loaded. Default 1 s.
    pub error_backoff: Duration,
    /// With a stale value at hand, answer it when the load takes longer than this; the load goes
    /// on. Default: wait for the load.
    pub soft_timeout: Option<Duration>,
    /// Refresh behind a lookup that finds a value about to expire, drawn at random so that one
    /// lookup of many does it: the eagerness β of XFetch. With 1, refreshing begins about as long
    /// before the expiry as loading takes, times the logarithm of the lookups meanwhile; more is
    /// earlier. Default: no refresh before expiry.
    pub refresh_ahead: Option<f64>,
    /// Hard limit on one load: the load is ended and everyone who waits gets
    /// [`ErrorKind::Timeout`]. Default 30 s.
    pub load_timeout: Duration,
    /// Life of the lease on a load, renewed while the load runs: how long other nodes wait for a
    /// node that died. Default 3 s.
    pub lease_ttl: Duration,
    /// How long to wait for other nodes' loads before loading here, uncached. Default 10 s.
    pub wait_timeout: Duration,
    pub(crate) tags: Collected,
}

impl Default for EntryOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            l1_ttl: None,
            ttl_jitter: 0.0,
            negative_ttl: Duration::from_secs(30),
            stale_for: Duration::ZERO,
            stale_while_revalidate: false,
            stale_on_error: true,
            error_backoff: Duration::from_secs(1),
            soft_timeout: None,
            refresh_ahead: None,
            load_timeout: Duration::from_secs(30),
            lease_ttl: Duration::from_secs(3),
            wait_timeout: Duration::from_secs(10),
            tags: Collected::default(),
        }
    }
}

/// Longest lifetime and longest limit: a hundred years, so that no sum of times overflows.
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
        for (name, span) in [
            ("stale_for", self.stale_for),
            ("error_backoff", self.error_backoff),
            ("soft_timeout", self.soft_timeout.unwrap_or_default()),
            ("wait_timeout", self.wait_timeout),
        ] {
            if span > MAX_LIFE {
                return wrong(name, "at most 100 years");
            }
        }
        if self.refresh_ahead.is_some_and(|eagerness| !(0.0..=100.0).contains(&eagerness)) {
            return wrong("refresh_ahead", "from 0 to 100");
        }
        if !(0.0..1.0).contains(&self.ttl_jitter) {
            return wrong("ttl_jitter", "a fraction from 0 to below 1");
        }
        if self.lease_ttl < 10 * millisecond || self.lease_ttl > Duration::from_secs(3600) {
            return wrong("lease_ttl", "from 10 ms to 1 hour");
        }
        self.tags.get().map(drop)
    }

    /// What a loader chose, where it did. Its tags are added.
    pub(crate) fn chosen(mut self, choice: &Choice) -> Self {
        self.tags.add_all(&choice.tags);
        self.ttl = choice.ttl.unwrap_or(self.ttl);
        self.l1_ttl = choice.l1_ttl.or(self.l1_ttl);
        self.stale_for = choice.stale_for.unwrap_or(self.stale_for);
        self.refresh_ahead = choice.refresh_ahead.or(self.refresh_ahead);
        self
    }

    /// How long a value or an absence is kept, jitter drawn.
    pub(crate) fn draw_term(&self, absent: bool) -> Term {
        let full = if absent { self.negative_ttl } else { self.ttl }.min(MAX_LIFE);
        let shortened =
            if self.ttl_jitter > 0.0 { full.mul_f64(1.0 - self.ttl_jitter * fastrand::f64()) } else { full };
        Term { ttl: shortened.max(Duration::from_millis(1)), stale_for: self.stale_for.min(MAX_LIFE) }
    }

    /// Δ·β: how far ahead of its expiry a value that took `cost` to load is refreshed, as a unit
    /// of the draw.
    pub(crate) fn ahead(&self, cost: Duration) -> Duration {
        self.refresh_ahead.map_or(Duration::ZERO, |eagerness| cost.mul_f64(eagerness))
    }
}

/// How long something is kept, decided once per fill and the same in all tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    /// Until it expires.
    pub(crate) ttl: Duration,
    /// From then on, as a fallback.
    pub(crate) stale_for: Duration,
}

impl Term {
    /// How long it is stored.
    pub(crate) fn kept(self) -> Duration {
        self.ttl + self.stale_for
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

        /// Sets how long past its expiry the value is kept as a fallback.
        pub fn stale_for(mut self, stale_for: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.stale_for = stale_for;
            self
        }

        /// Sets whether a stale value answers at once, and is refreshed behind the answer.
        pub fn stale_while_revalidate(mut self, stale_while_revalidate: bool) -> Self {
            let $this = &mut self;
            $options.stale_while_revalidate = stale_while_revalidate;
            self
        }

        /// Sets whether a stale value answers when the load fails or times out.
        pub fn stale_on_error(mut self, stale_on_error: bool) -> Self {
            let $this = &mut self;
            $options.stale_on_error = stale_on_error;
            self
        }

        /// Sets the least time from a failed refresh to the next.
        pub fn error_backoff(mut self, error_backoff: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.error_backoff = error_backoff;
            self
        }

        /// Sets how long to wait for a load with a stale value at hand.
        pub fn soft_timeout(mut self, soft_timeout: std::time::Duration) -> Self {
            let $this = &mut self;
            $options.soft_timeout = Some(soft_timeout);
            self
        }

        /// Refreshes ahead of expiry, with this eagerness (β of XFetch; 1 is a good start).
        pub fn refresh_ahead(mut self, eagerness: f64) -> Self {
            let $this = &mut self;
            $options.refresh_ahead = Some(eagerness);
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

        /// Adds a tag: [`invalidate_tag`](crate::TieredCache::invalidate_tag) voids every entry
        /// that has it. 1 to 128 bytes, at most 32 of them; a wrong one is an error of the call.
        pub fn tag(mut self, tag: impl AsRef<str>) -> Self {
            let $this = &mut self;
            $options.tags.add(tag.as_ref());
            self
        }

        /// Adds tags; see [`tag`](Self::tag).
        pub fn tags<T: AsRef<str>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
            let $this = &mut self;
            tags.into_iter().for_each(|tag| $options.tags.add(tag.as_ref()));
            self
        }
    };
}
pub(crate) use option_setters;

impl EntryOptions {
    option_setters!(|this| this);
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
        assert!(refused(EntryOptions::new().stale_for(Duration::MAX)).contains("`stale_for`"));
        assert!(refused(EntryOptions::new().soft_timeout(Duration::MAX)).contains("`soft_timeout`"));
        assert!(refused(EntryOptions::new().wait_timeout(Duration::MAX)).contains("`wait_timeout`"));
        assert!(refused(EntryOptions::new().refresh_ahead(f64::NAN)).contains("`refresh_ahead`"));
        assert!(refused(EntryOptions::new().refresh_ahead(-1.0)).contains("`refresh_ahead`"));
        assert!(EntryOptions::new().validate().is_ok());
    }

    #[test]
    fn jitter_only_ever_shortens() {
        let options = EntryOptions::new().ttl(Duration::from_secs(100)).ttl_jitter(0.1);
        for _ in 0..1000 {
            let ttl = options.draw_term(false).ttl;
            assert!(ttl > Duration::from_secs(89) && ttl <= Duration::from_secs(100), "{ttl:?}");
        }
        assert_eq!(EntryOptions::new().draw_term(true).ttl, Duration::from_secs(30));
    }
}
