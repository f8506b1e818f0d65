//! The single-key reads that are under way on one connection, and the batch that they wait to go with.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{Cmd, RedisResult};
use tokio::sync::oneshot;

use crate::keys::ValueName;

/// While at most this many other reads are under way, a read is sent alone.
const FEW: usize = 2;
/// The maximum number of keys of a batch.
const BATCH_KEYS: usize = 128;
/// The maximum bytes of values expected of a batch. All values of a batch arrive together, so the first waits for the
/// last.
const BATCH_BYTES: usize = 256 << 10;
/// A batch of fewer keys costs more than it saves.
const WORTH: usize = 4;
/// The size of values before any is known.
const UNKNOWN: usize = 16 << 10;
/// With this many batches under way, a connection counts as crowded.
const CROWD: usize = 4;
/// The maximum number of batches under way.
const BATCHES: usize = 64;

/// The answer to a read.
pub(crate) type Answer = RedisResult<Option<Bytes>>;

/// The reads of one connection.
pub(crate) struct ReadQueue {
    /// Reads under way.
    reads: AtomicUsize,
    /// Batches under way.
    batches: AtomicUsize,
    /// Bytes to expect of a value.
    size: AtomicUsize,
    gathered: Mutex<Batch>,
}

/// The commands of the names to read, and for each the callers that wait for its values. When it is dropped, each caller
/// reads its value alone.
#[derive(Default)]
pub(crate) struct Batch {
    /// The slot of each command.
    slots: Vec<Option<u16>>,
    pub(crate) mgets: Vec<Cmd>,
    pub(crate) callers: Vec<Callers>,
    /// Keys of all commands.
    keys: usize,
}

/// The callers of one command, in the order of its keys.
pub(crate) type Callers = Vec<oneshot::Sender<Answer>>;

impl Batch {
    /// Adds a name to the command of its slot.
    fn add(&mut self, name: &ValueName<'_>, slot: Option<u16>, caller: oneshot::Sender<Answer>) {
        let known = self.slots.iter().position(|other| *other == slot);
        let place = known.unwrap_or_else(|| {
            self.slots.push(slot);
            self.mgets.push(redis::cmd("MGET"));
            self.callers.push(Vec::new());
            self.slots.len() - 1
        });
        self.mgets[place].arg(name);
        self.callers[place].push(caller);
        self.keys += 1;
    }
}

/// The task of a caller for the batch that it has added to.
pub(crate) enum Due {
    /// The batch is full: send it.
    Now(Batch),
    /// The batch has just begun. Send it after all tasks that are ready now have run.
    Soon,
    /// Another caller sends it.
    Nothing,
}

impl ReadQueue {
    pub(super) fn new() -> Self {
        Self {
            reads: AtomicUsize::new(0),
            batches: AtomicUsize::new(0),
            size: AtomicUsize::new(UNKNOWN),
            gathered: Mutex::default(),
        }
    }

    /// Whether a read should use another connection: there are many batches, or values are so large that none are made.
    pub(super) fn is_crowded(&self) -> bool {
        self.batches.load(Ordering::Relaxed) >= CROWD || self.room() < WORTH
    }

    /// Counts a read until the guard is dropped.
    pub(crate) fn begin(&self) -> UnderWay<'_> {
        UnderWay { reads: &self.reads, others: self.reads.fetch_add(1, Ordering::Relaxed) }
    }

    /// Adds a read to the batch, unless it is better sent alone. In a cluster its name has a slot.
    pub(crate) fn join(
        &self,
        name: &ValueName<'_>,
        slot: Option<u16>,
        read: &UnderWay<'_>,
    ) -> Option<(oneshot::Receiver<Answer>, Due)> {
        let room = self.room();
        let worth = read.others >= FEW && room >= WORTH && self.batches.load(Ordering::Relaxed) < BATCHES;
        worth.then(|| self.add(name, slot, room))
    }

    fn add(&self, name: &ValueName<'_>, slot: Option<u16>, room: usize) -> (oneshot::Receiver<Answer>, Due) {
        let (caller, answer) = oneshot::channel();
        let mut batch = self.gathered.lock();
        batch.add(name, slot, caller);
        let due = match batch.keys {
            full if full >= room => Due::Now(std::mem::take(&mut *batch)),
            1 => Due::Soon,
            _ => Due::Nothing,
        };
        (answer, due)
    }

    /// Keys of a batch.
    fn room(&self) -> usize {
        (BATCH_BYTES / self.size.load(Ordering::Relaxed).max(1)).min(BATCH_KEYS)
    }

    /// Takes the batch that has been gathered so far.
    pub(crate) fn take(&self) -> Batch {
        std::mem::take(&mut *self.gathered.lock())
    }

    pub(crate) fn batch_begins(&self) {
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn batch_ends(&self) {
        self.batches.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes the size of a value. The estimate follows larger values at once and smaller ones slowly:
    /// a batch that is too small costs little.
    pub(crate) fn note_size(&self, size: usize) {
        let known = self.size.load(Ordering::Relaxed);
        let next = if size >= known { size } else { known - (known - size).div_ceil(8) };
        if next != known {
            self.size.store(next, Ordering::Relaxed);
        }
    }
}

/// A read under way.
pub(crate) struct UnderWay<'a> {
    reads: &'a AtomicUsize,
    /// The reads that were under way before it.
    others: usize,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.reads.fetch_sub(1, Ordering::Relaxed);
    }
}
