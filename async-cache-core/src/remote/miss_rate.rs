//! Which question comes first: for the value, or for the value or else the lease.
//!
//! A plain read costs Redis far less than a script, but a lookup for which it finds nothing needs the
//! script all the same. While most lookups end there (a cold fleet, keys that are asked for once), the
//! read is left out: who waits for a load then waits for one round trip less.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::local::approach::Reuse;

/// The share of lookups for which L2 has had nothing: a moving average, of the last [`SPAN`] or so.
#[derive(Debug, Default)]
pub(crate) struct MissRate(AtomicU32);

const ALL: u32 = 1 << 16;
const SPAN: u32 = 32;
/// A script for a value costs about ten times its read: what is saved must be the rule.
const MOST: u32 = ALL / 4 * 3;

impl MissRate {
    /// L2 had a value.
    pub(crate) fn found(&self) {
        let share = self.0.load(Ordering::Relaxed);
        self.0.store(share - share / SPAN, Ordering::Relaxed);
    }

    /// It had none, and a load was begun or waited for. A reload has not asked for one.
    pub(crate) fn missed(&self, reuse: Reuse) {
        if reuse == Reuse::Nothing {
            return;
        }
        let share = self.0.load(Ordering::Relaxed);
        self.0.store(share + (ALL - share) / SPAN, Ordering::Relaxed);
    }

    /// Whether to ask for the lease at once.
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
            rate.missed(Reuse::Cached);
            rate.skip_read()
        });
        assert!((20..60).contains(&turns.unwrap()), "{turns:?}");
        (0..1_000).for_each(|_| rate.missed(Reuse::Cached));
        let back = (1..).find(|_| {
            rate.found();
            !rate.skip_read()
        });
        assert!(back.unwrap() < 20, "{back:?}");
        (0..1_000).for_each(|i| if i % 2 == 0 { rate.found() } else { rate.missed(Reuse::Cached) });
        assert!(!rate.skip_read());
    }
}
