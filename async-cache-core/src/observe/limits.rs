//! The limit of warnings: a fault that repeats must not fill the log.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The most warnings of one kind that a cache logs in a [`WINDOW`].
pub(crate) const MOST: u32 = 10;

pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// The kinds of warnings. Each is limited on its own, so that one fault does not hide another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Warning {
    LoadFailed,
    NotEncoded,
    ChoiceAmended,
    L1Suspended,
    L2Lost,
    L2Refused,
    L2Failed,
    InvalidationPending,
    StaleHit,
}

const KINDS: usize = Warning::StaleHit as usize + 1;

/// The warnings of one cache.
#[derive(Debug, Default)]
pub(crate) struct Limits([Mutex<Window>; KINDS]);

#[derive(Debug, Default)]
struct Window {
    begun: Option<Instant>,
    logged: u32,
    suppressed: u64,
}

impl Limits {
    /// Whether to log a warning now. If so, returns how many of its kind were suppressed since the last one.
    pub(crate) fn admit(&self, warning: Warning) -> Option<u64> {
        self.admit_up_to(MOST, warning)
    }

    /// The same for a warning that most often only repeats another one. It is logged if none of its kind was logged
    /// in this window.
    pub(crate) fn admit_repetition(&self, warning: Warning) -> Option<u64> {
        self.admit_up_to(1, warning)
    }

    fn admit_up_to(&self, most: u32, warning: Warning) -> Option<u64> {
        let mut window = self.0[warning as usize].lock();
        let now = Instant::now();
        if window.begun.is_none_or(|begun| now.saturating_duration_since(begun) >= WINDOW) {
            window.begun = Some(now);
            window.logged = 0;
        }
        if window.logged >= most {
            window.suppressed += 1;
            return None;
        }
        window.logged += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_repetition_is_told_where_nothing_else_is() {
        let limits = Limits::default();
        assert_eq!(limits.admit(Warning::L2Failed), Some(0));
        assert_eq!(limits.admit_repetition(Warning::L2Failed), None);
        assert_eq!(limits.admit(Warning::L2Failed), Some(1), "a repetition takes no place of another");
        tokio::time::advance(WINDOW).await;
        assert_eq!(limits.admit_repetition(Warning::L2Failed), Some(0));
        assert_eq!(limits.admit_repetition(Warning::L2Failed), None);
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_limit_warnings_are_counted_and_told_with_the_next() {
        let limits = Limits::default();
        let admitted = (0..MOST + 7).filter_map(|_| limits.admit(Warning::LoadFailed)).sum::<u64>();
        assert_eq!(admitted, 0);
        assert_eq!(limits.admit(Warning::L2Lost), Some(0), "each kind has a limit of its own");
        tokio::time::advance(WINDOW).await;
        assert_eq!(limits.admit(Warning::LoadFailed), Some(7));
        assert_eq!(limits.admit(Warning::LoadFailed), Some(0));
    }
}
