//! Time: one monotonic clock for each cache, and the server's clock relative to it.

mod counter;
mod server;
mod system;

use std::cell::Cell;
use std::sync::OnceLock;
#[cfg(any(feature = "testing", all(test, shuttle)))]
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::backend::Tick;
use crate::liveness::clock::counter::{counter, counter_is_steady};
use crate::liveness::clock::system::Origin;
pub(crate) use server::{ServerClock, ServerTime};

/// A cache's monotonic clock.
///
/// A hit reads it with [`coarse_now`](Self::coarse_now). All other code reads it with [`now`](Self::now).
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    source: Source,
    /// For how many ticks of the processor's counter [`coarse_now`](Self::coarse_now) reuses a reading: [`GLANCE`], or
    /// 0 if it always reads the clock.
    reading_lasts: u64,
    /// For how many ticks [`cached_now`](Self::cached_now), which hits call, reuses a reading. It is 0 if there is a
    /// verifier. Then each hit takes the longer path, where it may be sampled.
    hit_reading_lasts: u64,
}

#[derive(Debug, Clone)]
enum Source {
    /// The system's clock.
    System(Origin),
    /// Tokio's clock, so that a test can pause the time.
    Tokio(Instant),
    /// A number that a test sets.
    #[cfg(all(test, shuttle))]
    Hand(std::sync::Arc<crate::sync::AtomicU64>),
}

/// One reading of the system's clock is reused for this number of ticks of the processor's counter. That is about 0.1
/// ms. It is less than [`Clock::LAG`] if the counter is faster than 262 MHz. See [`counter_is_steady`] for the machines
/// where that holds.
///
/// Nothing is calibrated. The counter only shows whether time has passed since the reading. If it is faster or slower
/// than expected, or starts again from zero, only the lag changes. That is also true if the counter stands still while
/// the machine is suspended: a reading lasts for less time than the kernel needs to stop the processes and to wake
/// them.
const GLANCE: u64 = 1 << 18;

thread_local! {
    /// The counter at this thread's last reading of the system's clock, and the reading.
    static READING: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

impl Clock {
    /// The longest time by which [`coarse_now`](Self::coarse_now) and [`cached_now`](Self::cached_now) may lag.
    pub(crate) const LAG: Duration = Duration::from_millis(1);

    /// The time that the clock shows at its start. Values may be older than the node that reads them from L2.
    /// So there are 36 years of ticks before the start.
    const START: u64 = 1 << 60;

    pub(crate) fn start() -> Self {
        static ORIGIN: OnceLock<Origin> = OnceLock::new();
        #[cfg(all(test, shuttle))]
        if let Some(clock) = Self::by_hand() {
            return clock;
        }
        if governed_by_tokio() || tokio_stands_still() {
            return Self { source: Source::Tokio(Instant::now()), reading_lasts: 0, hit_reading_lasts: 0 };
        }
        // All clocks have one origin, because they share the readings.
        let origin = *ORIGIN.get_or_init(Origin::here_and_now);
        let reading_lasts = if counter_is_steady() { GLANCE } else { 0 };
        Self { source: Source::System(origin), reading_lasts, hit_reading_lasts: reading_lasts }
    }

    /// The time. It is never `Tick(0)`, which means "long ago".
    pub(crate) fn now(&self) -> Tick {
        let elapsed = match self.source {
            Source::System(origin) => origin.elapsed(),
            Source::Tokio(origin) => origin.elapsed(),
            #[cfg(all(test, shuttle))]
            Source::Hand(ref hand) => return Tick(hand.load(Ordering::SeqCst)),
        };
        Tick(Self::START + elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos()))
    }

    /// The time, or a time at most [`LAG`](Self::LAG) before it. It costs a third of [`now`](Self::now).
    #[inline]
    pub(crate) fn coarse_now(&self) -> Tick {
        match self.reading_lasts {
            0 => self.now(),
            lasts => glance(lasts).unwrap_or_else(|| self.read()),
        }
    }

    /// The time as of [`coarse_now`](Self::coarse_now), if that needs no function call.
    #[inline]
    pub(crate) fn cached_now(&self) -> Option<Tick> {
        glance(self.hit_reading_lasts)
    }

    /// The same clock for a node with a verifier: [`cached_now`](Self::cached_now) returns nothing.
    pub(crate) fn watched(self) -> Self {
        Self { hit_reading_lasts: 0, ..self }
    }

    #[cold]
    #[inline(never)]
    fn read(&self) -> Tick {
        // The counter is read first, so that a reading never seems younger than it is.
        let counted = counter();
        let now = self.now();
        READING.set((counted, now.0));
        now
    }
}

