//! The clock of L2's server, relative to the node's clock.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::backend::Tick;

/// The server's clock, as an offset to the node's clock. The wall clocks of the nodes are not used. The
/// expiry of a frame is written and read in the time of the server that expires it.
#[derive(Debug)]
pub(crate) struct ServerClock {
    offset_ms: AtomicI64,
    /// The least possible offset. It is the true one if the server read its clock just before its answer
    /// arrived.
    least_offset_ms: AtomicI64,
}

impl ServerClock {
    const UNKNOWN: i64 = i64::MIN;

    pub(crate) fn unknown() -> Self {
        Self { offset_ms: AtomicI64::new(Self::UNKNOWN), least_offset_ms: AtomicI64::new(Self::UNKNOWN) }
    }

    /// Notes a reading of the server's clock. It was requested at `sent` and arrived at `received`.
    pub(crate) fn observe(&self, server_ms: u64, sent: Tick, received: Tick) {
        let middle = sent.after(received.since(sent) / 2);
        // Both times are rounded down to milliseconds, which can make a difference of 1 ms.
        self.least_offset_ms.store(server_ms as i64 - to_ms(received) - 1, Ordering::Relaxed);
        // This is stored last, because it shows that both offsets are known.
        self.offset_ms.store(server_ms as i64 - to_ms(middle), Ordering::Release);
    }

    /// The server's time, or `None` before the first reading. Without it the end of a stored value cannot be
    /// judged.
    #[inline]
    pub(crate) fn known(&self) -> Option<ServerTime> {
        let (offset_ms, least_offset_ms) =
            (self.offset_ms.load(Ordering::Acquire), self.least_offset_ms.load(Ordering::Relaxed));
        (offset_ms != Self::UNKNOWN).then_some(ServerTime { offset_ms, least_offset_ms })
    }
}

/// The server's time. Only this type converts between the two clocks, so an unknown time cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerTime {
    offset_ms: i64,
    least_offset_ms: i64,
}

impl ServerTime {
    /// The time of a server whose clock shows zero at `now`. [`Mutant::TrustUnknownServerTime`] assumes that.
    ///
    /// [`Mutant::TrustUnknownServerTime`]: crate::faults::mutant::Mutant::TrustUnknownServerTime
    pub(crate) fn zero_at(now: Tick) -> Self {
        Self { offset_ms: -to_ms(now), least_offset_ms: -to_ms(now) }
    }

    /// The server's time at `now`.
    pub(crate) fn at(self, now: Tick) -> u64 {
        u64::try_from(to_ms(now) + self.offset_ms).unwrap_or(0)
    }

    /// A time that the server's clock has certainly reached at `now`.
    pub(crate) fn at_earliest(self, now: Tick) -> u64 {
        u64::try_from(to_ms(now) + self.least_offset_ms).unwrap_or(0)
    }

    /// Converts `server_ms`, a time on the server's clock, to the node's clock, which shows `now`. If that
    /// was before the node's clock began, the result is the earliest tick.
    #[inline]
    pub(crate) fn tick_at(self, server_ms: u64, now: Tick) -> Tick {
        const MS: u64 = 1_000_000;
        let shows = self.at(now);
        Tick(match server_ms >= shows {
            true => now.0.saturating_add((server_ms - shows).saturating_mul(MS)),
            false => now.0.saturating_sub((shows - server_ms).saturating_mul(MS)),
        })
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
        assert_eq!(clock.known(), None);
        clock.observe(1_000_000, Tick(0), Tick(20_000_000));
        let clock = clock.known().unwrap();
        assert_eq!(clock.at(Tick(10_000_000)), 1_000_000);
        assert_eq!(clock.at(Tick(60_000_000)), 1_000_050);
        assert_eq!(clock.tick_at(1_000_090, Tick(60_000_000)), Tick(100_000_000));
        assert_eq!(clock.tick_at(1_000_050, Tick(60_000_000)), Tick(60_000_000));
        assert_eq!(clock.tick_at(1_000_040, Tick(60_000_000)), Tick(50_000_000));
        assert_eq!(clock.tick_at(3, Tick(60_000_000)), Tick(0));
        // It may have been taken as late as at 20 ms: then it is 1,000,040 at 60 ms, or a rounding less.
        assert_eq!(clock.at_earliest(Tick(60_000_000)), 1_000_039);
    }
}
