//! How long to wait before something that failed is tried again.

use std::time::Duration;

/// Longest pause after a refusal.
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses between attempts: always the same one while L2 is away, because it may be back at any time; and
/// ever longer ones while it refuses, because nothing but a change of its settings helps then. An attempt that
/// is refused costs it work all the same.
#[derive(Debug)]
pub(crate) struct Pauses {
    first: Duration,
    refusals: u32,
}

impl Pauses {
    pub(crate) fn new(first: Duration) -> Self {
        Self { first, refusals: 0 }
    }

    /// After an outage.
    pub(crate) fn short(&mut self) -> Duration {
        self.refusals = 0;
        self.first
    }

    /// After a refusal: as long as all pauses before, so that a right that is granted is noticed within twice
    /// the time it was missing. Nodes that were refused together do not ask again together.
    pub(crate) fn longer(&mut self) -> Duration {
        let pause = self.first.saturating_mul(1 << self.refusals.min(16)).min(LONGEST);
        self.refusals = self.refusals.saturating_add(1);
        pause.mul_f64(0.75 + 0.25 * fastrand::f64())
    }

    /// Nothing stands in the way any more.
    pub(crate) fn over(&mut self) {
        self.refusals = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_met_with_longer_pauses_and_outages_are_not() {
        let first = Duration::from_millis(100);
        let mut pauses = Pauses::new(first);
        let asked = (0..20).map(|_| pauses.longer()).take_while(|pause| *pause < Duration::from_secs(10));
        assert!(asked.count() <= 8);
        assert!((0..100).all(|_| pauses.longer() <= LONGEST));
        assert_eq!(pauses.short(), first);
        assert!(pauses.longer() <= first);
    }
}
