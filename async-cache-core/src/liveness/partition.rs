//! The serving lease: whether this node's L1 may answer.
//!
//! L1 may answer while the node can prove that it knows every change up to a moment at most `max_staleness`
//! ago. The proof is the echo of a heartbeat. The node notes the time, and sends a heartbeat on a command
//! connection. The echo returns on the subscriber's socket, behind every change executed before the
//! heartbeat. If the echo's sequence equals `applied`, the node knew every change at the noted time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64 as Unscheduled;
use std::time::Duration;

use crate::backend::tag_table::TagTable;
use crate::backend::{Effect, Entry, Known, RunId, Tick};
use crate::faults::mutant::{Mutant, Switch};
use crate::format::tags::Tags;
use crate::liveness::clock::{Clock, ServerClock};
use crate::liveness::news::{News, Server};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// The maximum number of heartbeats that wait for their echoes. Older ones are forgotten, and their echoes
/// ignored.
const MAX_BEATS: usize = 16;

/// The node's knowledge of one partition. Every hit reads the atomics. They change only under the lock of
/// `sync`, except the generation, which changes only under the lock of `generations`.
#[derive(Debug)]
pub(crate) struct Partition {
    serving_until: AtomicU64,
    generation: AtomicU64,
    /// A clear has voided all entries of generations before this one. The generations since then only need
    /// revalidation.
    void: AtomicU64,
    floor: AtomicU64,
    applied: AtomicU64,
    /// The highest number in a reply to a change of this node.
    reached: AtomicU64,
    tags: TagTable,
    /// The last heartbeat whose echo had the expected number.
    proven: AtomicU64,
    /// When the command of the last proof was sent, after which the node knew every change. Zero before the
    /// first. Only figures read it, so the schedules need not visit it.
    proved_at: Unscheduled,
    index: u16,
    known: Known,
    generations: Arc<Mutex<u64>>,
    sync: Mutex<Sync>,
    switch: Switch,
    /// The clock of the server that has this partition. Others have clocks of their own.
    pub(crate) server_clock: ServerClock,
}

#[derive(Debug)]
struct Sync {
    phase: Phase,
    run: Option<RunId>,
    beats: VecDeque<(u64, Tick)>,
}

/// The state of the subscription to the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not subscribed: the node receives no changes.
    Deaf,
    /// Subscribed, but changes may have been missed before. Holds the first and last number of the changes
    /// received since, without a gap between them.
    Syncing(Option<(u64, u64)>),
    /// Every change up to `applied` has been applied.
    Live,
}

