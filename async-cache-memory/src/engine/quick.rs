//! The engine on quick_cache.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_cache_core::LocalBackend;
use async_cache_core::backend::{Entry, HitCheck, PackedEntry};
use async_cache_core::key::Key;
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, OptionsBuilder, Weighter};

use super::claim::{Claim, Shareable, too_late};
use super::heavy::TakenOut;
use super::leaving::{Leaving, Request};
use crate::eviction::{EvictionCause, Outlet};
use crate::hasher::Hasher as EntryHasher;

/// The maximum number of entries expected in one shard. A shard's table grows in one step under its lock, so this
/// limits how long that takes.
const SHARD_ENTRIES: u64 = 8192;
const MAX_SHARDS: u64 = 4096;

type Entries<V, W> = Cache<Slot<W>, Option<Arc<V>>, Scale, EntryHasher, Leaving<V>>;

/// An engine whose entries have equal weights, or weights of their own. Handles share everything.
pub(crate) struct Quick<V, W> {
    cache: Arc<Entries<V, W>>,
    evicted: Option<Arc<Outlet<V>>>,
    claim: Option<Arc<Claim>>,
}

/// The engine's key: the key, and all of the entry but its value.
///
/// So the comparison of keys also decides whether the entry may answer. An entry that may not answer is not found. Of
/// an entry that may, only the value is copied.
///
/// The order of the fields keeps together the bytes that a hit reads: the end of the terms, the key, the value.
#[repr(C)]
#[derive(Clone)]
pub(super) struct Slot<W> {
    terms: PackedEntry,
    key: Key,
    weight: W,
}

impl<W> AsRef<Key> for Slot<W> {
    fn as_ref(&self) -> &Key {
        &self.key
    }
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

/// A key to be looked up, even if its entry may not answer.
#[derive(Hash)]
struct Bytes<'a>(&'a [u8]);

impl<W> Equivalent<Slot<W>> for Bytes<'_> {
    fn equivalent(&self, slot: &Slot<W>) -> bool {
        self.0 == slot.key.as_bytes()
    }
}

/// An entry is equal to its key only if it may answer.
impl<W> Equivalent<Slot<W>> for HitCheck<'_> {
    /// The common case is inlined, the rest is a call. If all of it were here, the comparison would be too large
    /// to be inlined into the engine's search, and every lookup would cost a call.
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
fn is_answered<W>(sight: &HitCheck<'_>, slot: &Slot<W>) -> bool {
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

/// A key to be looked up for its whole entry.
struct Whole<'a>(&'a [u8], Cell<Option<PackedEntry>>);

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

/// A key whose entry is removed if it is dead.
struct Dead<'a>(&'a [u8], &'a dyn Fn(&[u8], &PackedEntry) -> bool);

impl Hash for Dead<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<W> Equivalent<Slot<W>> for Dead<'_> {
    fn equivalent(&self, slot: &Slot<W>) -> bool {
        self.0 == slot.key.as_bytes() && (self.1)(self.0, &slot.terms)
    }
}

/// The weight of an entry that is like the others.
#[derive(Clone, Copy)]
pub(crate) struct One;

impl From<One> for u64 {
    fn from(_: One) -> Self {
        1
    }
}

/// Reads the weight that is stored with the entry.
#[derive(Clone)]
struct Scale;

impl<W: Copy + Into<u64>, T> Weighter<Slot<W>, T> for Scale {
    fn weight(&self, slot: &Slot<W>, _: &T) -> u64 {
        slot.weight.into()
    }
}

impl<V: Send + Sync + 'static> Quick<V, One> {
    pub(crate) fn new(capacity: u64, evicted: Option<Arc<Outlet<V>>>) -> Self {
        Self::build(capacity, capacity, evicted)
    }
}

impl<V: Send + Sync + 'static, W: Copy + Into<u64> + Send + Sync + 'static> Quick<V, W> {
    pub(super) fn build(capacity: u64, entries: u64, evicted: Option<Arc<Outlet<V>>>) -> Self {
        let threads = std::thread::available_parallelism().map_or(4, |n| n.get() as u64);
        let shards = (entries / SHARD_ENTRIES).clamp(threads * 4, MAX_SHARDS.max(threads * 4));
        let mut options = OptionsBuilder::new();
        options.shards(shards as usize).weight_capacity(capacity).estimated_items_capacity(entries as usize);
        // It fails only if a capacity is not set.
        let options = options.build().unwrap_or_else(|_| unreachable!("both capacities are set"));
        let cache = Cache::with_options(options, Scale, EntryHasher::default(), Leaving(evicted.clone()));
        Self { cache: Arc::new(cache), evicted, claim: None }
    }

