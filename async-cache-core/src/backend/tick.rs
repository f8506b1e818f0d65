//! Points in time of one process.

use std::hash::Hash;
use std::time::Duration;

/// A time on a cache's monotonic clock, in nanoseconds. Its zero is some decades before the cache was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// Later than any other.
    pub const MAX: Self = Self(u64::MAX);

    /// The point `span` later, or [`Tick::MAX`].
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
