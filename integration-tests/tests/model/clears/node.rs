//! One node: its state for each partition (`liveness/partition.rs`, `backend/tag_table.rs`), and the stripe of
//! its key (`local/stripes.rs`).

use arrayvec::ArrayVec;

use super::server::{Known, Lock, Message, Tag, Value};
use super::{Mutant, PARTITIONS};
use crate::phase::{Joined, Phase};

/// `TagTable`, with room for one tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Mirror {
    pub(super) latest: u8,
    floor: u8,
    slot: Option<(Tag, u8)>,
}

impl Mirror {
    /// `TagTable::voids`, for a value that has the tag.
    pub(super) fn voids(&self, seq: u8) -> bool {
        let newer = self.slot.is_some_and(|(tag, last)| tag == Tag::Ours && last > seq);
        seq < self.latest && (newer || self.floor > seq)
    }

    /// `TagTable::raise_one`.
    pub(super) fn raise(&mut self, tag: Tag, seq: u8, mutant: Mutant) {
        match &mut self.slot {
            Some((there, last)) if *there == tag => *last = (*last).max(seq),
            slot @ None => *slot = Some((tag, seq)),
            slot if mutant == Mutant::FullTableForgets => *slot = Some((tag, seq)),
            slot => {
                *slot = None;
                self.floor = self.floor.max(seq).max(self.latest);
            }
        }
        self.latest = self.latest.max(seq);
    }

    fn raise_floor(&mut self, seq: u8) {
        self.floor = self.floor.max(seq);
        self.latest = self.latest.max(seq);
    }
}

/// An entry of L1. `current` means that its generation is that of the partition. `marked` means that it is from
/// before a pending invalidation of the tag: see `Unsent::voids`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Held {
    pub(super) value: Value,
    pub(super) current: bool,
    pub(super) marked: bool,
}

/// `Partition`, and the stripe of the partition's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Side {
    pub(super) bus: ArrayVec<Message, 3>,
    pub(super) phase: Phase,
    pub(super) applied: u8,
    /// The version that had been promised to all when the request for the present serving lease was sent. An
    /// answer owes this version at the last moment of the lease.
    pub(super) serving: Option<u8>,
    pub(super) floor: u8,
    pub(super) tags: Mirror,
    pub(super) entry: Option<Held>,
    pub(super) last_seq: u8,
    /// The flight that later lookups may join.
    pub(super) flight: Option<u8>,
    pub(super) known: Option<Known>,
    /// Whether an invalidation of the tag on this node may not have reached the server: `Unsent::voids_read`.
    pub(super) pending: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Node {
    pub(super) sides: [Side; PARTITIONS],
    /// The highest version whose change was made on this node and has returned.
    pub(super) own: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    Unused,
    /// GET is on its way. `plain` means that the node will judge the value.
    Get {
        plain: bool,
    },
    Got {
        plain: bool,
        value: Option<Value>,
    },
    /// ACQUIRE is on its way, or will be repeated.
    Ask,
    /// Another node holds the lease, and the server has noted this node as a waiter.
    Waiting,
    Found {
        value: Value,
        unchanged: bool,
    },
    Loading(Lock),
    /// The row is read; FILL is on its way.
    Loaded(Lock, u8),
    /// The answer to FILL is on its way.
    Filled {
        version: u8,
        loaded_at: u8,
        seq: Option<u8>,
    },
    Done,
}

/// The strongest promise of an answer, and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Debt(pub(super) u8, pub(super) Promise);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Promise {
    Staleness,
    L2,
    Stamp,
    Own,
}

