//! The processor's counter, and the machines on which it is reliable.

use std::sync::OnceLock;

/// Reads the processor's counter. A function call would cost too much compared with the rest of a hit.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "the intrinsic is the only way to read it without a call")]
#[inline(always)]
pub(crate) fn counter() -> u64 {
    #[cfg(test)]
    if let Some(machine) = super::machine::injected() {
        return machine.counter;
    }
    // SAFETY: every x86-64 processor has this instruction. It has no operands and no effects.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// A placeholder: the counters of other processors are not used, see [`counter_is_steady`].
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn counter() -> u64 {
    #[cfg(test)]
    if let Some(machine) = super::machine::injected() {
        return machine.counter;
    }
    0
}

/// Whether the processor's counter is equal on all cores and counts faster than [`GLANCE`](super::GLANCE)
/// requires.
///
/// A thread may move to another core between two readings of the counter. The Linux kernel watches the
/// counters, and bases its own clock on them only while they agree. On other systems nothing guarantees that,
/// or the counters run as slowly as 24 MHz. In a virtual machine the clock comes from the host. There the
/// processor must report that the counter never stops, because with a stopped counter a reading would be used
/// too long.
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
