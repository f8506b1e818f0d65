//! What a campaign has found.

use std::fmt;
use std::time::Duration;

/// The figures of a campaign, and its violations.
#[derive(Debug, Default)]
pub struct Report {
    /// Transactions that were committed.
    pub committed: usize,
    /// Writers that were killed.
    pub writers_killed: usize,
    /// Relays that were killed.
    pub relays_killed: usize,
    /// Invalidations of transactions, repeated ones included.
    pub invalidations: usize,
    /// Committed transactions that were not invalidated.
    pub lost: Vec<i64>,
    /// Invalidations of transactions that were not committed at that moment.
    pub early: Vec<i64>,
    /// Items whose cached version is not that of the database.
    pub stale: Vec<i64>,
    /// Lookups that filled the cache meanwhile.
    pub lookups: u64,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.early.is_empty() && self.stale.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "transactions committed      {:>8}    in {:.1} s",
            self.committed,
            self.took.as_secs_f64()
        )?;
        writeln!(f, "writers killed              {:>8}", self.writers_killed)?;
        writeln!(f, "relays killed               {:>8}", self.relays_killed)?;
        writeln!(f, "invalidations               {:>8}    repeated ones included", self.invalidations)?;
        writeln!(f, "lookups meanwhile           {:>8}", self.lookups)?;
        writeln!(f, "commits not invalidated     {:>8}    {:?}", self.lost.len(), first(&self.lost))?;
        writeln!(f, "invalidated before a commit {:>8}    {:?}", self.early.len(), first(&self.early))?;
        writeln!(f, "stale items at the end      {:>8}    {:?}", self.stale.len(), first(&self.stale))
    }
}

fn first(all: &[i64]) -> &[i64] {
    &all[..all.len().min(5)]
}
