//! The options of the verifier.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// Whether two values are equal.
type Same<V> = Arc<dyn Fn(&V, &V) -> bool + Send + Sync>;

/// What the verifier of a cache checks, and how often:
/// [`TieredCacheBuilder::verify`](crate::api::builder::TieredCacheBuilder::verify).
///
/// ```
/// # use async_cache_core::{TieredCache, Verify, Result}; use async_cache_memory::MemoryBackend;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// let prices: TieredCache<u64, f64> = TieredCache::builder()
///     .namespace("prices")
///     .l1(MemoryBackend::new(1_000))
///     .l2(MemoryBackend::new(10_000))
///     .verify(Verify::sample(0.01).per_second(20).same(|a, b| a == b))
///     .build()?;
/// # Ok(()) }
/// ```
pub struct Verify<V> {
    share: f64,
    pub(crate) per_second: u32,
    pub(crate) source: bool,
    pub(crate) same: Option<Same<V>>,
}

impl<V> Verify<V> {
    /// Checks this share of the hits in L1 against L2, after they were answered: above 0, and at most 1.
    #[must_use]
    pub fn sample(share: f64) -> Self {
        Self { share, per_second: 100, source: false, same: None }
    }

    /// Sets the highest number of checks in a second: 1 to 10,000. The default is 100. Each check reads L2 once.
    /// Hits beyond it are not checked.
    #[must_use]
    pub fn per_second(mut self, checks: u32) -> Self {
        self.per_second = checks;
        self
    }

    /// Sets how values are compared. By default their encoded bytes are compared, with the codec of L2. Types
    /// without one order, such as `HashMap`, need this option: equal values of them may have different bytes.
    #[must_use]
    pub fn same(mut self, same: impl Fn(&V, &V) -> bool + Send + Sync + 'static) -> Self {
        self.same = Some(Arc::new(same));
        self
    }

    /// Also checks against the source: a sampled lookup with a loader runs its own loader once more, in the
    /// background. If the answer differs from what the loader returns, and still answers after `max_staleness`,
    /// it is reported. This finds changes of the source for which nobody has invalidated the key.
    #[must_use]
    pub fn with_source(mut self) -> Self {
        self.source = true;
        self
    }

    pub(crate) fn validate(&self, has_l1: bool, has_l2: bool) -> Result<()> {
        let wrong = |message: &str| Err(Error::new(ErrorKind::Config, message));
        if !(self.share > 0.0 && self.share <= 1.0) {
            return wrong("option `verify`: the share of sampled hits must be above 0 and at most 1");
        }
        if !(1..=10_000).contains(&self.per_second) {
            return wrong("option `verify`: the number of checks per second must be from 1 to 10,000");
        }
        if !has_l1 {
            return wrong(
                "option `verify` has no effect without an L1, because it checks hits in L1: leave it out",
            );
        }
        if !has_l2 && !self.source {
            return wrong(
                "option `verify` has nothing to check against without an L2: add `.with_source()`, or leave `verify` out",
            );
        }
        if !has_l2 && self.same.is_none() {
            return wrong(
                "option `verify` cannot compare values without the codec of an L2: add `.same(|a, b| ..)`",
            );
        }
        Ok(())
    }

    /// The highest of 2³² random numbers that samples a hit.
    pub(crate) fn threshold(&self) -> u32 {
        // A share of 1 is rounded down to the highest number.
        (self.share * f64::from(u32::MAX)) as u32
    }
}

impl<V> fmt::Debug for Verify<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verify")
            .field("share", &self.share)
            .field("per_second", &self.per_second)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}
