//! Queries for one row at the same time: what a cache is there to prevent.

use std::collections::{HashMap, VecDeque};

use super::ledger::Ledger;
use crate::clock::SECOND;

/// Longer than a write takes: by then it has been reported.
const LONGEST_WRITE: u64 = 5 * SECOND;

/// The queries under way, and those that began beside another.
///
/// A write that meets a query under way makes the next reader query again, rightly: the row may
/// have been read before the write. Without a write in between the second is a duplicate.
#[derive(Debug, Default)]
pub(crate) struct Overlaps {
    running: HashMap<u32, Vec<u64>>,
    /// Product, when the earlier query began, when the later one did. To be judged when the writes
    /// of that time are known.
    suspects: VecDeque<(u32, u64, u64)>,
}

impl Overlaps {
    /// Returns how many run for the product now.
    pub(super) fn began(&mut self, product: u32, at: u64) -> usize {
        let running = self.running.entry(product).or_default();
        if let Some(latest) = running.last() {
            self.suspects.push_back((product, *latest, at));
        }
        running.push(at);
        running.len()
    }

    pub(super) fn ended(&mut self, product: u32, began: u64) {
        let Some(running) = self.running.get_mut(&product) else { return };
        running.retain(|at| *at != began);
        if running.is_empty() {
            self.running.remove(&product);
        }
    }

    /// How many of the suspects of long enough ago were duplicates.
    pub(super) fn judge(&mut self, settled: u64, ledger: &Ledger) -> u64 {
        let mut duplicates = 0;
        while let Some(&(product, from, to)) = self.suspects.front() {
            if to.saturating_add(LONGEST_WRITE) > settled {
                break;
            }
            self.suspects.pop_front();
            duplicates += u64::from(!ledger.written_between(product, from, to));
        }
        duplicates
    }
}
