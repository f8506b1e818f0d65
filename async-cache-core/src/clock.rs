//! Time: one monotonic clock per cache, and the server's clock as seen from it.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::backend::Tick;

/// A cache's monotonic clock.
///
/// A hit reads it at a [`glance`](Self::glance), everything else [`now`](Self::now).
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    origin: Instant,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// The system's.
    System,
    /// The same, at a glance read through the processor's counter.
    Counted,
    /// Tokio's, so that its paused time governs a test.
    Tokio,
    /// A number, moved by hand.
    #[cfg(all(test, shuttle))]
    Hand(std::sync::Arc<crate::sync::AtomicU64>),
}

/// How many ticks of the processor's counter a glance reuses one reading of the system's clock for:
/// 0.1 ms or so, and less than [`Clock::LAG`] on whatever counts faster than 262 MHz.
/// See [`counter_is_steady`] for where that holds.
///
/// Nothing is calibrated: the counter only says whether time has moved on since the reading. One
/// that turns out faster or slower, or starts anew, shifts by how much a glance lags, and no
/// further.
const GLANCE: u64 = 1 << 18;

thread_local! {
    /// The counter at the last reading of the system's clock on this thread, and the reading.
    static READING: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

impl Clock {
    /// How far a glance may lag behind.
    pub(crate) const LAG: Duration = Duration::from_millis(1);

    /// What it shows at its start. Values are older than the node that reads them from L2: there
    /// are 36 years of ticks before it for that.
    const START: u64 = 1 << 60;

    pub(crate) fn start() -> Self {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        #[cfg(all(test, shuttle))]
        if let Some(clock) = Self::by_hand() {
            return clock;
        }
        if governed_by_tokio() || tokio_stands_still() {
            return Self { origin: Instant::now(), source: Source::Tokio };
        }
        // One origin for all, for they share the readings.
        let origin = *ORIGIN.get_or_init(|| std::time::Instant::now().into());
        let source = if counter_is_steady() { Source::Counted } else { Source::System };
        Self { origin, source }
    }

    /// The time. Never `Tick(0)`, which stands for "long ago".
    pub(crate) fn now(&self) -> Tick {
        let now = match self.source {
            Source::System | Source::Counted => std::time::Instant::now().into(),
            Source::Tokio => Instant::now(),
            #[cfg(all(test, shuttle))]
            Source::Hand(ref hand) => return Tick(hand.load(Ordering::SeqCst)),
        };
        let elapsed = now.saturating_duration_since(self.origin);
        Tick(Self::START + elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos()))
    }

    /// The time, or a moment at most [`LAG`](Self::LAG) before it: for a third of the price.
    #[inline]
    pub(crate) fn glance(&self) -> Tick {
        match self.source {
            Source::Counted => self.glimpse().unwrap_or_else(|| self.read()),
            _ => self.now(),
        }
    }

    /// A glance, if that takes no call.
    #[inline]
    pub(crate) fn glimpse(&self) -> Option<Tick> {
        let Source::Counted = self.source else { return None };
        let (read_at, reading) = READING.get();
        if counter().wrapping_sub(read_at) < GLANCE { Some(Tick(reading)) } else { None }
    }

    #[cold]
    #[inline(never)]
    fn read(&self) -> Tick {
        // The counter first: a reading is never taken for younger than it is.
        let counted = counter();
        let now = self.now();
        READING.set((counted, now.0));
        now
    }
}

#[cfg(all(test, shuttle))]
impl Clock {
    /// The clock of a node whose threads are scheduled.
    fn by_hand() -> Option<Self> {
        let hand = std::sync::Arc::new(crate::sync::AtomicU64::new(Self::START));
        Some(Self { origin: Instant::now(), source: Source::Hand(hand) })
    }

    pub(crate) fn advance(&self, span: Duration) {
        if let Source::Hand(hand) = &self.source {
            hand.fetch_add(span.as_nanos() as u64, Ordering::SeqCst);
        }
    }
}

#[cfg(feature = "testing")]
static REAL_TIME: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Caches built from here on in this process read the clock that they read without the feature
/// `testing`, unless Tokio's time is paused then: for proofs that are to be about what is shipped.
#[cfg(feature = "testing")]
pub fn real_time() {
    REAL_TIME.store(true, Ordering::Relaxed);
}

/// Whether Tokio's time may be paused after a cache is built.
fn governed_by_tokio() -> bool {
    #[cfg(feature = "testing")]
    return !REAL_TIME.load(Ordering::Relaxed);
    #[cfg(not(feature = "testing"))]
    false
}

/// The processor's counter: what a hit costs besides is not worth a call of a function.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "the intrinsic is the only way to read it without a call")]
#[inline(always)]
fn counter() -> u64 {
    // SAFETY: an instruction that every x86-64 processor has, without operands and without effects.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// No other processor's counter is trusted: see [`counter_is_steady`].
#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    0
}

