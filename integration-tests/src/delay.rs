//! How long threads were ready to run and did not: what a call may have taken longer for, on a machine
//! that has other things to do.

use std::fs;
use std::time::Duration;

/// Of the calling thread, since it began.
#[must_use]
pub fn of_this_thread() -> Duration {
    read("/proc/thread-self/schedstat")
}

/// Of the first thread of a process, since it began.
#[must_use]
pub fn of_process(id: u32) -> Duration {
    read(&format!("/proc/{id}/schedstat"))
}

/// Nothing where the kernel does not tell.
fn read(path: &str) -> Duration {
    let text = fs::read_to_string(path).unwrap_or_default();
    let nanos = text.split(' ').nth(1).and_then(|field| field.trim().parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}
