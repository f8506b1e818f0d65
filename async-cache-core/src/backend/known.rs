//! The highest sequence numbers that a node knows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The highest sequence number of each partition that the node has received in an answer, a message or a
/// stamp. Clones share the numbers.
///
/// A backend sends the number with every operation except plain reads. If the sequence of the server's memory
/// is lower, the memory is older than one that has answered before, whichever process it belongs to:
///
/// 1. server A is master, B its replica; A is cut off, and B is promoted; 2. change 9 is made on A,
///    whose stamp a caller keeps; 3. A follows B, and is promoted again: the same process with
///    the same run id, and its sequence is 7.
#[derive(Debug, Clone, Default)]
pub struct Known(Arc<OnceLock<Box<[AtomicU64]>>>);

impl Known {
    /// Makes room for the numbers of `partitions` partitions, once. Before that no number is kept.
    pub fn begin(&self, partitions: u16) {
        self.0.get_or_init(|| (0..partitions).map(|_| AtomicU64::new(0)).collect());
    }

    /// The highest number of a partition; 0 if none is known.
    #[must_use]
    pub fn seq(&self, partition: u16) -> u64 {
        self.of(partition).map_or(0, |seq| seq.load(Ordering::Acquire))
    }

    /// Notes a number. Numbers may be noted repeatedly and in any order.
    pub fn raise(&self, partition: u16, seq: u64) {
        if let Some(known) = self.of(partition) {
            known.fetch_max(seq, Ordering::AcqRel);
        }
    }

    /// Replaces the number by a lower one, because the backend's answer shows that it cannot have given the
    /// known number.
    pub(crate) fn lower(&self, partition: u16, seq: u64) {
        if let Some(known) = self.of(partition) {
            known.store(seq, Ordering::Release);
        }
    }

    fn of(&self, partition: u16) -> Option<&AtomicU64> {
        self.0.get()?.get(usize::from(partition))
    }
}
