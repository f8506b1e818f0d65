//! What a node knows of how far each partition has come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The highest sequence number of each partition that a node has met: in an answer, in a message, in
/// a stamp. Clones are one and the same.
///
/// A backend sends it along with every operation but plain reads. Memory whose sequence is below
/// it is older than what was answered before, whichever server process it belongs to:
///
/// 1. server A is master, B its replica; A is cut off, and B is promoted; 2. change 9 is made on A,
///    whose stamp a caller keeps; 3. A follows B, and is promoted again: the same process with
///    the same run id, and its sequence is 7.
#[derive(Debug, Clone, Default)]
pub struct Known(Arc<OnceLock<Box<[AtomicU64]>>>);

impl Known {
    /// Makes room for so many partitions, once. Before, nothing is kept.
    pub fn begin(&self, partitions: u16) {
        self.0.get_or_init(|| (0..partitions).map(|_| AtomicU64::new(0)).collect());
    }

    /// The highest number of a partition; 0 if none is known.
    #[must_use]
    pub fn seq(&self, partition: u16) -> u64 {
        self.of(partition).map_or(0, |seq| seq.load(Ordering::Acquire))
    }

    /// Notes a number. Any number of times, in any order.
    pub fn raise(&self, partition: u16, seq: u64) {
        if let Some(known) = self.of(partition) {
            known.fetch_max(seq, Ordering::AcqRel);
        }
    }

    /// Starts anew from a lower number: the backend has said that it cannot have reached the one known.
    pub(crate) fn lower(&self, partition: u16, seq: u64) {
        if let Some(known) = self.of(partition) {
            known.store(seq, Ordering::Release);
        }
    }

    fn of(&self, partition: u16) -> Option<&AtomicU64> {
        self.0.get()?.get(usize::from(partition))
    }
}
