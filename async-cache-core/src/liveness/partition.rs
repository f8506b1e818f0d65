//! The serving lease: whether this node's L1 may answer.
//!
//! L1 may answer while this node provably knows every change up to a moment at most
//! `max_staleness` ago. The proof is an echo: the node notes the time, sends a heartbeat on the
//! command route, and gets it back on the subscriber's socket, behind every change executed
//! before it. If the echoed sequence is the one the node has applied, it knew everything as of
//! the time it noted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::tag_table::TagTable;
use crate::backend::{Baseline as Read, Entry, Known, RunId, Tick};
use crate::faults::mutant::{Mutant, Switch};
use crate::faults::planted;
use crate::format::tags::Tags;
use crate::liveness::clock::Clock;
use crate::liveness::news::{Baseline, News, Server};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Heartbeats waiting for their echo; older ones are forgotten, and their echoes ignored.
const MAX_BEATS: usize = 16;

/// What this node knows of one partition. The atomics are read by every hit; they change only
/// under `sync`, but for the generation, which changes only under `generations`.
#[derive(Debug)]
pub(crate) struct Partition {
    serving_until: AtomicU64,
    generation: AtomicU64,
    /// What was admitted in a generation before this one was cleared, not just put in doubt.
    void: AtomicU64,
    floor: AtomicU64,
    applied: AtomicU64,
    /// The highest number given in a reply to a tag change of our own.
    reached: AtomicU64,
    tags: TagTable,
    /// The last heartbeat whose echo brought the number expected.
    proven: AtomicU64,
    index: u16,
    known: Known,
    generations: Arc<Mutex<u64>>,
    sync: Mutex<Sync>,
    switch: Switch,
}

#[derive(Debug)]
struct Sync {
    phase: Phase,
    run: Option<RunId>,
    beats: VecDeque<(u64, Tick)>,
}

/// Where the node stands with the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not subscribed: changes go unheard.
    Deaf,
    /// Subscribed, but what was missed before is unknown. Holds the dense run of changes heard
    /// since, first and last.
    Syncing(Option<(u64, u64)>),
    /// Every change up to `applied` has been applied.
    Live,
}

impl Partition {
    /// Of the partition number `index` of so many.
    pub(crate) fn suspended(
        (index, partitions): (u16, u16),
        known: Known,
        generations: Arc<Mutex<u64>>,
        switch: Switch,
    ) -> Self {
        Self {
            serving_until: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            void: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            reached: AtomicU64::new(0),
            tags: TagTable::new(partitions, switch),
            proven: AtomicU64::new(0),
            index,
            known,
            generations,
            sync: Mutex::new(Sync { phase: Phase::Deaf, run: None, beats: VecDeque::new() }),
            switch,
        }
    }

    /// Of a node without a fleet.
    pub(crate) fn serve_for_good(&self) {
        self.serving_until.store(Tick::MAX.0, Ordering::Release);
    }

