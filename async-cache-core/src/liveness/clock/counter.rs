//! The processor's counter, and where it may be relied on.

use std::sync::OnceLock;

/// The processor's counter: what a hit costs besides is not worth a call of a function.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "the intrinsic is the only way to read it without a call")]
#[inline(always)]
pub(crate) fn counter() -> u64 {
    #[cfg(test)]
    if let Some(machine) = super::machine::injected() {
        return machine.counter;
    }
    // SAFETY: an instruction that every x86-64 processor has, without operands and without effects.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// No other processor's counter is trusted: see [`counter_is_steady`].
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn counter() -> u64 {
    #[cfg(test)]
    if let Some(machine) = super::machine::injected() {
        return machine.counter;
    }
    0
}

/// Whether the processor's counter is the same on all cores and counts above [`GLANCE`](super::GLANCE)'s limit.
///
/// A thread may move to another core between two glances. The kernel watches the counters, and keeps its
/// own clock by them only while they agree; elsewhere nobody vouches for them, or they count as slowly as 24 MHz.
/// A guest whose clock is its host's is told so by the processor: a counter that sleeps would make a reading
/// outlast its time.
pub(crate) fn counter_is_steady() -> bool {
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
