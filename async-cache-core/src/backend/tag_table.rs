//! The mirror: a node's copy of the tag table of one partition.
//!
//! The bus keeps it current. Hits read it without a lock, and its size is limited. It holds hashes of tags. If two tags
//! have one hash, a change of one also concerns the entries of the other, which only costs a question to L2 or a load.
//!
//! When it is full, its floor rises to the last change, and it starts empty. For every older entry with tags L2 is
//! asked. L2's answer has a number above the floor.

use std::sync::OnceLock;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::backend::region::{Effect, TAG_TABLE};
use crate::faults::mutant::{Mutant, Switch};
use crate::faults::planted;
use crate::format::tags::Tags;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// The number of slots of a table that is at most half full. Under a scheduler it is small, so that it is soon full.
const SLOTS: usize = if cfg!(all(test, shuttle)) { 4 } else { 2 * TAG_TABLE };
/// The minimum number of slots. A partition among many has fewer, because every partition receives every tag.
const MIN_SLOTS: usize = SLOTS / 16;
/// The number of slots that are searched for one tag. If there is no room in them, the table counts as full.
const PROBES: usize = 64;

#[derive(Debug)]
pub(crate) struct TagTable {
    /// The number of the last change of any tag. An entry with a higher number need not be looked up.
    latest: AtomicU64,
    /// Tagged entries below this number are void.
    floor: AtomicU64,
    /// The slots are made at the first change, because most namespaces have no tags.
    slots: OnceLock<Box<[Slot]>>,
    size: usize,
    /// The seed of the hash. It is random, so that nobody can choose tags that fall into the same slots.
    seed: u64,
    /// The number of slots in use. A change of the table holds its lock.
    used: Mutex<usize>,
    switch: Switch,
}

#[derive(Debug, Default)]
struct Slot {
    /// The hash of the tag, or 0 if the slot is free.
    tag: AtomicU64,
    /// Number of its last change, of either effect.
    seq: AtomicU64,
    /// Number of its last invalidation.
    void: AtomicU64,
}

