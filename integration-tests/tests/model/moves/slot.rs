//! A slot of the cluster: its data, and the master that executes commands about it.

use super::Mutant;

/// More than the number of changes. It is `LEAP` in `epoch.lua`.
const JUMP: u8 = 4;

/// A stored value (`V`): the version of the row, the number of its seal, and its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Value {
    pub(super) version: u8,
    pub(super) seq: u8,
    pub(super) token: u8,
}

/// `L`: the token and the number of the grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lock {
    pub(super) token: u8,
    pub(super) seq: u8,
}

/// The answer to ACQUIRE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Acquired {
    Value(Value),
    Unchanged,
    Granted(Lock),
    Busy,
}

/// How far a move has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// One master has the slot, and both know which.
    Settled,
    /// The owner is MIGRATING, the other master IMPORTING.
    Opened,
    /// The new owner knows that it has the slot. The old one is still MIGRATING, and has no key any more.
    Given,
}

/// The keys that a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// `M`.
    State,
    /// `V`.
    Value,
    /// All keys of a script about one key.
    Everything,
}

/// The slot. Its keys exist once: MIGRATE takes them from one master and gives them to the other in one step. The run id
/// of master 0 is 1, and that of master 1 is 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) owner: u8,
    stage: Stage,
    /// The master where `M` is, and the one where the other keys are.
    state_at: u8,
    rest_at: u8,
    /// `M`: run id, number and floor.
    run: u8,
    seq: u8,
    floor: u8,
    pub(super) value: Option<Value>,
    lock: Option<Lock>,
    /// Mutant: what the old master keeps of the value.
    copy: Option<Value>,
}

pub(super) fn run_of(master: u8) -> u8 {
    master + 1
}

impl Slot {
    pub(super) fn new(value: Option<Value>, lock: Option<Lock>) -> Self {
        let (owner, state_at, rest_at) = (0, 0, 0);
        Self {
            owner,
            stage: Stage::Settled,
            state_at,
            rest_at,
            run: 1,
            seq: 1,
            floor: 1,
            value,
            lock,
            copy: None,
        }
    }

    pub(super) fn other(&self) -> u8 {
        1 - self.owner
    }

    /// The master that executes a command now. The other one refuses it: MOVED, ASK or TRYAGAIN.
    pub(super) fn executor(&self, about: About) -> Option<u8> {
        let here = match about {
            About::State => self.state_at == self.owner,
            About::Value => self.rest_at == self.owner,
            About::Everything => self.state_at == self.owner && self.rest_at == self.owner,
        };
        here.then_some(self.owner)
    }

    /// Whether a master takes itself for the owner: then it lets nodes subscribe, and tells them so in its map.
    pub(super) fn is_owner(&self, master: u8) -> bool {
        master == self.owner || self.stage == Stage::Given
    }

    pub(super) fn may_open(&self) -> bool {
        self.stage == Stage::Settled
    }

    pub(super) fn may_move(&self, about: About) -> bool {
        self.stage == Stage::Opened && self.executor(about).is_some()
    }

    pub(super) fn may_be_given(&self) -> bool {
        self.stage == Stage::Opened && self.state_at != self.owner && self.rest_at != self.owner
    }

    pub(super) fn may_leave(&self) -> bool {
        self.stage == Stage::Given
    }

    pub(super) fn open(&mut self) {
        self.stage = Stage::Opened;
    }

    pub(super) fn state_moves(&mut self) {
        self.state_at = self.other();
    }

    pub(super) fn rest_moves(&mut self, mutant: Mutant) {
        self.rest_at = self.other();
        if mutant == Mutant::OldMasterAnswers {
            self.copy = self.value;
        }
    }

    pub(super) fn give(&mut self) {
        self.owner = self.other();
        self.stage = Stage::Given;
    }

    /// Returns the master that the slot has left.
    pub(super) fn leave(&mut self) -> u8 {
        self.stage = Stage::Settled;
        self.other()
    }

    /// Mutant: the answer of the old master.
    pub(super) fn copy(&self) -> Option<(u8, Value)> {
        Some((run_of(self.other()), self.copy?)).filter(|_| self.rest_at == self.owner)
    }

    /// `epoch.lua`, the head of every script.
    fn fence(&mut self) {
        if self.run != run_of(self.owner) {
            self.run = run_of(self.owner);
            self.seq += JUMP;
            self.floor = self.seq;
        }
    }

    /// `state.lua`: run id, number, floor.
    pub(super) fn state(&mut self) -> (u8, u8, u8) {
        self.fence();
        (self.run, self.seq, self.floor)
    }

    /// `acquire.lua`.
    pub(super) fn acquire(&mut self, token: u8, known: Option<u8>) -> Acquired {
        self.fence();
        if let Some(value) = self.value.filter(|value| value.seq >= self.floor) {
            return if known == Some(value.token) { Acquired::Unchanged } else { Acquired::Value(value) };
        }
        if self.lock.is_some_and(|lock| lock.seq >= self.floor) {
            return Acquired::Busy;
        }
        let lock = Lock { token, seq: self.seq };
        self.lock = Some(lock);
        Acquired::Granted(lock)
    }

    /// `fill.lua`. `None` if the fill was refused.
    pub(super) fn fill(&mut self, lease: Lock, version: u8, mutant: Mutant) -> Option<Value> {
        self.fence();
        if mutant == Mutant::FillOfOldLease && lease.seq < self.floor {
            self.value = Some(Value { version, seq: self.seq, token: lease.token });
            return self.value;
        }
        if self.lock != Some(lease) {
            return None;
        }
        self.lock = None;
        if lease.seq >= self.floor {
            self.value = Some(Value { version, seq: lease.seq, token: lease.token });
            return self.value;
        }
        None
    }

    /// `invalidate.lua`.
    pub(super) fn invalidate(&mut self) -> u8 {
        self.fence();
        self.seq += 1;
        (self.value, self.lock) = (None, None);
        self.seq
    }
}
