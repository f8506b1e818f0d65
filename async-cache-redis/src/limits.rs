//! The limits of the tier: deadlines, sizes of pipelines, spans and pauses.

use std::time::Duration;

/// The maximum number of keys in one pipeline. Each pipeline has the deadline of one command.
pub(crate) const PIPELINE_KEYS: usize = 512;
/// The maximum bytes of values in one pipeline. A larger value is sent alone.
const PIPELINE_BYTES: usize = 4 << 20;
/// The longest life of a value. Redis refuses expiries whose sum with its clock overflows.
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
    /// Reading a value, or asking for its lease. A lookup waits for it.
    Read,
    /// Changing what is stored.
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
    /// The longest first pause.
    pub(crate) first: Duration,
    /// The longest pause.
    pub(crate) longest: Duration,
}

/// A random pause up to a limit that doubles with every attempt. It is random so that nodes that lost the
/// same server do not connect at the same moments.
pub(crate) fn backoff(attempt: u32, pauses: Pauses) -> Duration {
    let limit = pauses.longest.min(pauses.first.saturating_mul(1 << attempt.min(16)));
    limit.mul_f64(0.2 + 0.8 * fastrand::f64())
}

/// A duration in milliseconds, at least 1.
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
