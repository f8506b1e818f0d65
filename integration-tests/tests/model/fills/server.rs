//! The shared tier: the data of one `redis-server` for one key, and the scripts as functions on it.

use super::mutant::Mutant;

/// More than the number of changes by which a replica may lag. It is `LEAP` in `epoch.lua`.
const JUMP: u8 = 10;

/// A stored value (`V`): the version of the row that was loaded, the number of its seal, and its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Value {
    pub(crate) version: u8,
    pub(crate) seq: u8,
    pub(crate) token: u8,
}

/// `L`: the token and the sequence number of the grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Lock {
    pub(crate) token: u8,
    pub(crate) seq: u8,
}

/// The data that a replica also has: `M` (sequence number, floor, run id), `V`, `L`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Memory {
    pub(crate) seq: u8,
    pub(crate) floor: u8,
    /// 0 means that `M` is absent.
    pub(crate) run: u8,
    pub(crate) value: Option<Value>,
    pub(crate) lock: Option<Lock>,
    /// `W`: one bit for each node.
    pub(crate) waiting: u8,
}

/// A server process and its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Server {
    pub(crate) run: u8,
    pub(crate) memory: Memory,
    /// The highest number that any server has given. In the code, the time in microseconds is above it.
    pub(crate) highest: u8,
}

/// The answer to ACQUIRE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Acquired {
    Value(Value),
    Unchanged,
    Granted(Lock),
    Busy,
}

/// A message that a script publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Message {
    /// SUBSCRIBE was confirmed.
    Subscribed,
    /// `I:<seq>`.
    Invalidated(u8),
    /// `H:<seq>`, with the version that had been promised when the heartbeat was sent.
    Echo(u8, u8),
    /// `V:` with the value, `W:` without.
    Woken(Option<Value>),
}

/// A message, and its receivers: one bit for each node.
pub(crate) type Publication = (u8, Message);

pub(crate) const EVERYONE: u8 = u8::MAX;

impl Server {
    pub(crate) fn new() -> Self {
        let memory = Memory { seq: 1, floor: 1, run: 1, value: None, lock: None, waiting: 0 };
        Self { run: 1, memory, highest: 1 }
    }

    /// `epoch.lua`, the head of every script.
    fn fence(&mut self, mutant: Mutant) {
        let memory = &mut self.memory;
        if memory.run != self.run {
            if mutant != Mutant::FailoverWithoutEpoch {
                memory.seq = if memory.run == 0 { self.highest + JUMP } else { memory.seq + JUMP };
                memory.floor = memory.seq;
            }
            memory.run = self.run;
        }
        self.highest = self.highest.max(memory.seq);
    }

    fn raise(&mut self) -> u8 {
        self.memory.seq += 1;
        self.highest = self.highest.max(self.memory.seq);
        self.memory.seq
    }

    /// `held` of `lease.lua`.
    fn standing(&self) -> Option<Lock> {
        self.memory.lock.filter(|lock| lock.seq >= self.memory.floor)
    }

    /// `wake.lua`.
    fn wake(&mut self, value: Option<Value>, out: &mut Vec<Publication>) {
        let waiting = std::mem::take(&mut self.memory.waiting);
        if waiting != 0 {
            out.push((waiting, Message::Woken(value)));
        }
    }

    /// `state.lua`: run id, sequence number, floor.
    pub(crate) fn state(&mut self, mutant: Mutant) -> (u8, u8, u8) {
        self.fence(mutant);
        (self.run, self.memory.seq, self.memory.floor)
    }

    /// `heartbeat.lua`.
    pub(crate) fn heartbeat(&mut self, node: u8, promised: u8, mutant: Mutant) -> Publication {
        self.fence(mutant);
        (1 << node, Message::Echo(self.memory.seq, promised))
    }

    /// `acquire.lua`.
    pub(crate) fn acquire(
        &mut self,
        node: u8,
        token: u8,
        known: Option<u8>,
        distrust: bool,
        mutant: Mutant,
    ) -> Acquired {
        self.fence(mutant);
        if let Some(value) = self.memory.value
            && !distrust
            && value.seq >= self.memory.floor
        {
            return if known == Some(value.token) { Acquired::Unchanged } else { Acquired::Value(value) };
        }
        if self.standing().is_some() && mutant != Mutant::LeaseForEveryone {
            self.memory.waiting |= 1 << node;
            return Acquired::Busy;
        }
        let lock = Lock { token, seq: self.memory.seq };
        self.memory.lock = Some(lock);
        self.memory.waiting &= !(1 << node);
        Acquired::Granted(lock)
    }

    /// `fill.lua`. Returns the sequence number of the value's seal, or `None` if the fill was refused.
    pub(crate) fn fill(
        &mut self,
        lease: Lock,
        version: u8,
        announce: bool,
        mutant: Mutant,
        out: &mut Vec<Publication>,
    ) -> Option<u8> {
        self.fence(mutant);
        let unconditional = mutant == Mutant::UnconditionalFill;
        if self.memory.lock != Some(lease) && !unconditional {
            return None;
        }
        let mut stored = None;
        if lease.seq >= self.memory.floor || unconditional {
            let seq = if announce { self.raise() } else { lease.seq };
            stored = Some(Value { version, seq, token: lease.token });
            self.memory.value = stored;
            if announce {
                out.push((EVERYONE, Message::Invalidated(seq)));
            }
        }
        self.wake(stored, out);
        self.memory.lock = None;
        stored.map(|value| value.seq)
    }

    /// `invalidate.lua` without a value, `put.lua` with one (version and token).
    pub(crate) fn change(&mut self, put: Option<(u8, u8)>, mutant: Mutant, out: &mut Vec<Publication>) -> u8 {
        self.fence(mutant);
        let seq = self.raise();
        if mutant != Mutant::PublishBeforeDelete {
            self.memory.value = put.map(|(version, token)| Value { version, seq, token });
        }
        if mutant != Mutant::InvalidationKeepsTheLease {
            self.memory.lock = None;
        }
        self.wake(put.and(self.memory.value), out);
        out.push((EVERYONE, Message::Invalidated(seq)));
        seq
    }
}