enum Place<'a> {
    Found(&'a Slot),
    Free(&'a Slot),
    Crowded,
}

impl TagTable {
    /// An empty table, for one of `partitions` partitions.
    pub(crate) fn new(partitions: u16, switch: Switch) -> Self {
        let usual = (SLOTS / usize::from(partitions.max(1))).next_power_of_two().clamp(MIN_SLOTS, SLOTS);
        let size = switch.tag_slots().unwrap_or(usual);
        Self {
            latest: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            slots: OnceLock::new(),
            size,
            // A schedule must run in the same way each time.
            seed: if cfg!(all(test, shuttle)) { 0 } else { fastrand::u64(..) },
            used: Mutex::new(0),
            switch,
        }
    }

    /// Number of the last change of any tag.
    pub(crate) fn latest(&self) -> u64 {
        self.latest.load(Ordering::Acquire)
    }

    /// Whether a change of either effect concerns an entry with these tags, which reflects every change up to `seq`.
    #[inline]
    pub(crate) fn concerns(&self, tags: &Tags, seq: u64) -> bool {
        !tags.is_empty() && seq < self.latest() && self.has_newer(tags, seq, |slot| &slot.seq)
    }

    /// As [`concerns`](Self::concerns), for a hit.
    #[inline]
    pub(crate) fn concerns_hit(&self, tags: &Tags, seq: u64) -> bool {
        self.concerns(tags, seq) && !self.switch.is(Mutant::HitsIgnoreTags)
    }

    /// Whether an entry with these tags, which reflects every change up to `seq`, is void.
    #[inline]
    pub(crate) fn voids(&self, tags: &Tags, seq: u64) -> bool {
        !tags.is_empty() && seq < self.latest() && self.has_newer(tags, seq, |slot| &slot.void)
    }

    /// The order matters: a table that starts anew first raises its floor, then empties the slots. So a thread that
    /// finds a slot empty also finds the floor raised.
    #[inline]
    fn has_newer(&self, tags: &Tags, seq: u64, number: impl Fn(&Slot) -> &AtomicU64) -> bool {
        let newer = |tag| match self.place(self.hash(tag)) {
            Place::Found(slot) => number(slot).load(Ordering::Acquire) > seq,
            Place::Free(_) | Place::Crowded => false,
        };
        self.slots.get().is_some() && tags.iter().any(newer) || self.floor.load(Ordering::Acquire) > seq
    }

    /// Notes a change of these tags. Changes may be noted repeatedly and in any order.
    pub(crate) fn raise(&self, tags: &Tags, seq: u64, effect: Effect) {
        for tag in tags.iter() {
            self.raise_one(tag, seq, effect);
        }
    }

    pub(crate) fn raise_one(&self, tag: &[u8], seq: u64, effect: Effect) {
        let void = if effect == Effect::Void { seq } else { 0 };
        let mut used = self.used.lock();
        let hash = self.hash(tag);
        let place = match self.place(hash) {
            Place::Free(_) if 2 * *used >= self.size => Place::Crowded,
            place => place,
        };
        match place {
            Place::Found(slot) => {
                // The number of an invalidation is stored first. So a thread that sees the change of the tag also sees
                // that it voids.
                slot.void.fetch_max(void, Ordering::AcqRel);
                slot.seq.fetch_max(seq, Ordering::AcqRel);
            }
            Place::Free(slot) => {
                *used += 1;
                // The numbers are stored first. So a thread that sees the tag also sees its numbers.
                slot.void.store(void, Ordering::Release);
                slot.seq.store(seq, Ordering::Release);
                slot.tag.store(hash, Ordering::Release);
            }
            Place::Crowded => {
                if planted!(EmptyBeforeFloor) {
                    self.slots().iter().for_each(|slot| slot.tag.store(0, Ordering::Release));
                }
                if !self.switch.is(Mutant::TagsForgotten) {
                    self.floor.fetch_max(seq.max(self.latest()), Ordering::AcqRel);
                }
                for slot in self.slots() {
                    slot.tag.store(0, Ordering::Release);
                }
                *used = 0;
            }
        }
        self.latest.fetch_max(seq, Ordering::AcqRel);
    }

    /// Voids every tagged entry below this number.
    pub(crate) fn raise_floor(&self, seq: u64) {
        self.floor.fetch_max(seq, Ordering::AcqRel);
        self.latest.fetch_max(seq, Ordering::AcqRel);
    }

    /// Forgets all numbers, because the backend cannot have given them.
    pub(crate) fn start_anew(&self, floor: u64) {
        let mut used = self.used.lock();
        self.slots.get().into_iter().flatten().for_each(|slot| slot.tag.store(0, Ordering::Release));
        *used = 0;
        self.floor.store(floor, Ordering::Release);
        self.latest.store(floor, Ordering::Release);
    }

    fn place(&self, hash: u64) -> Place<'_> {
        let slots = self.slots();
        let mask = slots.len() - 1;
        for step in 0..PROBES {
            let slot = &slots[(hash as usize).wrapping_add(step) & mask];
            match slot.tag.load(Ordering::Acquire) {
                0 => return Place::Free(slot),
                other if other == hash => return Place::Found(slot),
                _ => {}
            }
        }
        Place::Crowded
    }

    fn slots(&self) -> &[Slot] {
        self.slots.get_or_init(|| (0..self.size).map(|_| Slot::default()).collect())
    }

    fn hash(&self, tag: &[u8]) -> u64 {
        xxh3_64_with_seed(tag, self.seed).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags<const N: usize>(tags: [&str; N]) -> Tags {
        Tags::new(tags).unwrap()
    }

    #[test]
    fn older_entries_with_the_tag_are_void_and_no_others() {
        let table = TagTable::new(1, Switch::default());
        assert!(!table.voids(&tags(["a"]), 0));
        table.raise(&tags(["a", "b"]), 7, Effect::Void);
        table.raise(&tags(["c"]), 9, Effect::Void);
        for (tags, seq, void) in [
            (tags(["a"]), 6, true),
            (tags(["a"]), 7, false),
            (tags(["x", "b"]), 6, true),
            (tags(["c", "a"]), 8, true),
            (tags(["x"]), 0, false),
            (Tags::NONE, 0, false),
        ] {
            assert_eq!(table.voids(&tags, seq), void, "{tags:?} at {seq}");
        }
        table.raise(&tags(["a"]), 3, Effect::Void);
        assert!(table.voids(&tags(["a"]), 6), "an older message changes nothing");
        table.raise_floor(8);
        assert!(table.voids(&tags(["x"]), 7) && !table.voids(&Tags::NONE, 7));
    }

    #[test]
    fn an_expiry_concerns_older_entries_and_voids_none() {
        let table = TagTable::new(1, Switch::default());
        table.raise(&tags(["a"]), 7, Effect::Expire);
        assert!(table.concerns(&tags(["a"]), 6) && !table.voids(&tags(["a"]), 6));
        assert!(!table.concerns(&tags(["a"]), 7) && !table.concerns(&tags(["x"]), 6));
        table.raise(&tags(["a"]), 5, Effect::Void);
        assert!(
            table.voids(&tags(["a"]), 4) && !table.voids(&tags(["a"]), 5) && table.concerns(&tags(["a"]), 6)
        );
        table.raise(&tags(["a"]), 9, Effect::Void);
        assert!(table.voids(&tags(["a"]), 8));
    }

    /// No change of a million distinct tags is forgotten, although the table has a fixed size.
    #[test]
    fn any_number_of_tags_fits() {
        for partitions in [1, 64] {
            let table = TagTable::new(partitions, Switch::default());
            let mut size = 0;
            for seq in 1..=1_000_000_u64 {
                let tag = seq.to_string();
                table.raise_one(tag.as_bytes(), seq, Effect::Void);
                assert!(table.voids(&tags([&tag]), seq - 1), "{seq}");
                assert!(!table.voids(&tags([&tag]), seq), "{seq}");
                size = size.max(*table.used.lock());
            }
            for old in 1..=1000 {
                assert!(table.voids(&tags([&old.to_string()]), old - 1), "{old} was forgotten");
            }
            assert!(size <= table.size / 2 && table.slots().len() == table.size);
        }
    }
}
