//! The limit of warnings: a fault that repeats must not fill the log.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The most warnings of one kind that are logged in a [`WINDOW`].
const MOST: u32 = 10;

const WINDOW: Duration = Duration::from_secs(60);

/// The warnings of one cache, or of another part that logs. A kind is a number below `KINDS`. Each is limited on its own, so
/// that one fault does not hide another.
#[derive(Debug)]
pub struct Limits<const KINDS: usize>([Mutex<Window>; KINDS]);

impl<const KINDS: usize> Default for Limits<KINDS> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

#[derive(Debug, Default)]
struct Window {
    begun: Option<Instant>,
    logged: u32,
    suppressed: u64,
}

impl<const KINDS: usize> Limits<KINDS> {
    /// Whether to log a warning now. If so, returns how many of its kind were suppressed since the last one.
    pub fn admit(&self, kind: usize) -> Option<u64> {
        self.admit_up_to(MOST, kind)
    }

    /// The same for a warning that most often only repeats another one. It is logged if none of its kind was logged
    /// in this window.
    pub fn admit_repetition(&self, kind: usize) -> Option<u64> {
        self.admit_up_to(1, kind)
    }

    fn admit_up_to(&self, most: u32, kind: usize) -> Option<u64> {
        let mut window = self.0[kind].lock();
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
        let limits = Limits::<2>::default();
        assert_eq!(limits.admit(0), Some(0));
        assert_eq!(limits.admit_repetition(0), None);
        assert_eq!(limits.admit(0), Some(1), "a repetition takes no place of another");
        tokio::time::advance(WINDOW).await;
        assert_eq!(limits.admit_repetition(0), Some(0));
        assert_eq!(limits.admit_repetition(0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_limit_warnings_are_counted_and_told_with_the_next() {
        let limits = Limits::<2>::default();
        let admitted = (0..MOST + 7).filter_map(|_| limits.admit(0)).sum::<u64>();
        assert_eq!(admitted, 0);
        assert_eq!(limits.admit(1), Some(0), "each kind has a limit of its own");
        tokio::time::advance(WINDOW).await;
        assert_eq!(limits.admit(0), Some(7));
        assert_eq!(limits.admit(0), Some(0));
    }
}
