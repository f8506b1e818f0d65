//! The system's monotonic clock: where there is one, the clock that goes on while the machine is suspended.
//!
//! What a node had verified before a suspension has to lapse by it: other nodes go on changing values meanwhile.

use std::time::{Duration, Instant};

/// How much time has passed if the system no longer tells: enough for everything to have lapsed.
const AGES: Duration = Duration::from_secs(1 << 32);

/// Where a clock begins, and by that which one it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// A reading of the clock that goes on while the machine is suspended.
    Boot(Duration),
    /// A reading of the clock of Rust's library, where the other is unknown.
    Library(Instant),
}

impl Origin {
    pub(crate) fn here_and_now() -> Self {
        boot_time().map_or_else(|| Self::Library(Instant::now()), Self::Boot)
    }

    pub(crate) fn elapsed(self) -> Duration {
        match self {
            Self::Boot(origin) => boot_time().map_or(AGES, |now| now.saturating_sub(origin)),
            Self::Library(origin) => origin.elapsed(),
        }
    }
}

/// The clock that goes on while the machine is suspended: `None` where there is none.
#[inline]
fn boot_time() -> Option<Duration> {
    #[cfg(test)]
    if let Some(machine) = super::machine::injected() {
        return Some(machine.boot);
    }
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        #[cfg(not(target_vendor = "apple"))]
        let clock = nix::time::ClockId::CLOCK_BOOTTIME;
        // Apple's name for `mach_continuous_time`, which adjustments of the wall clock do not touch.
        #[cfg(target_vendor = "apple")]
        let clock = nix::time::ClockId::from_raw(nix::libc::CLOCK_MONOTONIC_RAW);
        clock.now().ok().map(Duration::from)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The kernel's word for it: `/proc/uptime` counts suspensions, in hundredths of a second.
    #[test]
    fn time_is_read_from_the_clock_that_counts_suspensions() {
        assert!(matches!(Origin::here_and_now(), Origin::Boot(_)));
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            Duration::from_secs_f64(text.split(' ').next().unwrap().parse().unwrap())
        };
        let hundredth = Duration::from_millis(11);
        let (before, now, after) = (uptime(), boot_time().unwrap(), uptime());
        assert!(before <= now && now <= after + hundredth, "{now:?} is not in {before:?} to {after:?}");
    }
}
