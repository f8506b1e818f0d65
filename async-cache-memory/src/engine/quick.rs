//! On quick_cache.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_cache_core::LocalBackend;
use async_cache_core::backend::{Entry, Sight, Terms};
use async_cache_core::key::Key;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, OptionsBuilder, Weighter};

use super::weigh;
use crate::builder::Weigher;

/// Most entries expected in one shard. A shard's table grows at once, under its lock: this bounds
/// how long that takes, whatever the capacity.
const SHARD_ENTRIES: u64 = 8192;
const MAX_SHARDS: u64 = 4096;

/// What an entry is guessed to weigh if there is a weigher: the engine wants to know how many to
/// expect, and remembers half as many that it has dropped.
const GUESSED_WEIGHT: u64 = 1024;

type Entries<V, W> = Cache<Slot<W>, Option<Arc<V>>, Scale, crate::Hasher>;

/// Entries of one weight each, or with weights of their own. Clones share everything.
pub(crate) struct Quick<V, W: Weighing<V>> {
    cache: Arc<Entries<V, W::Weight>>,
    weighing: Arc<W>,
}

impl<V, W: Weighing<V>> Clone for Quick<V, W> {
    fn clone(&self) -> Self {
        Self { cache: Arc::clone(&self.cache), weighing: Arc::clone(&self.weighing) }
    }
}

/// What the engine takes for the key: the key, and all of the entry but its value.
///
/// So an entry is judged where it is, in the course of the comparison, and a value that may not
/// answer is not even found. Of one that may, the value alone is taken out.
///
/// In this order, so that what a hit looks at lies together: the end of the terms, the key, the value.
#[repr(C)]
struct Slot<W> {
    terms: Terms,
    key: Key,
    weight: W,
}

impl<W> Hash for Slot<W> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl<W> PartialEq for Slot<W> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<W> Eq for Slot<W> {}

/// A key as it is looked up, whatever is held under it.
#[derive(Hash)]
struct Bytes<'a>(&'a [u8]);

impl<W> Equivalent<Slot<W>> for Bytes<'_> {
    fn equivalent(&self, slot: &Slot<W>) -> bool {
        self.0 == slot.key.as_bytes()
    }
}

/// What is looked for is found if it may answer.
impl<W> Equivalent<Slot<W>> for Sight<'_> {
    /// The common case in place, all else at the price of a call: or the comparison would be too large
    /// to be compiled into the engine's search, and always cost one.
    #[inline(always)]
    fn equivalent(&self, slot: &Slot<W>) -> bool {
        let (asked, held) = (self.key(), slot.key.as_bytes());
        let plainly = asked.len() == held.len()
            && (8..=16).contains(&asked.len())
            && ends::<8>(asked, held)
            && slot.terms.answers_plainly(self);
        plainly || is_answered(self, slot)
    }
}

#[inline(never)]
fn is_answered<W>(sight: &Sight<'_>, slot: &Slot<W>) -> bool {
    same(sight.key(), slot.key.as_bytes()) && slot.terms.answers(sight)
}

/// Equality, with short keys compared in place: a call of `memcmp` costs more than that.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && match a.len() {
            8..=16 => ends::<8>(a, b),
            4..=7 => ends::<4>(a, b),
            2..=3 => ends::<2>(a, b),
            _ => a == b,
        }
}

/// Whether two slices begin and end with the same `N` bytes: if they are of one length from `N` to
/// 2 × `N`, that is all of them.
#[inline(always)]
fn ends<const N: usize>(a: &[u8], b: &[u8]) -> bool {
    a.first_chunk::<N>() == b.first_chunk::<N>() && a.last_chunk::<N>() == b.last_chunk::<N>()
}

/// A key as it is looked up for all that is held under it.
struct Whole<'a>(&'a [u8], Cell<Option<Terms>>);

