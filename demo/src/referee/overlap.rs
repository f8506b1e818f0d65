//! Concurrent queries for one row, which a cache should prevent.

use std::collections::{HashMap, VecDeque};

use super::ledger::Ledger;
use crate::clock::SECOND;
use crate::events::Read;

/// Longer than a write takes: by then it has been reported.
const LONGEST_WRITE: u64 = 5 * SECOND;
/// Longer than a query takes: its load is ended after 30 s.
const LONGEST_QUERY: u64 = 31 * SECOND;

/// The queries under way, and those that began during another.
///
/// If a write meets a query under way, the next reader correctly queries again, because the row may
/// have been read before the write. Without a write in between the second query is a duplicate.
///
/// "In between" starts with the read that led to the earlier query: 1. the read gets the lease; 2. a
/// write breaks the lease; 3. the read's query begins, for this read alone; 4. another reader correctly gets the lease.
#[derive(Debug, Default)]
pub(crate) struct Overlaps {
    running: HashMap<u32, Vec<u64>>,
    /// Product, start of the earlier query, start of the later one. They are judged when the writes
    /// of that time are known.
    suspects: VecDeque<(u32, u64, u64)>,
    /// Reads that led to a query: product, start, end.
    leads: VecDeque<(u32, u64, u64)>,
}

impl Overlaps {
    /// Returns how many queries for the product are running.
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

    pub(super) fn led(&mut self, read: &Read) {
        self.leads.push_back((read.product, read.start, read.end));
    }

    /// The start of the read that led to the query that began at `began`.
    fn start_of_lead(&self, product: u32, began: u64) -> u64 {
        let leads = self.leads.iter().filter(|(of, ..)| *of == product);
        let around = leads.filter(|(_, start, end)| (*start..=*end).contains(&began));
        around.map(|(_, start, _)| *start).min().unwrap_or(began)
    }

    /// How many of the suspects that are old enough were duplicates.
    pub(super) fn judge(&mut self, settled: u64, ledger: &Ledger) -> u64 {
        let mut duplicates = 0;
        while let Some(&(product, from, to)) = self.suspects.front() {
            if to.saturating_add(LONGEST_WRITE) > settled {
                break;
            }
            self.suspects.pop_front();
            let from = self.start_of_lead(product, from);
            duplicates += u64::from(!ledger.written_between(product, from, to));
        }
        let old = settled.saturating_sub(LONGEST_WRITE + LONGEST_QUERY);
        while self.leads.front().is_some_and(|(.., end)| *end < old) {
            self.leads.pop_front();
        }
        duplicates
    }
}
