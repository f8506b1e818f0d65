//! The pauses between attempts to connect.

use std::time::Duration;

use super::failure::Outage;
use crate::limits::{Pauses, backoff};

/// Pauses while only a change of settings helps. The node is not told of the change, so it goes on trying.
const REFUSED: Pauses = Pauses { first: Duration::from_millis(100), longest: Duration::from_secs(5) };

/// The failed attempts since the last connection.
pub(crate) struct Attempts {
    pauses: Pauses,
    failures: u32,
    /// How many of the last ones were refused.
    refusals: u32,
}

impl Attempts {
    /// `pauses` are those of an outage.
    pub(crate) fn new(pauses: Pauses) -> Self {
        Self { pauses, failures: 0, refusals: 0 }
    }

    /// The pause before the next attempt.
    pub(crate) fn pause(&self) -> Duration {
        match self.refusals {
            0 => backoff(self.failures, self.pauses),
            refusals => backoff(refusals, REFUSED),
        }
    }

    /// Notes an attempt that has failed.
    pub(crate) fn failed(&mut self, outage: &Outage) {
        self.failures = self.failures.saturating_add(1);
        self.refusals = if outage.lasting { self.refusals.saturating_add(1) } else { 0 };
    }

    /// Notes a connection that was lost before it was of use.
    pub(crate) fn lost(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.refusals = 0;
    }

    /// Notes a connection that is of use.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::new(self.pauses);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::cause::Cause;

    #[test]
    fn refused_attempts_are_repeated_less_and_less_often_and_others_are_not() {
        let outage = |lasting| Outage::failed(Cause::ours("x"), lasting);
        let short = Pauses { first: Duration::from_millis(10), longest: Duration::from_millis(20) };
        let mut attempts = Attempts::new(short);
        let mut longest_of = |lasting| {
            (0..50)
                .map(|_| {
                    attempts.failed(&outage(lasting));
                    attempts.pause()
                })
                .max()
                .unwrap()
        };
        assert!(longest_of(false) <= short.longest);
        let refused = longest_of(true);
        assert!(refused > Duration::from_secs(2) && refused <= REFUSED.longest, "{refused:?}");
        assert!(longest_of(false) <= short.longest);
    }
}
