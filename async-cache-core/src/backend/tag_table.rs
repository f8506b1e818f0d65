//! What a node knows of one partition's tag changes: enough to judge a tagged value by.
//!
//! A mirror of the backend's table, kept by the bus. Read by hits without a lock; bounded. It
//! outlives entries by far, so it holds hashes of tags: two tags that share one void each other's
//! entries, which is sound.
//!
//! When it is full, its floor is raised to the last change and it starts anew: every tagged entry
//! from before is "ask L2", whose answer carries a number above the floor.

use std::sync::OnceLock;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::backend::region::{Effect, TAG_TABLE};
use crate::faults::mutant::{Mutant, Switch};
use crate::faults::planted;
use crate::format::tags::Tags;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Slots for a table that is at most half full. Under a scheduler it is soon full.
const SLOTS: usize = if cfg!(all(test, shuttle)) { 4 } else { 2 * TAG_TABLE };
/// Fewest slots, for a partition among many: each is told of every tag.
const MIN_SLOTS: usize = SLOTS / 16;
/// Slots looked at for one tag. A tag that finds no room in them makes the table count as full.
const PROBES: usize = 64;

#[derive(Debug)]
pub(crate) struct TagTable {
    /// Number of the last change of any tag: a younger entry needs no look.
    latest: AtomicU64,
    /// Tagged entries from below are void.
    floor: AtomicU64,
    /// Made at the first change: most namespaces have no tags.
    slots: OnceLock<Box<[Slot]>>,
    size: usize,
    /// So that nobody can choose tags that crowd the table.
    seed: u64,
    /// Slots in use. Whoever changes the table holds it.
    used: Mutex<usize>,
    switch: Switch,
}

#[derive(Debug, Default)]
struct Slot {
    /// Hash of the tag; 0 for none.
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
    /// An empty table, for one of so many partitions.
    pub(crate) fn new(partitions: u16, switch: Switch) -> Self {
        let usual = (SLOTS / usize::from(partitions.max(1))).next_power_of_two().clamp(MIN_SLOTS, SLOTS);
        let size = switch.tag_slots().unwrap_or(usual);
        Self {
            latest: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            slots: OnceLock::new(),
            size,
            // A schedule is run again and again.
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

    /// The same of what a hit has found.
    #[inline]
    pub(crate) fn concerns_hit(&self, tags: &Tags, seq: u64) -> bool {
        self.concerns(tags, seq) && !self.switch.is(Mutant::HitsIgnoreTags)
    }

    /// Whether an entry with these tags, which reflects every change up to `seq`, is void.
    #[inline]
    pub(crate) fn voids(&self, tags: &Tags, seq: u64) -> bool {
        !tags.is_empty() && seq < self.latest() && self.has_newer(tags, seq, |slot| &slot.void)
    }

    /// The order matters: a table that starts anew raises its floor first, then empties the slots,
    /// so that who finds a slot emptied finds the floor raised.
    #[inline]
    fn has_newer(&self, tags: &Tags, seq: u64, number: impl Fn(&Slot) -> &AtomicU64) -> bool {
        let newer = |tag| match self.place(self.hash(tag)) {
            Place::Found(slot) => number(slot).load(Ordering::Acquire) > seq,
            Place::Free(_) | Place::Crowded => false,
        };
        self.slots.get().is_some() && tags.iter().any(newer) || self.floor.load(Ordering::Acquire) > seq
    }

    /// Notes a change of these tags. Any number of times, in any order.
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
                // The number of an invalidation first: who sees that the tag has changed must see that it voids.
                slot.void.fetch_max(void, Ordering::AcqRel);
                slot.seq.fetch_max(seq, Ordering::AcqRel);
            }
            Place::Free(slot) => {
                *used += 1;
                // The numbers first: who sees the tag must see its numbers.
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

    /// Voids every tagged entry from below.
    pub(crate) fn raise_floor(&self, seq: u64) {
        self.floor.fetch_max(seq, Ordering::AcqRel);
        self.latest.fetch_max(seq, Ordering::AcqRel);
    }

    /// Forgets all numbers: they were none the backend can have given.
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

    /// A million distinct tags in a table of fixed size: never a change forgotten.
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
