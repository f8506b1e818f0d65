//! One node: its partition (`liveness/partition.rs`), and the stripe of the key (`local/stripes.rs`).

use arrayvec::ArrayVec;

use super::mutant::Mutant;
use super::server::{Acquired, Lock, Message, Value};
use crate::phase::{Joined, Phase};

/// An entry of L1. `verified` means that its generation is that of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Held {
    pub(crate) value: Value,
    pub(crate) verified: bool,
}

/// The answer to `state` on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct State {
    pub(crate) run: u8,
    pub(crate) seq: u8,
    pub(crate) floor: u8,
    pub(crate) promised: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Node {
    /// Whether the server has it as a subscriber.
    pub(crate) subscribed: bool,
    /// The messages on their way from the server to the listener.
    pub(crate) bus: ArrayVec<Message, 4>,
    pub(crate) phase: Phase,
    pub(crate) run: u8,
    pub(crate) applied: u8,
    /// The highest number in a reply to a change of this node. It is 0 if `applied` is not lower.
    pub(crate) reached: u8,
    pub(crate) floor: u8,
    /// The serving lease. The model has no time. So this is not the end of the lease, but the version that had
    /// been promised to all when the request for the lease was sent. An answer owes this version at the last
    /// moment of the lease.
    pub(crate) serving: Option<u8>,
    pub(crate) entry: Option<Held>,
    pub(crate) last_seq: u8,
    /// The flight that later lookups may join.
    pub(crate) flight: Option<u8>,
    pub(crate) state: Option<State>,
    /// `Unsent::covers`.
    pub(crate) pending: bool,
    /// The highest version whose change was made on this node and has ended, with any outcome.
    pub(crate) own: u8,
}

/// A ticket, as the events since it was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket {
    /// `local` or the generation has moved.
    pub(crate) spoiled: bool,
    /// `remote` has moved.
    pub(crate) heard: bool,
    /// A load from then on reflects every change up to this number: `applied`, or `reached` if that is higher.
    pub(crate) reached: u8,
    /// The highest change known when it was taken.
    pub(crate) last_seq: u8,
    /// `Wakes::Timely`, and the version that its value owes then. It is that of the serving lease.
    pub(crate) timely: Option<u8>,
}

/// The versions that an answer owes: the lowest allowed one for each promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Debt {
    pub(crate) l2: u8,
    pub(crate) staleness: u8,
    pub(crate) own: u8,
    pub(crate) stamp: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Not begun.
    Unused,
    /// GET is on its way. `plain` means that the node judges the value by its own knowledge.
    Get {
        plain: bool,
    },
    /// The answer to GET is on its way. Unless it is plain, the floor comes with it.
    Got {
        run: u8,
        value: Option<Value>,
        floor: Option<u8>,
    },
    /// ACQUIRE is on its way.
    Ask,
    /// The answer to ACQUIRE is on its way.
    Asked(Acquired),
    /// Another acquisition holds the lease.
    Waiting,
    /// It loads, under a lease or alone. If alone, the flag says whether L1 is offered the result.
    Loading(Result<Lock, bool>),
    /// The row is read. With a lease, FILL is on its way.
    Loaded(Result<Lock, bool>, u8),
    /// The answer to FILL is on its way: the value, or only its version if it was refused.
    Filled(Result<Value, u8>),
    /// Mutant: the value was admitted, and is not stored yet.
    Checked(Value),
    Done,
}

/// A flight and its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Flight {
    pub(crate) node: u8,
    pub(crate) step: Step,
    /// `CacheMode::Reload`.
    pub(crate) reload: bool,
    /// Whether the node's generation is that of its start.
    pub(crate) joinable: bool,
    pub(crate) seq: u8,
    /// The stamp that its leader requires. 0 if there is none.
    pub(crate) need: u8,
    /// The version that had been promised to all when it started. A flight that is joined without messages must
    /// be young.
    pub(crate) started: u8,
    pub(crate) debt: Debt,
    pub(crate) ticket: Ticket,
    pub(crate) held: Option<Value>,
    /// The wake slot.
    pub(crate) woken: Option<Option<Value>>,
}

