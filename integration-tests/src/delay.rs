//! The run delay: how long threads were ready to run and did not run. On a busy machine a call may take longer
//! by this time.

use std::fs;
use std::time::Duration;

/// The run delay of the calling thread since its start.
#[must_use]
pub fn of_this_thread() -> Duration {
    read("/proc/thread-self/schedstat")
}

/// The run delay of the first thread of a process since its start.
#[must_use]
pub fn of_process(id: u32) -> Duration {
    read(&format!("/proc/{id}/schedstat"))
}

/// Returns zero if the kernel does not report the run delay.
fn read(path: &str) -> Duration {
    let text = fs::read_to_string(path).unwrap_or_default();
    let nanos = text.split(' ').nth(1).and_then(|field| field.trim().parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}
