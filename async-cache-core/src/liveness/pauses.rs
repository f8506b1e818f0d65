//! The pause before a failed attempt is repeated.

use std::time::Duration;

/// The longest pause after a refusal.
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses between attempts. In an outage all pauses are equal, because L2 may come back at any time. While L2
/// refuses, each pause is longer than the one before. Only a change of L2's settings helps then, and each
/// refused attempt costs L2 work.
#[derive(Debug)]
pub(crate) struct Pauses {
    first: Duration,
    refusals: u32,
}

impl Pauses {
    pub(crate) fn new(first: Duration) -> Self {
        Self { first, refusals: 0 }
    }

    /// The pause after an outage.
    pub(crate) fn short(&mut self) -> Duration {
        self.refusals = 0;
        self.first
    }

    /// The pause after a refusal. It is as long as all pauses before it together. So the node notices a new
    /// permission after at most twice the time for which the permission was missing. The pauses are spread,
    /// so that nodes that were refused together do not try again together.
    pub(crate) fn longer(&mut self) -> Duration {
        let pause = self.first.saturating_mul(1 << self.refusals.min(16)).min(LONGEST);
        self.refusals = self.refusals.saturating_add(1);
        pause.mul_f64(0.75 + 0.25 * fastrand::f64())
    }

    /// Notes a success.
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