/// Whether the processor's counter is the same on all cores and counts above [`GLANCE`]'s limit.
///
/// A thread may move to another core between two glances. The kernel watches the counters, and keeps its
/// own clock by them only while they agree; elsewhere nobody vouches for them, or they count as slowly as 24 MHz.
/// A guest whose clock is its host's is told so by the processor: a counter that sleeps would make a reading
/// outlast its time.
fn counter_is_steady() -> bool {
    static STEADY: OnceLock<bool> = OnceLock::new();
    *STEADY.get_or_init(|| {
        const KERNEL: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        let read = |file| std::fs::read_to_string(file).unwrap_or_default();
        let never_stops = || {
            let processor = read("/proc/cpuinfo");
            let has = |flag| processor.split_whitespace().any(|word| word == flag);
            has("constant_tsc") && has("nonstop_tsc")
        };
        cfg!(all(target_os = "linux", target_arch = "x86_64"))
            && match read(KERNEL).trim() {
                "tsc" => true,
                "kvm-clock" | "hyperv_clocksource_tsc_page" => never_stops(),
                _ => false,
            }
    })
}

/// Whether Tokio's time is paused here. There is nothing to ask but the time itself.
fn tokio_stands_still() -> bool {
    let (before, start) = (Instant::now(), std::time::Instant::now());
    while start.elapsed() < Duration::from_micros(1) {}
    Instant::now() == before
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
        // Both times are rounded down to milliseconds, which may make a difference of one.
        self.least_offset_ms.store(server_ms as i64 - to_ms(received) - 1, Ordering::Relaxed);
        // Last: it tells that both are known.
        self.offset_ms.store(server_ms as i64 - to_ms(middle), Ordering::Release);
    }

    /// What is known of it; nothing before the first reading, and then nothing can be said of when a stored
    /// value ends.
    pub(crate) fn known(&self) -> Option<ServerTime> {
        let (offset_ms, least_offset_ms) =
            (self.offset_ms.load(Ordering::Acquire), self.least_offset_ms.load(Ordering::Relaxed));
        (offset_ms != Self::UNKNOWN).then_some(ServerTime { offset_ms, least_offset_ms })
    }
}

/// The server's time, as far as it is known. Only this converts between the two clocks, so that a time which
/// is not known cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerTime {
    offset_ms: i64,
    least_offset_ms: i64,
}

impl ServerTime {
    /// As if the server's clock showed zero at `now`: what [`Mutant::TrustUnknownServerTime`] believes.
    ///
    /// [`Mutant::TrustUnknownServerTime`]: crate::coherence::Mutant::TrustUnknownServerTime
    pub(crate) fn zero_at(now: Tick) -> Self {
        Self { offset_ms: -to_ms(now), least_offset_ms: -to_ms(now) }
    }

    /// The server's time at `now`.
    pub(crate) fn at(self, now: Tick) -> u64 {
        u64::try_from(to_ms(now) + self.offset_ms).unwrap_or(0)
    }

    /// A time the server's clock is sure to have reached at `now`.
    pub(crate) fn at_earliest(self, now: Tick) -> u64 {
        u64::try_from(to_ms(now) + self.least_offset_ms).unwrap_or(0)
    }

    /// The point on our clock, which shows `now`, at which the server's shows `server_ms`; the
    /// earliest there is if that was before our clock began.
    pub(crate) fn tick_at(self, server_ms: u64, now: Tick) -> Tick {
        const MS: u64 = 1_000_000;
        let shows = self.at(now);
        let (ahead, ago) = (server_ms.saturating_sub(shows), shows.saturating_sub(server_ms));
        Tick(now.0.saturating_add(ahead.saturating_mul(MS)).saturating_sub(ago.saturating_mul(MS)))
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

    #[tokio::test(start_paused = true)]
    async fn paused_time_governs_the_clock() {
        assert!(tokio_stands_still());
        let clock = Clock::start();
        let before = (clock.now(), clock.glance());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now().since(before.0), Duration::from_secs(5));
        assert_eq!(clock.glance().since(before.1), Duration::from_secs(5));
    }

    #[cfg(target_arch = "x86_64")]
    #[tokio::test]
    async fn a_glance_keeps_up_and_never_runs_ahead() {
        assert!(!tokio_stands_still());
        let clock = Clock { origin: std::time::Instant::now().into(), source: Source::Counted };
        for _ in 0..100_000 {
            let (before, glance, after) = (clock.now(), clock.glance(), clock.now());
            assert!(glance <= after, "{glance:?} at {after:?}");
            assert!(before <= glance.after(Clock::LAG), "{glance:?} at {before:?}");
        }
    }

    #[test]
    fn a_counter_that_starts_anew_is_noticed() {
        let clock = Clock { origin: std::time::Instant::now().into(), source: Source::Counted };
        READING.set((u64::MAX / 2, 7));
        assert!(clock.glance().0 != 7);
    }
}
