//! Decides whether a lookup first reads L2, or asks for the lease at once. That question returns a stored
//! value, too.
//!
//! A plain read costs Redis much less than a script. But a lookup needs the script, too, if the read finds
//! nothing. While most reads find nothing (the fleet is cold, or keys are requested only once), the read is
//! skipped. Then a lookup that loads waits for one round trip less.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::local::request::CacheMode;

/// The share of lookups for which L2 had no value. It is a moving average over about the last [`SPAN`]
/// lookups.
#[derive(Debug, Default)]
pub(crate) struct MissRate(AtomicU32);

const ALL: u32 = 1 << 16;
const SPAN: u32 = 32;
/// A script that returns a value costs about ten times a read. So the read is skipped only while most reads
/// find nothing.
const MOST: u32 = ALL / 4 * 3;

impl MissRate {
    /// L2 had a value.
    pub(crate) fn found(&self) {
        let share = self.0.load(Ordering::Relaxed);
        self.0.store(share - share / SPAN, Ordering::Relaxed);
    }

    /// L2 had no value, and a load began or was waited for. A reload is not counted, because it did not ask
    /// for a value.
    pub(crate) fn missed(&self, mode: CacheMode) {
        if mode == CacheMode::Reload {
            return;
        }
        let share = self.0.load(Ordering::Relaxed);
        self.0.store(share + (ALL - share) / SPAN, Ordering::Relaxed);
    }

    /// Whether to skip the read, and to ask for the lease at once.
    pub(crate) fn skip_read(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_turns_when_misses_are_the_rule_and_turn_back() {
        let rate = MissRate::default();
        let turns = (1..).find(|_| {
            rate.missed(CacheMode::Use);
            rate.skip_read()
        });
        assert!((20..60).contains(&turns.unwrap()), "{turns:?}");
        (0..1_000).for_each(|_| rate.missed(CacheMode::Use));
        let back = (1..).find(|_| {
            rate.found();
            !rate.skip_read()
        });
        assert!(back.unwrap() < 20, "{back:?}");
        (0..1_000).for_each(|i| if i % 2 == 0 { rate.found() } else { rate.missed(CacheMode::Use) });
        assert!(!rate.skip_read());
    }
}