impl Flight {
    pub(crate) const UNUSED: Self = Self {
        node: 0,
        step: Step::Unused,
        reload: false,
        joinable: false,
        seq: 0,
        need: 0,
        started: 0,
        debt: Debt { l2: 0, staleness: 0, own: 0, stamp: 0 },
        ticket: Ticket { spoiled: false, heard: false, reached: 0, last_seq: 0, timely: None },
        held: None,
        woken: None,
    };

    pub(crate) const DONE: Self = Self { step: Step::Done, ..Self::UNUSED };

    /// Whether it is registered for wake-ups: from the first ACQUIRE to its end.
    pub(crate) fn listens(&self) -> bool {
        matches!(self.step, Step::Ask | Step::Asked(_) | Step::Waiting)
    }
}

impl Node {
    /// A node that serves, with nothing promised beyond version 1.
    pub(crate) fn live(entry: Option<Value>) -> Self {
        Self {
            subscribed: true,
            bus: ArrayVec::new(),
            phase: Phase::Live,
            run: 1,
            applied: 1,
            reached: 0,
            floor: 1,
            serving: Some(1),
            entry: entry.map(|value| Held { value, verified: true }),
            last_seq: 0,
            flight: None,
            state: None,
            pending: false,
            own: 1,
        }
    }

    /// `Partition::returned`.
    pub(crate) fn returned(&mut self, seq: u8) {
        self.reached = self.reached.max(seq);
    }

    /// `Partition::suspend`.
    pub(crate) fn suspend(&mut self, phase: Phase) {
        self.phase = phase;
        self.serving = None;
    }

    /// `Partition::answered_by`.
    pub(crate) fn doubt(&mut self, run: u8) {
        if self.phase == Phase::Live && self.run != run {
            self.suspend(Phase::Syncing(None));
        }
    }

    /// `Partition::heard`.
    pub(crate) fn heard(&mut self, seq: u8) {
        (self.phase, self.applied) = self.phase.heard(seq, self.applied);
        if self.phase != Phase::Live {
            self.serving = None;
        }
    }

    /// `Partition::echoed`.
    pub(crate) fn echoed(&mut self, seq: u8, promised: u8, mutant: Mutant) {
        match self.phase {
            Phase::Live if seq == self.applied || mutant == Mutant::HeartbeatWithoutSequenceCheck => {
                self.serving = self.serving.max(Some(promised));
            }
            Phase::Live => self.suspend(Phase::Syncing(None)),
            Phase::Deaf | Phase::Syncing(_) => {}
        }
    }

    /// `Partition::baseline`. Returns whether the generation must move.
    pub(crate) fn baseline(&mut self, state: State, mutant: Mutant) -> bool {
        let Phase::Syncing(heard) = self.phase else { return false };
        let same_run = self.run == state.run;
        let behind = |(first, last): (u8, u8)| (first == self.applied + 1).then_some(last);
        let (reached, missed) = match Joined::of(heard, state.seq, self.applied) {
            Joined::Whole(reached) => (reached, false),
            Joined::Missed(reached) => match heard.and_then(behind) {
                Some(last) if mutant == Mutant::ContinueBehindTheState => (last, false),
                _ => (reached, true),
            },
            Joined::Again => {
                self.phase = Phase::Syncing(None);
                return false;
            }
        };
        let flushed = missed || !same_run;
        if flushed {
            self.floor = self.floor.max(state.floor);
        }
        self.applied = reached;
        self.run = state.run;
        self.phase = Phase::Live;
        self.serving = Some(state.promised);
        flushed && !matches!(mutant, Mutant::ReconnectWithoutFlush | Mutant::FlushBeforeSubscribed)
    }
}