impl Partition {
    /// A partition that does not serve yet: number `index` of `partitions`.
    pub(crate) fn suspended(
        index: u16,
        partitions: u16,
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
            proved_at: Unscheduled::new(0),
            index,
            known,
            generations,
            sync: Mutex::new(Sync { phase: Phase::Deaf, run: None, beats: VecDeque::new() }),
            switch,
            server_clock: ServerClock::unknown(),
        }
    }

    /// Makes the partition serve for ever, on a node without a fleet.
    pub(crate) fn serve_for_good(&self) {
        self.serving_until.store(Tick::MAX.0, Ordering::Release);
    }

    /// Begins a generation. The caller holds the lock of `generations`.
    pub(crate) fn begin_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }

    /// Notes that a heartbeat is about to be sent.
    pub(crate) fn beat_begun(&self, beat: u64, sent: Tick) {
        let mut sync = self.sync.lock();
        if sync.beats.len() == MAX_BEATS {
            sync.beats.pop_front();
        }
        sync.beats.push_back((beat, sent));
    }

    /// Whether L1 may answer a get that has read `now` from the clock.
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

    /// Whether a clear has voided an entry of this generation and number.
    pub(crate) fn is_void(&self, generation: u64, seq: u64) -> bool {
        generation < self.void.load(Ordering::Acquire) || seq < self.floor()
    }

    /// The node has applied every change up to this number (while it was serving).
    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// A load that begins now reflects every change up to this number. It is higher than `applied` if a reply
    /// has arrived before the messages of earlier changes.
    pub(crate) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire).max(self.applied())
    }

    /// A change of this node has returned with this number. Loads that begin from now on reflect it, and every
    /// change before it:
    ///
    /// 1. the reply arrives, and its message is late; 2. a key of the change is loaded without L2, and L1 stores the
    ///    value; 3. the message arrives. With a lower number the new value would count as older than the change.
    ///
    /// So this function is called before the older values leave L1: a ticket that is taken after that has the number.
    pub(crate) fn returned(&self, seq: u64) {
        self.reached.fetch_max(seq, Ordering::AcqRel);
    }

    /// Notes that the partition has reached this number.
    pub(crate) fn knows(&self, seq: u64) {
        if !self.switch.is(Mutant::ForgetNumbers) {
            self.known.raise(self.index, seq);
        }
    }

    /// The time up to which the node has proved to know every change, if it has.
    pub(crate) fn proved_at(&self) -> Option<Tick> {
        match self.proved_at.load(Ordering::Relaxed) {
            0 => None,
            at => Some(Tick(at)),
        }
    }

    /// The last heartbeat whose echo proved that the server's memory has every change this node knows.
    pub(crate) fn proven(&self) -> u64 {
        self.proven.load(Ordering::Acquire)
    }

    pub(crate) fn tags(&self) -> &TagTable {
        &self.tags
    }

    /// The number of the last tag invalidation that this node knows.
    pub(crate) fn last_tag_change(&self) -> u64 {
        self.tags.latest()
    }

    /// The numbers by which [`voids`](Self::voids) decides.
    pub(crate) fn voided(&self) -> (u64, u64, u64) {
        (self.void.load(Ordering::Acquire), self.floor(), self.last_tag_change())
    }

    /// Whether an invalidation of one of these tags is newer than `seq`.
    #[inline]
    pub(crate) fn voids_by_tag(&self, tags: &Tags, seq: u64) -> bool {
        self.tags.voids(tags, seq)
    }

    /// Whether an invalidation or an expiry of one of these tags is newer than `seq`.
    #[inline]
    pub(crate) fn outdates_by_tag(&self, tags: &Tags, seq: u64) -> bool {
        self.tags.concerns(tags, seq)
    }

    /// Whether a clear or a tag invalidation has voided an entry of L1.
    pub(crate) fn voids<V>(&self, entry: &Entry<V>) -> bool {
        self.is_void(entry.generation, entry.seq) || self.voids_by_tag(&entry.tags, entry.seq)
    }

    /// Applies an invalidation or an expiry of tags, from the bus or from the reply to a command of this node. If it
    /// comes from the bus, the caller counts the number afterwards.
    pub(crate) fn tags_changed(&self, tags: &Tags, seq: u64, effect: Effect) {
        self.knows(seq);
        self.tags.raise(tags, seq, effect);
        self.returned(seq);
    }

    /// Changes tags on a node without a fleet. Such a node numbers its changes itself.
    pub(crate) fn change_tags_alone(&self, tags: &Tags, effect: Effect) {
        let _order = self.sync.lock();
        let seq = self.applied() + 1;
        self.tags.raise(tags, seq, effect);
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

    /// Whether an answer came from the server process that this node knows. If not, all knowledge of the node
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

    /// The server process that the node's knowledge is about, if it knows one.
    pub(crate) fn run(&self) -> Option<RunId> {
        self.sync.lock().run
    }

    /// Whether the node's knowledge is about this server process.
    pub(crate) fn is_about(&self, run: RunId) -> bool {
        self.sync.lock().run == Some(run)
    }

    /// Counts a received change. The caller has applied it to L1 already. The entry is removed before the
    /// number is stored, so a thread that reads the number cannot find the removed entry.
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

    /// Handles the echo of a heartbeat. It has arrived behind every change executed before the heartbeat.
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
                self.proved_at.fetch_max(sent.0, Ordering::Relaxed);
                News::Expected
            }
            Phase::Live => {
                // If the number is higher, changes were lost on the way. If it is lower, the server lost
                // memory.
                self.suspend(&mut sync, Phase::Syncing(None));
                News::Gap
            }
            Phase::Deaf | Phase::Syncing(_) => News::Expected,
        }
    }

    fn extend(&self, until: Tick) {
        self.serving_until.fetch_max(until.0, Ordering::AcqRel);
    }

    /// Whether the partition needs a baseline.
    pub(crate) fn is_syncing(&self) -> bool {
        matches!(self.sync.lock().phase, Phase::Syncing(_))
    }

    /// Voids all entries of L1: the node is about to clear the partition.
    pub(crate) fn move_generation(&self) {
        let _order = self.sync.lock();
        self.void_all();
    }

    fn void_all(&self) {
        let generation = self.next_generation();
        self.void.store(generation, Ordering::Release);
    }

    /// Begins the next generation, so that all entries of L1 must be revalidated. Returns it. An entry of a lower
    /// generation was read before.
    pub(crate) fn next_generation(&self) -> u64 {
        let mut last = self.generations.lock();
        *last += 1;
        self.begin_generation(*last);
        *last
    }

    /// Applies a clear once. The bus brings a clear of this node, and so does the reply.
    pub(crate) fn cleared(&self, seq: u64) {
        self.knows(seq);
        let _order = self.sync.lock();
        if self.floor.fetch_max(seq, Ordering::AcqRel) < seq {
            self.void_all();
        }
    }
}

/// The end of the serving lease that a command sent at `sent` has proved. A hit may use a time that lags. So
/// the lease is shorter by the lag, and the hit does not answer longer.
fn lease_end(sent: Tick, max_staleness: Duration) -> Tick {
    sent.after(max_staleness.saturating_sub(Clock::LAG))
}

mod baseline;
#[cfg(test)]
mod tests;
