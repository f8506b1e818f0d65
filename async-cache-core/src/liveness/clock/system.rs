//! The system's monotonic clock. If the system has a clock that runs while the machine is suspended, that
//! clock is used.
//!
//! A suspension must end the serving lease, because other nodes change values meanwhile.

use std::time::{Duration, Instant};

/// The elapsed time if the system's clock fails. It is so long that everything has expired.
const AGES: Duration = Duration::from_secs(1 << 32);

/// The start of a clock. The variant also says which clock of the system it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// A reading of the clock that runs while the machine is suspended.
    Boot(Duration),
    /// A reading of the clock of Rust's standard library, if the other clock does not exist.
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

/// The clock that runs while the machine is suspended. `None` if there is no such clock.
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
        // Apple's name for `mach_continuous_time`. Adjustments of the wall clock do not change it.
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

    /// The kernel also counts suspensions in `/proc/uptime`, in hundredths of a second.
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