/// A flight and its leader, and one lookup that has joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Flight {
    pub(super) node: u8,
    pub(super) partition: u8,
    pub(super) step: Step,
    pub(super) reload: bool,
    /// The stored value that did not answer: `Accept::Other`.
    pub(super) useless: Option<Value>,
    /// Whether the generation is that of its start.
    pub(super) joinable: bool,
    pub(super) seq: u8,
    pub(super) debt: Debt,
    /// The ticket: whether `local` or the generation has moved, and whether a change has arrived.
    pub(super) spoiled: bool,
    pub(super) heard: bool,
    pub(super) held: Option<Value>,
    pub(super) wake: Wake,
    /// The last tag change that was known when the lookup joined, and the version that it owes.
    pub(super) joiner: Option<(u8, Debt)>,
}

/// The validity of a wake-up for a flight. Only a value that was requested after the last ticket counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Wake {
    /// The required number, and the owed version apart from freshness.
    pub(super) need: u8,
    pub(super) bound: Debt,
    /// Of the last ticket: the version that L1 owed when it was taken, if L1 served; and `Ticket::last_seq`.
    pub(super) timely: Option<u8>,
    pub(super) last_seq: u8,
    /// `WakeSlot`.
    pub(super) brought: Option<Value>,
}

impl Wake {
    pub(super) const NONE: Self =
        Self { need: 0, bound: Debt(0, Promise::Staleness), timely: None, last_seq: 0, brought: None };
}

impl Flight {
    pub(super) const UNUSED: Self = Self {
        node: 0,
        partition: 0,
        step: Step::Unused,
        reload: false,
        useless: None,
        joinable: false,
        seq: 0,
        debt: Debt(0, Promise::Staleness),
        spoiled: false,
        heard: false,
        held: None,
        wake: Wake::NONE,
        joiner: None,
    };

    pub(super) const DONE: Self = Self { step: Step::Done, ..Self::UNUSED };

    pub(super) fn is_of(&self, node: usize, partition: usize) -> bool {
        let under_way = !matches!(self.step, Step::Unused | Step::Done);
        under_way && (usize::from(self.node), usize::from(self.partition)) == (node, partition)
    }
}

impl Side {
    /// A node that serves, at this sequence number.
    pub(super) fn live(seq: u8, entry: Option<Value>) -> Self {
        Self {
            bus: ArrayVec::new(),
            phase: Phase::Live,
            applied: seq,
            serving: Some(1),
            floor: 1,
            tags: Mirror::default(),
            entry: entry.map(|value| Held { value, current: true, marked: false }),
            last_seq: 0,
            flight: None,
            known: None,
            pending: false,
        }
    }

    fn suspend(&mut self) {
        (self.phase, self.serving) = (Phase::Syncing(None), None);
    }

    /// `Partition::heard`.
    pub(super) fn heard(&mut self, seq: u8) {
        (self.phase, self.applied) = self.phase.heard(seq, self.applied);
        if self.phase != Phase::Live {
            self.serving = None;
        }
    }

    /// `Partition::echoed`.
    pub(super) fn echoed(&mut self, seq: u8, promised: u8) {
        match self.phase {
            Phase::Live if seq == self.applied => self.serving = self.serving.max(Some(promised)),
            Phase::Live => self.suspend(),
            Phase::Deaf | Phase::Syncing(_) => {}
        }
    }

    /// `Partition::baseline`. Returns whether the generation must move.
    pub(super) fn baseline(&mut self, known: Known, mutant: Mutant) -> bool {
        let Phase::Syncing(heard) = self.phase else { return false };
        let (reached, flushed) = match Joined::of(heard, known.seq, self.applied) {
            Joined::Whole(reached) => (reached, false),
            Joined::Missed(reached) => (reached, true),
            Joined::Again => {
                self.phase = Phase::Syncing(None);
                return false;
            }
        };
        if flushed {
            self.floor = self.floor.max(known.floor);
            if mutant != Mutant::BaselineWithoutTags {
                self.tags.raise_floor(known.tag_floor);
                known.tags.iter().flatten().for_each(|(tag, seq)| self.tags.raise(*tag, *seq, mutant));
            }
        }
        (self.phase, self.applied, self.serving) = (Phase::Live, reached, Some(known.promised));
        flushed
    }
}
