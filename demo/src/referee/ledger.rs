//! Which versions were invalidated, when, and where.

use std::collections::HashMap;

use super::MAX_STALENESS;
use crate::clock::SECOND;

/// Longer than any read takes (its load is ended after 30 s, its wait for others after 10 s).
const LONGEST_READ: u64 = 60 * SECOND;

/// A history for each written product. It reaches back far enough for any read that may
/// still end; older entries are merged.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    histories: HashMap<u32, History>,
}

#[derive(Debug, Default)]
struct History {
    /// The highest version invalidated before those below.
    settled: u32,
    recent: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    version: u32,
    writer: u16,
    began: u64,
    at: u64,
}

/// The bounds that earlier invalidations set for a read of a product.
#[derive(Debug, Default)]
pub(crate) struct Known<'a> {
    /// The lowest version that a read may return.
    pub(crate) owed: u32,
    /// When the last of these invalidations returned.
    pub(crate) last: Option<u64>,
    before: &'a [Entry],
}

impl Known<'_> {
    /// When the first invalidation of a version above this one returned.
    pub(crate) fn first_above(&self, version: u32) -> Option<u64> {
        self.before.iter().find(|entry| entry.version > version).map(|entry| entry.at)
    }
}

impl Ledger {
    /// Notes an invalidation. It must be called in the order of time.
    pub(crate) fn invalidated(&mut self, product: u32, version: u32, writer: u16, (began, at): (u64, u64)) {
        let history = self.histories.entry(product).or_default();
        let old = at.saturating_sub(LONGEST_READ + MAX_STALENESS);
        let settled = history.recent.partition_point(|entry| entry.at < old);
        for entry in history.recent.drain(..settled) {
            history.settled = history.settled.max(entry.version);
        }
        history.recent.push(Entry { version, writer, began, at });
    }

    /// The bounds for a read that began at `start` on `reader`.
    pub(crate) fn at(&self, product: u32, start: u64, reader: u16) -> Known<'_> {
        let Some(history) = self.histories.get(&product) else { return Known::default() };
        let before = &history.recent[..history.recent.partition_point(|entry| entry.at < start)];
        let due = |entry: &&Entry| entry.writer == reader || entry.at + MAX_STALENESS < start;
        let owed = before.iter().filter(due).map(|entry| entry.version).fold(history.settled, u32::max);
        Known { owed, last: before.last().map(|entry| entry.at), before }
    }

    /// Whether a write to the product was under way at some time between the two.
    pub(crate) fn written_between(&self, product: u32, from: u64, to: u64) -> bool {
        let history = self.histories.get(&product);
        history
            .is_some_and(|history| history.recent.iter().any(|entry| entry.began <= to && entry.at >= from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_history_is_summed_up_and_loses_nothing() {
        let mut ledger = Ledger::default();
        for version in 1..=10_000_u32 {
            let at = u64::from(version) * SECOND / 10;
            ledger.invalidated(1, version, 0, (at, at));
        }
        let history = &ledger.histories[&1];
        assert!(history.recent.len() <= 611, "{}", history.recent.len());
        assert_eq!(ledger.at(1, 1000 * SECOND + 1, 0).owed, 10_000);
        assert_eq!(ledger.at(1, 1000 * SECOND + 1, 1).owed, 9_990);
        // A read of the longest possible duration.
        assert_eq!(ledger.at(1, 941 * SECOND, 1).owed, 9_399);
    }
}
