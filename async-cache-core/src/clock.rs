//! Time: one monotonic clock per cache, and the server's clock as seen from it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::backend::Tick;

/// A cache's monotonic clock. It is Tokio's, so that paused time in a test governs expiry too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Never `Tick(0)`, which stands for "long ago".
    pub(crate) fn now(&self) -> Tick {
        let elapsed = Instant::now().saturating_duration_since(self.origin);
        Tick(elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos()) + 1)
    }
}

/// The shared tier's clock, as an offset to ours. Wall clocks of the nodes play no part: a frame's
/// expiry is written and read in the time of the server that expires it.
#[derive(Debug)]
pub(crate) struct ServerClock {
    offset_ms: AtomicI64,
    /// The offset if the last reading was taken just before it arrived: the least it can be.
    least_offset_ms: AtomicI64,
}

impl ServerClock {
    const UNKNOWN: i64 = i64::MIN;

    pub(crate) fn unknown() -> Self {
        Self { offset_ms: AtomicI64::new(Self::UNKNOWN), least_offset_ms: AtomicI64::new(Self::UNKNOWN) }
    }

    /// Takes a reading that was asked for at `sent` and arrived at `received`.
    pub(crate) fn observe(&self, server_ms: u64, sent: Tick, received: Tick) {
        let middle = sent.after(received.since(sent) / 2);
        self.offset_ms.store(server_ms as i64 - to_ms(middle), Ordering::Relaxed);
        // Both times are rounded down to milliseconds, which may make a difference of one.
        self.least_offset_ms.store(server_ms as i64 - to_ms(received) - 1, Ordering::Relaxed);
    }

    pub(crate) fn is_known(&self) -> bool {
        self.offset_ms.load(Ordering::Relaxed) != Self::UNKNOWN
    }

    /// The server's time at `now`. Zero before the first reading.
    pub(crate) fn at(&self, now: Tick) -> u64 {
        Self::shown(&self.offset_ms, now)
    }

    /// A time the server's clock is sure to have reached at `now`. Zero before the first reading.
    pub(crate) fn at_earliest(&self, now: Tick) -> u64 {
        Self::shown(&self.least_offset_ms, now)
    }

    fn shown(offset_ms: &AtomicI64, now: Tick) -> u64 {
        match offset_ms.load(Ordering::Relaxed) {
            Self::UNKNOWN => 0,
            offset => u64::try_from(to_ms(now) + offset).unwrap_or(0),
        }
    }

    /// The point on our clock, which shows `now`, at which the server's shows `server_ms`; the
    /// earliest there is if that was before our clock began.
    pub(crate) fn tick_at(&self, server_ms: u64, now: Tick) -> Tick {
        let shows = self.at(now);
        let ago = Duration::from_millis(shows.saturating_sub(server_ms));
        let ahead = Duration::from_millis(server_ms.saturating_sub(shows));
        Tick(now.after(ahead).0.saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX)))
    }
}

fn to_ms(tick: Tick) -> i64 {
    (tick.0 / 1_000_000) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_belongs_to_the_middle_of_its_round_trip() {
        let clock = ServerClock::unknown();
        assert!(!clock.is_known());
        clock.observe(1_000_000, Tick(0), Tick(20_000_000));
        assert_eq!(clock.at(Tick(10_000_000)), 1_000_000);
        assert_eq!(clock.at(Tick(60_000_000)), 1_000_050);
        assert_eq!(clock.tick_at(1_000_090, Tick(60_000_000)), Tick(100_000_000));
        assert_eq!(clock.tick_at(1_000_050, Tick(60_000_000)), Tick(60_000_000));
        assert_eq!(clock.tick_at(1_000_040, Tick(60_000_000)), Tick(50_000_000));
        assert_eq!(clock.tick_at(3, Tick(60_000_000)), Tick(0));
        // It may have been taken as late as at 20 ms: then it is 1,000,040 at 60 ms, or a rounding less.
        assert_eq!(clock.at_earliest(Tick(60_000_000)), 1_000_039);
    }

    #[tokio::test(start_paused = true)]
    async fn paused_time_governs_the_clock() {
        let clock = Clock::start();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now().since(before), Duration::from_secs(5));
    }
}
