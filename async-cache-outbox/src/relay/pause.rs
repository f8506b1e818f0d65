//! Pauses between attempts.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses that double up to a limit, each with a random part, so that instances do not try again at the same
/// moments.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    attempts: u32,
    until: Option<Instant>,
}

impl Pauses {
    /// The pause after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let limit = LONGEST.min(FIRST * (1 << self.attempts.min(10)));
        self.attempts = self.attempts.saturating_add(1);
        limit.mul_f64(0.5 + 0.5 * fastrand::f64())
    }

    /// Begins the next pause.
    pub(crate) fn begin(&mut self) {
        let pause = self.next();
        self.until = Some(Instant::now() + pause);
    }

    /// The time that is left of the pause.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// An attempt has succeeded.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit() {
        let mut pauses = Pauses::default();
        assert!(pauses.next() <= FIRST);
        (0..100).for_each(|_| assert!((FIRST / 2..=LONGEST).contains(&pauses.next())));
        assert!(pauses.next() >= LONGEST / 2);
        pauses.reset();
        assert!(pauses.next() <= FIRST);
    }
}
