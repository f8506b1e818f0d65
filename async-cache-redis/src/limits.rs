//! The limits of the tier: deadlines, sizes of pipelines, spans and pauses.

use std::time::Duration;

/// Keys in one pipeline. Each pipeline has the deadline of a command for itself.
pub(crate) const PIPELINE_KEYS: usize = 512;
/// Bytes of values in one pipeline. One larger value still goes, alone.
const PIPELINE_BYTES: usize = 4 << 20;
/// Longest life of a value: Redis refuses expiries whose sum with its clock overflows.
const MAX_LIFE: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// How long operations may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    pub(crate) read: Duration,
    pub(crate) write: Duration,
}

/// The purpose of an operation, which decides about its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To find a value, or the node whose turn it is to load it: a get waits for it.
    Read,
    /// To change stored state.
    Write,
}

impl Deadlines {
    pub(crate) fn of(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::Read => self.read,
            Purpose::Write => self.write,
        }
    }

    /// The deadline of commands that no caller waits for.
    pub(crate) fn longest(&self) -> Duration {
        self.read.max(self.write)
    }
}

/// Pauses between attempts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pauses {
    /// The longest first one.
    pub(crate) first: Duration,
    /// The longest of all.
    pub(crate) longest: Duration,
}

/// A random pause up to a limit that doubles with every attempt: nodes that lost the same server
/// must not come back in step.
pub(crate) fn backoff(attempt: u32, pauses: Pauses) -> Duration {
    let limit = pauses.longest.min(pauses.first.saturating_mul(1 << attempt.min(16)));
    limit.mul_f64(0.2 + 0.8 * fastrand::f64())
}

/// A span in the unit of Redis; at least one.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.min(MAX_LIFE).as_millis()).unwrap_or(u64::MAX).max(1)
}

/// How many values of these sizes go into one pipeline; at least one.
pub(crate) fn pipeline_len(sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fit = sizes.take(PIPELINE_KEYS).take_while(|size| {
        bytes += size;
        bytes <= PIPELINE_BYTES
    });
    fit.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelines_are_bounded_by_keys_and_by_bytes() {
        assert_eq!(pipeline_len([1; PIPELINE_KEYS + 1].into_iter()), PIPELINE_KEYS);
        assert_eq!(pipeline_len([PIPELINE_BYTES / 2, PIPELINE_BYTES / 2, 1].into_iter()), 2);
        assert_eq!(pipeline_len([PIPELINE_BYTES + 1, 1].into_iter()), 1);
    }

    #[test]
    fn pauses_grow_to_the_limit_and_never_vanish() {
        let pauses = Pauses { first: Duration::from_millis(50), longest: Duration::from_secs(1) };
        for attempt in 0..100 {
            let pause = backoff(attempt, pauses);
            assert!(pause >= Duration::from_millis(10) && pause <= pauses.longest, "{attempt}: {pause:?}");
        }
        assert!(backoff(0, pauses) <= pauses.first);
        assert!((0..50).any(|_| backoff(20, pauses) > Duration::from_millis(500)));
    }
}