/// This thread's last reading of the system's clock, if it was made less than this number of ticks ago.
#[inline(always)]
fn glance(lasts: u64) -> Option<Tick> {
    let (read_at, reading) = READING.get();
    if counter().wrapping_sub(read_at) < lasts { Some(Tick(reading)) } else { None }
}

#[cfg(all(test, shuttle))]
impl Clock {
    /// The clock of a node whose threads a scheduler runs.
    fn by_hand() -> Option<Self> {
        let hand = std::sync::Arc::new(crate::sync::AtomicU64::new(Self::START));
        Some(Self { source: Source::Hand(hand), reading_lasts: 0, hit_reading_lasts: 0 })
    }

    pub(crate) fn advance(&self, span: Duration) {
        if let Source::Hand(hand) = &self.source {
            hand.fetch_add(span.as_nanos() as u64, Ordering::SeqCst);
        }
    }
}

#[cfg(feature = "testing")]
static REAL_TIME: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// From this call on, new caches of this process read the clock that they read without the feature `testing`.
/// The exception is a cache that is built while Tokio's time is paused. Use it for proofs about the shipped
/// code.
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

/// Whether Tokio's time is paused now. Only the time itself can show that.
fn tokio_stands_still() -> bool {
    let (before, start) = (Instant::now(), std::time::Instant::now());
    while start.elapsed() < Duration::from_micros(1) {}
    Instant::now() == before
}

/// A machine for tests: a test moves its clock and its counter. Each thread has its own.
#[cfg(test)]
mod machine {
    use std::cell::Cell;
    use std::time::Duration;

    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Machine {
        pub(crate) counter: u64,
        pub(crate) boot: Duration,
    }

    thread_local! {
        static INJECTED: Cell<Option<Machine>> = const { Cell::new(None) };
    }

    pub(crate) fn injected() -> Option<Machine> {
        INJECTED.get()
    }

    pub(crate) fn inject(machine: Machine) {
        INJECTED.set(Some(machine));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liveness::clock::machine::{Machine, inject};

    fn counted() -> Clock {
        Clock {
            source: Source::System(Origin::here_and_now()),
            reading_lasts: GLANCE,
            hit_reading_lasts: GLANCE,
        }
    }

    /// What a clock shows after an hour in which the machine was suspended, once its counter shows `resumed`,
    /// and what it showed before.
    fn over_a_suspension(resumed: u64) -> [Tick; 3] {
        const HOUR: Duration = Duration::from_secs(3600);
        let boot = Duration::from_secs(100);
        inject(Machine { counter: 10 * GLANCE, boot });
        let clock = counted();
        let before = clock.coarse_now();
        inject(Machine { counter: 11 * GLANCE - 1, boot: boot + Duration::from_micros(99) });
        assert_eq!(clock.cached_now(), Some(before), "a reading lasts as long as the counter says");
        inject(Machine { counter: resumed, boot: boot + HOUR });
        [before.after(HOUR), clock.now(), clock.coarse_now()]
    }

    #[test]
    fn a_suspension_of_the_machine_counts_whatever_its_counter_did() {
        // The counter went on; or it started anew; or it stood still, and has counted since for as long as a reading
        // lasts.
        for resumed in [10_000 * GLANCE, 77, 11 * GLANCE] {
            let [expected, now, glance] = over_a_suspension(resumed);
            assert_eq!((now, glance), (expected, expected), "{resumed}");
        }
        // The counter stood still, and has counted for less than that. Then only the coarse time may lag, until that
        // has passed.
        let [expected, now, _] = over_a_suspension(11 * GLANCE - 1);
        assert_eq!(now, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn paused_time_governs_the_clock() {
        assert!(tokio_stands_still());
        let clock = Clock::start();
        let before = (clock.now(), clock.coarse_now());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now().since(before.0), Duration::from_secs(5));
        assert_eq!(clock.coarse_now().since(before.1), Duration::from_secs(5));
    }

    #[cfg(target_arch = "x86_64")]
    #[tokio::test]
    async fn a_glance_keeps_up_and_never_runs_ahead() {
        assert!(!tokio_stands_still());
        let clock = counted();
        for _ in 0..100_000 {
            let (before, glance, after) = (clock.now(), clock.coarse_now(), clock.now());
            assert!(glance <= after, "{glance:?} at {after:?}");
            assert!(before <= glance.after(Clock::LAG), "{glance:?} at {before:?}");
        }
    }

    #[test]
    fn a_counter_that_starts_anew_is_noticed() {
        let clock = counted();
        READING.set((u64::MAX / 2, 7));
        assert!(clock.coarse_now().0 != 7);
    }
}