impl Hash for Whole<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<W> Equivalent<Slot<W>> for Whole<'_> {
    fn equivalent(&self, slot: &Slot<W>) -> bool {
        let found = self.0 == slot.key.as_bytes();
        if found {
            self.1.set(Some(slot.terms.clone()));
        }
        found
    }
}

/// How entries are weighed.
pub(crate) trait Weighing<V>: Send + Sync + 'static {
    type Weight: Copy + Into<u64> + Send + Sync + 'static;

    /// `None` if it cannot be told.
    fn weigh(&self, key: &Key, entry: &Entry<V>) -> Option<Self::Weight>;
}

/// One like the other.
pub(crate) struct Alike;

/// The weight of one that is like the other.
#[derive(Clone, Copy)]
pub(crate) struct One;

impl From<One> for u64 {
    fn from(_: One) -> Self {
        1
    }
}

impl<V> Weighing<V> for Alike {
    type Weight = One;

    fn weigh(&self, _: &Key, _: &Entry<V>) -> Option<One> {
        Some(One)
    }
}

impl<V: 'static> Weighing<V> for Weigher<V> {
    type Weight = u32;

    fn weigh(&self, key: &Key, entry: &Entry<V>) -> Option<u32> {
        weigh(self, key, entry)
    }
}

/// Reads the weight kept with the entry.
#[derive(Clone)]
struct Scale;

impl<W: Copy + Into<u64>, T> Weighter<Slot<W>, T> for Scale {
    fn weight(&self, slot: &Slot<W>, _: &T) -> u64 {
        slot.weight.into()
    }
}

impl<V: Send + Sync + 'static> Quick<V, Alike> {
    pub(crate) fn new(capacity: u64) -> Self {
        Self::build(capacity, capacity, Alike)
    }
}

impl<V: Send + Sync + 'static> Quick<V, Weigher<V>> {
    pub(crate) fn weighed(capacity: u64, weigher: Weigher<V>) -> Self {
        let entries = (capacity / GUESSED_WEIGHT).max(capacity.min(10_000));
        Self::build(capacity, entries, weigher)
    }
}

impl<V: Send + Sync + 'static, W: Weighing<V>> Quick<V, W> {
    fn build(capacity: u64, entries: u64, weighing: W) -> Self {
        let threads = std::thread::available_parallelism().map_or(4, |n| n.get() as u64);
        let shards = (entries / SHARD_ENTRIES).clamp(threads * 4, MAX_SHARDS.max(threads * 4));
        let mut options = OptionsBuilder::new();
        options.shards(shards as usize).weight_capacity(capacity).estimated_items_capacity(entries as usize);
        // Fails only for what is not set.
        let options = options.build().unwrap_or_else(|_| unreachable!("both capacities are set"));
        let cache =
            Cache::with_options(options, Scale, crate::Hasher::default(), DefaultLifecycle::default());
        Self { cache: Arc::new(cache), weighing: Arc::new(weighing) }
    }
}

impl<V: Send + Sync + 'static, W: Weighing<V>> LocalBackend<V> for Quick<V, W> {
    fn get(&self, key: &[u8]) -> Option<Entry<V>> {
        let whole = Whole(key, Cell::new(None));
        let value = self.cache.get(&whole)?;
        Some(whole.1.into_inner()?.with(value))
    }

    #[inline]
    fn answer(&self, sight: &Sight<'_>) -> Option<Option<Arc<V>>> {
        self.cache.get(sight)
    }

    fn insert(&self, key: &Key, entry: Entry<V>) {
        let Some(weight) = self.weighing.weigh(key, &entry) else { return self.remove(key.as_bytes()) };
        let (terms, value) = Terms::of(entry);
        // The engine replaces the key with the value.
        self.cache.insert(Slot { key: key.clone(), terms, weight }, value);
    }

    fn remove(&self, key: &[u8]) {
        self.cache.remove(&Bytes(key));
    }

    fn clear(&self) {
        self.cache.clear();
    }

    fn len(&self) -> u64 {
        self.cache.len() as u64
    }
}
