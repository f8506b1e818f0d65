//! The shared tier: its data of one partition with one key, and the scripts as functions on it.

use super::{Mutant, NODES};

/// A stored value with the tag: the version of the row that was loaded, and the number of its seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Value {
    pub(super) version: u8,
    pub(super) seq: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Lock {
    pub(super) token: u8,
    pub(super) seq: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Tag {
    /// The tag of the values.
    Ours,
    /// Another tag, which takes room in the tables.
    Other,
}

/// One of the two hashes `T` and `U`. It has room for one tag beside the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Half {
    mark: u8,
    tag: (Tag, u8),
    evicted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Server {
    pub(super) seq: u8,
    floor: u8,
    pub(super) value: Option<Value>,
    pub(super) lock: Option<Lock>,
    /// `W`.
    pub(super) waiting: [bool; NODES],
    newer: Option<Half>,
    older: Option<Half>,
    /// `tf`, `tl`.
    tag_floor: u8,
    last_tag: u8,
}

/// The answer to ACQUIRE, except *busy*. After that answer the node asks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Acquired {
    Value(Value),
    /// The value of the caller is still stored.
    Unchanged(Value),
    Granted(Lock),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Message {
    Invalidated(u8),
    Cleared(u8),
    TagInvalidated(Tag, u8),
    /// For a waiting node.
    Woken(Value),
    /// The sequence number, and the version that had been promised when the heartbeat was sent.
    Echo(u8, u8),
}

/// The answer of `baseline.lua` on its way, and the version that had been promised when it was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Known {
    pub(super) seq: u8,
    pub(super) floor: u8,
    pub(super) tag_floor: u8,
    pub(super) tags: [Option<(Tag, u8)>; 2],
    pub(super) promised: u8,
}

impl Server {
    /// A partition with `value`, at its own sequence number, because numbers of two partitions cannot be
    /// compared.
    pub(super) fn new(seq: u8, value: Option<Value>) -> Self {
        Self {
            seq,
            floor: 1,
            value,
            lock: None,
            waiting: [false; NODES],
            newer: None,
            older: None,
            tag_floor: 0,
            last_tag: 0,
        }
    }

    fn raise(&mut self) -> u8 {
        self.seq += 1;
        self.seq
    }

    /// `voided` of `tags.lua`.
    fn voided(&self, seq: u8, mutant: Mutant) -> bool {
        let later = |half: &Option<Half>| match half {
            None => false,
            Some(half) if half.evicted => mutant != Mutant::EvictedTableIsEmpty,
            Some(Half { tag: (tag, last), .. }) => *tag == Tag::Ours && *last > seq,
        };
        let older = later(&self.older) && mutant != Mutant::OnlyTheNewerHalf;
        seq < self.last_tag && (seq < self.tag_floor || later(&self.newer) || older)
    }

    /// `valid.lua`.
    pub(super) fn valid(&self, mutant: Mutant) -> Option<Value> {
        let by_tag =
            |value: &Value| mutant == Mutant::TagsLeaveStoredValues || !self.voided(value.seq, mutant);
        self.value.filter(|value| value.seq >= self.floor).filter(by_tag)
    }

    /// `held` of `lease.lua`.
    fn standing(&self, mutant: Mutant) -> Option<Lock> {
        self.lock.filter(|lock| lock.seq >= self.floor || mutant == Mutant::FillIgnoresTheFloor)
    }

    /// `acquire.lua`. `held` is the value that the caller has, and `answers` is what it accepts.
    pub(super) fn acquire(
        &mut self,
        token: u8,
        held: Option<Value>,
        answers: impl Fn(&Value) -> bool,
        mutant: Mutant,
    ) -> Option<Acquired> {
        if let Some(value) = self.valid(mutant).filter(answers) {
            return Some(match held.is_some_and(|held| held.version == value.version) {
                true => Acquired::Unchanged(Value { seq: self.seq, ..value }),
                false => Acquired::Value(value),
            });
        }
        if self.standing(mutant).is_some() {
            return None;
        }
        let lock = Lock { token, seq: self.seq };
        self.lock = Some(lock);
        Some(Acquired::Granted(lock))
    }

    /// `fill.lua`. Returns the number of the value's seal, or `None` if the fill was refused.
    pub(super) fn fill(&mut self, lease: Lock, version: u8, announce: bool, mutant: Mutant) -> Option<u8> {
        if self.lock != Some(lease) {
            return None;
        }
        self.lock = None;
        let own_number = announce && mutant == Mutant::RefreshComparesWithItsOwnNumber;
        let reflects = if own_number { self.seq + 1 } else { lease.seq };
        let above = lease.seq >= self.floor || mutant == Mutant::FillIgnoresTheFloor;
        if !above || self.voided(reflects, mutant) && mutant != Mutant::FillIgnoresTags {
            return None;
        }
        let seq = if announce { self.raise() } else { lease.seq };
        self.value = Some(Value { version, seq });
        Some(seq)
    }

    /// `tag.lua`.
    pub(super) fn invalidate_tag(&mut self, tag: Tag, mutant: Mutant) -> u8 {
        match self.newer {
            Some(half) if half.evicted => {
                if mutant != Mutant::EvictedTableIsEmpty {
                    self.tag_floor = self.tag_floor.max(self.last_tag);
                }
                self.older = None;
            }
            Some(half) => {
                if mutant != Mutant::DroppedHalfIsForgotten {
                    self.tag_floor = self.tag_floor.max(half.mark);
                }
                self.older = Some(half);
            }
            None => {}
        }
        let mark = self.seq;
        let seq = self.raise();
        self.newer = Some(Half { mark, tag: (tag, seq), evicted: false });
        self.last_tag = seq;
        seq
    }

    /// `clear.lua`.
    pub(super) fn clear(&mut self) -> u8 {
        self.floor = self.raise();
        (self.newer, self.older, self.tag_floor, self.last_tag) = (None, None, 0, 0);
        self.floor
    }

    /// The server evicts `T`, because its memory is full.
    pub(super) fn evict(&mut self) -> Option<()> {
        let half = self.newer.as_mut().filter(|half| !half.evicted)?;
        half.evicted = true;
        Some(())
    }

    /// `baseline.lua`.
    pub(super) fn known(&self, promised: u8, mutant: Mutant) -> Known {
        let halves = [self.newer, self.older];
        let lost = halves.iter().flatten().any(|half| half.evicted);
        let floor = if lost && mutant != Mutant::EvictedTableIsEmpty { self.last_tag } else { 0 };
        let tags = halves.map(|half| half.filter(|half| !half.evicted).map(|half| half.tag));
        Known { seq: self.seq, floor: self.floor, tag_floor: self.tag_floor.max(floor), tags, promised }
    }
}