    pub(super) fn share(&self) -> Self {
        let (cache, evicted) = (Arc::clone(&self.cache), self.evicted.clone());
        Self { cache, evicted, claim: self.claim.clone() }
    }

    pub(super) fn shards(&self) -> u64 {
        self.cache.num_shards() as u64
    }

    pub(super) fn set_capacity(&self, capacity: u64) {
        self.cache.set_capacity(capacity);
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Entry<V>> {
        let whole = Whole(key, Cell::new(None));
        let value = self.cache.get(&whole)?;
        Some(whole.1.into_inner()?.with(value))
    }

    #[inline(always)]
    pub(super) fn answer(&self, sight: &HitCheck<'_>) -> Option<Option<Arc<V>>> {
        self.cache.get(sight)
    }

    pub(super) fn store(&self, key: &Key, entry: Entry<V>, weight: W) {
        let (terms, value) = PackedEntry::of(entry);
        let mut request = Request::default();
        if self.evicted.is_some() {
            request.incoming = Some((key.clone(), value.clone()));
        }
        // The engine replaces the key with the value.
        self.cache.insert_with_lifecycle(Slot { key: key.clone(), terms, weight }, value, &mut request);
    }

    pub(super) fn remove(&self, key: &[u8]) {
        self.tell(self.cache.remove(&Bytes(key)), EvictionCause::Removed);
    }

    /// Removes an entry without calling the listener.
    pub(super) fn take(&self, key: &[u8]) -> Option<TakenOut<V>> {
        self.cache.remove(&Bytes(key)).map(|(slot, value)| TakenOut { key: slot.key, value })
    }

    fn tell(&self, removed: Option<(Slot<W>, Option<Arc<V>>)>, cause: EvictionCause) {
        if let (Some(outlet), Some((slot, value))) = (&self.evicted, removed) {
            outlet.tell(&slot.key, value, cause);
        }
    }

    pub(super) fn clear(&self) {
        match &self.evicted {
            None => self.cache.clear(),
            Some(outlet) => self.cache.retain(|slot, value| {
                outlet.tell(&slot.key, value.clone(), EvictionCause::Removed);
                false
            }),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.cache.len() as u64
    }

    /// Checks one entry in each step, under the lock of its shard.
    pub(super) fn sweep<'a>(
        &'a self,
        is_dead: &'a (dyn Fn(&[u8], &Entry<V>) -> bool + Send + Sync),
    ) -> Box<dyn Iterator<Item = ()> + Send + 'a> {
        let is_dead = move |key: &[u8], terms: &PackedEntry| is_dead(key, &terms.with(None));
        Box::new(self.cache.iter().map(move |(slot, _)| {
            if is_dead(slot.key.as_bytes(), &slot.terms) {
                // The entry may have been replaced meanwhile, so it is checked once more under the lock.
                let removed = self.cache.remove(&Dead(slot.key.as_bytes(), &is_dead));
                self.tell(removed, EvictionCause::Expired);
            }
        }))
    }
}

impl<V: Send + Sync + 'static> LocalBackend<V> for Quick<V, One> {
    fn get(&self, key: &[u8]) -> Option<Entry<V>> {
        Self::get(self, key)
    }

    #[inline]
    fn answer(&self, sight: &HitCheck<'_>) -> Option<Option<Arc<V>>> {
        Self::answer(self, sight)
    }

    fn insert(&self, key: &Key, entry: Entry<V>) {
        self.store(key, entry, One);
        if too_late(self.claim.as_ref()) {
            Self::remove(self, key.as_bytes());
        }
    }

    fn remove(&self, key: &[u8]) {
        Self::remove(self, key);
    }

    fn clear(&self) {
        Self::clear(self);
    }

    fn len(&self) -> u64 {
        Self::len(self)
    }

    fn close(&self) {
        if let Some(claim) = &self.claim {
            claim.end();
        }
        Self::clear(self);
    }

    fn sweep<'a>(
        &'a self,
        is_dead: &'a (dyn Fn(&[u8], &Entry<V>) -> bool + Send + Sync),
    ) -> Box<dyn Iterator<Item = ()> + Send + 'a> {
        Self::sweep(self, is_dead)
    }
}

impl<V: Send + Sync + 'static> Shareable<V> for Quick<V, One> {
    fn handle(&self, claim: Arc<Claim>) -> Box<dyn LocalBackend<V>> {
        Box::new(Self { claim: Some(claim), ..self.share() })
    }
}