    /// Under the lock of `generations`.
    pub(crate) fn begin_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }

    /// A heartbeat is about to be sent.
    pub(crate) fn beat_begun(&self, beat: u64, sent: Tick) {
        let mut sync = self.sync.lock();
        if sync.beats.len() == MAX_BEATS {
            sync.beats.pop_front();
        }
        sync.beats.push_back((beat, sent));
    }

    /// Whether L1 may answer a get that reads the clock as `now`.
    #[inline]
    pub(crate) fn serving_at(&self, now: Tick) -> bool {
        self.serving_until.load(Ordering::Acquire) >= now.0 || self.switch.is(Mutant::ServeWhileSuspended)
    }

    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn floor(&self) -> u64 {
        self.floor.load(Ordering::Acquire)
    }

    /// Whether what was admitted in this generation, with this sequence number, has been cleared.
    pub(crate) fn is_void(&self, generation: u64, seq: u64) -> bool {
        generation < self.void.load(Ordering::Acquire) || seq < self.floor()
    }

    /// Every change up to this one has been applied here (while the node was serving).
    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// A load that begins now reflects every change up to this one. Ahead of `applied` when a
    /// command's reply has come before the messages of the changes before it.
    pub(crate) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire).max(self.applied())
    }

    /// Notes that the partition has come as far as this.
    pub(crate) fn knows(&self, seq: u64) {
        if !self.switch.is(Mutant::ForgetNumbers) {
            self.known.raise(self.index, seq);
        }
    }

    /// The last heartbeat that has shown the server's memory to be as far as this node.
    pub(crate) fn proven(&self) -> u64 {
        self.proven.load(Ordering::Acquire)
    }

    pub(crate) fn tags(&self) -> &TagTable {
        &self.tags
    }

    /// Number of the last change of any tag that this node knows of.
    pub(crate) fn last_tag_change(&self) -> u64 {
        self.tags.latest()
    }

    /// All that [`voids`](Self::voids) goes by, in numbers.
    pub(crate) fn voided(&self) -> (u64, u64, u64) {
        (self.void.load(Ordering::Acquire), self.floor(), self.last_tag_change())
    }

    /// Whether an invalidation of one of these tags is newer than `seq`.
    #[inline]
    pub(crate) fn voids_by_tag(&self, tags: &Tags, seq: u64) -> bool {
        self.tags.voids(tags, seq)
    }

    /// Whether a clear or an invalidation of a tag has made an entry of L1 worthless.
    pub(crate) fn voids<V>(&self, entry: &Entry<V>) -> bool {
        self.is_void(entry.generation, entry.seq) || self.voids_by_tag(&entry.tags, entry.seq)
    }

    /// Applies an invalidation of tags: from the bus, where the number is counted afterwards, or
    /// from the reply to a command of our own.
    pub(crate) fn tags_changed(&self, tags: &Tags, seq: u64) {
        self.knows(seq);
        self.tags.raise(tags, seq);
        self.reached.fetch_max(seq, Ordering::AcqRel);
    }

    /// Invalidates tags on a node without a fleet, which numbers its changes itself.
    pub(crate) fn change_tags_alone(&self, tags: &Tags) {
        let _order = self.sync.lock();
        let seq = self.applied() + 1;
        self.tags.raise(tags, seq);
        self.applied.store(seq, Ordering::Release);
    }

    pub(crate) fn subscribed(&self) {
        self.suspend(&mut self.sync.lock(), Phase::Syncing(None));
    }

    pub(crate) fn lost(&self) {
        self.suspend(&mut self.sync.lock(), Phase::Deaf);
        if self.switch.is(Mutant::FlushBeforeSubscribed) {
            self.move_generation();
        }
    }

    fn suspend(&self, sync: &mut Sync, phase: Phase) {
        sync.phase = phase;
        self.serving_until.store(0, Ordering::Release);
    }

    /// Whether an answer came from the server process that this node knows. If not, everything it knows
    /// is in doubt.
    pub(crate) fn answered_by(&self, run: RunId) -> Server {
        let mut sync = self.sync.lock();
        if sync.run == Some(run) {
            return Server::Known;
        }
        if sync.phase != Phase::Live {
            return Server::Other(News::Expected);
        }
        self.suspend(&mut sync, Phase::Syncing(None));
        Server::Other(News::Gap)
    }

    /// A change was heard, and has been applied to L1 by the caller: first the removal, then the
    /// number, so that nobody who sees the number finds what it removed.
    pub(crate) fn heard(&self, seq: u64) -> News {
        self.knows(seq);
        let mut sync = self.sync.lock();
        match sync.phase {
            Phase::Deaf => News::Expected,
            Phase::Syncing(run) => {
                sync.phase = Phase::Syncing(Some(match run {
                    Some((first, last)) if seq == last + 1 => (first, seq),
                    Some((first, last)) if seq <= last => (first, last),
                    _ => (seq, seq),
                }));
                News::Expected
            }
            Phase::Live => {
                let applied = self.applied();
                if seq <= applied {
                    News::Expected
                } else if seq == applied + 1 {
                    self.applied.store(seq, Ordering::Release);
                    News::Expected
                } else {
                    self.suspend(&mut sync, Phase::Syncing(Some((seq, seq))));
                    News::Gap
                }
            }
        }
    }

    /// The echo of a heartbeat was heard, behind every change executed before it.
    pub(crate) fn echoed(&self, seq: u64, beat: u64, max_staleness: Duration) -> News {
        let mut sync = self.sync.lock();
        let Some(at) = sync.beats.iter().position(|(number, _)| *number == beat) else {
            return News::Expected;
        };
        let sent = sync.beats[at].1;
        sync.beats.drain(..=at);
        self.knows(seq);
        match sync.phase {
            Phase::Live if seq == self.applied() || self.switch.is(Mutant::HeartbeatWithoutSequenceCheck) => {
                self.extend(lease_end(sent, max_staleness));
                self.proven.store(beat, Ordering::Release);
                News::Expected
            }
            Phase::Live => {
                // Ahead: changes were lost on the way. Behind: the server lost its memory.
                self.suspend(&mut sync, Phase::Syncing(None));
                News::Gap
            }
            Phase::Deaf | Phase::Syncing(_) => News::Expected,
        }
    }

    fn extend(&self, until: Tick) {
        self.serving_until.fetch_max(until.0, Ordering::AcqRel);
    }

    /// Takes the state read by a command sent at `sent`, while subscribed, as what this node
    /// knows; decides whether anything may have been missed before.
    ///
    /// 1. the subscription is acknowledged; 2. the state is read; 3. the generation moves; 4. L1
    ///    serves.
    ///
    /// With 2 before 1, a change between them would be in neither. With 4 before 3, a get would
    /// find an entry whose invalidation was missed.
    ///
    /// What was held before may go on answering only if L1 has caught up with the state, not if
    /// merely nothing is missing from what was heard:
    ///
    /// 1. changes 6 and 7 are executed; 2. 6 is heard, 7 is slow to arrive; 3. the state is read:
    ///    7; 4. L1 serves for `max_staleness` from 3, without 7.
    pub(crate) fn baseline(&self, read: &Read, sent: Tick, max_staleness: Duration) -> Baseline {
        let state = read.state;
        let mut sync = self.sync.lock();
        let Phase::Syncing(heard) = sync.phase else { return Baseline::NotNow };
        let applied = self.applied();
        let same_run = sync.run == Some(state.run);
        let (missed_none, reached) = match heard {
            None => (state.seq == applied, state.seq),
            Some((first, last)) if first == applied + 1 && last >= state.seq => (true, last),
            Some((first, last)) if first <= state.seq + 1 => (false, last.max(state.seq)),
            Some(_) => {
                sync.phase = Phase::Syncing(None);
                return Baseline::Again;
            }
        };
        let unfenced =
            self.switch.is(Mutant::ReconnectWithoutFlush) || self.switch.is(Mutant::FlushBeforeSubscribed);
        let outcome =
            if missed_none && same_run || unfenced { Baseline::Continued } else { Baseline::Flushed };
        if planted!(ServeBeforeFlush) {
            self.extend(lease_end(sent, max_staleness));
        }
        if state.seq < applied && !unfenced {
            self.start_anew(read);
        } else if outcome == Baseline::Flushed {
            self.floor.fetch_max(state.floor, Ordering::AcqRel);
            self.tags.raise_floor(read.tag_floor);
            read.tags.iter().for_each(|(tag, seq)| self.tags.raise_one(tag, *seq));
            self.next_generation();
        }
        self.applied.store(reached, Ordering::Release);
        self.knows(reached.max(state.floor));
        sync.run = Some(state.run);
        sync.phase = Phase::Live;
        self.serving_until.store(lease_end(sent, max_staleness).0, Ordering::Release);
        outcome
    }

    /// The backend was told how far it had come, and disagrees: our numbers are none it can have reached. A
    /// clock that was far ahead has been set back, or they are foreign. All of them are worth nothing.
    fn start_anew(&self, read: &Read) {
        self.void_all();
        self.floor.store(read.state.floor, Ordering::Release);
        self.reached.store(0, Ordering::Release);
        self.tags.start_anew(read.tag_floor);
        read.tags.iter().for_each(|(tag, seq)| self.tags.raise_one(tag, *seq));
        self.known.lower(self.index, read.state.seq);
    }

    /// Whether a baseline is wanted.
    pub(crate) fn is_syncing(&self) -> bool {
        matches!(self.sync.lock().phase, Phase::Syncing(_))
    }

    /// Voids everything held: the node is about to clear the partition.
    pub(crate) fn move_generation(&self) {
        let _order = self.sync.lock();
        self.void_all();
    }

    fn void_all(&self) {
        let generation = self.next_generation();
        self.void.store(generation, Ordering::Release);
    }

    fn next_generation(&self) -> u64 {
        let mut last = self.generations.lock();
        *last += 1;
        self.begin_generation(*last);
        *last
    }

    /// Applies a clear, once: the bus and the reply to our own clear both bring it.
    pub(crate) fn cleared(&self, seq: u64) {
        self.knows(seq);
        let _order = self.sync.lock();
        if self.floor.fetch_max(seq, Ordering::AcqRel) < seq {
            self.void_all();
        }
    }
}

/// When a lease proven by a question sent at `sent` ends. A hit looks at the clock at a glance, and
/// must not answer longer for it.
fn lease_end(sent: Tick, max_staleness: Duration) -> Tick {
    sent.after(max_staleness.saturating_sub(Clock::LAG))
}

#[cfg(test)]
mod tests;
