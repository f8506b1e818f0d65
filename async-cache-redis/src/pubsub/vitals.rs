//! Signs of life of the subscriber's connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Signs of life of the subscriber's connection.
///
/// A half-open socket looks like an idle one. But every heartbeat that succeeded on a command
/// connection has an echo on this one.
pub(crate) struct Vitals {
    base: Instant,
    /// When something was heard last, in µs since `base`.
    heard: AtomicU64,
    /// When the first heartbeat was sent whose echo is still due; 0 if none is due.
    unanswered: AtomicU64,
}

impl Vitals {
    pub(super) fn new() -> Self {
        Self { base: Instant::now(), heard: AtomicU64::new(0), unanswered: AtomicU64::new(0) }
    }

    /// The time in µs, never 0.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    /// Notes that something arrived.
    pub(crate) fn heard(&self) {
        self.heard.store(self.now(), Ordering::Relaxed);
        self.unanswered.store(0, Ordering::Relaxed);
    }

    /// Notes an answer to a PING. Echoes that are due stay due.
    pub(crate) fn answered(&self) {
        self.heard.store(self.now(), Ordering::Relaxed);
    }

    /// Notes that a heartbeat sent at `sent` has been executed.
    ///
    /// The echo may arrive before the answer; then no echo is due.
    pub(crate) fn pulse(&self, sent: u64) {
        if self.heard.load(Ordering::Relaxed) < sent {
            let _ = self.unanswered.compare_exchange(0, sent, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The time since something was heard last.
    pub(crate) fn silence(&self) -> Duration {
        Duration::from_micros(self.now().saturating_sub(self.heard.load(Ordering::Relaxed)))
    }

    /// How long a heartbeat has been waiting for its echo.
    pub(crate) fn overdue(&self) -> Duration {
        match self.unanswered.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_micros(self.now().saturating_sub(since)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_that_overtakes_the_answer_is_not_owed() {
        let vitals = Vitals::new();
        let sent = vitals.now();
        while vitals.now() == sent {}
        vitals.heard();
        vitals.pulse(sent);
        assert_eq!(vitals.overdue(), Duration::ZERO);

        while vitals.silence() == Duration::ZERO {}
        vitals.pulse(vitals.now());
        while vitals.overdue() == Duration::ZERO {}
        vitals.answered();
        assert_ne!(vitals.overdue(), Duration::ZERO, "an answered PING is no echo");
        vitals.heard();
        assert_eq!(vitals.overdue(), Duration::ZERO);
    }
}
