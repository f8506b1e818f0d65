//! On quick_cache.

use std::sync::Arc;

use async_cache_core::LocalBackend;
use async_cache_core::backend::{Entry, Packed, Sight};
use async_cache_core::key::Key;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, OptionsBuilder, UnitWeighter, Weighter};

use super::weigh;
use crate::Hasher;
use crate::builder::Weigher;

/// Most entries expected in one shard. A shard's table grows at once, under its lock: this bounds
/// how long that takes, whatever the capacity.
const SHARD_ENTRIES: u64 = 8192;
const MAX_SHARDS: u64 = 4096;

/// What an entry is guessed to weigh if there is a weigher: the engine wants to know how many to
/// expect, and remembers half as many that it has dropped.
const GUESSED_WEIGHT: u64 = 1024;

/// Entries, each of weight 1.
pub(crate) struct Quick<V>(Cache<Key, Packed<V>, UnitWeighter, Hasher>);

/// Entries with their weights.
pub(crate) struct QuickWeighed<V> {
    cache: Cache<Key, (Packed<V>, u32), Stored, Hasher>,
    weigher: Arc<Weigher<V>>,
}

/// Reads the weight stored with the entry.
#[derive(Clone)]
struct Stored;

impl<V> Weighter<Key, (Packed<V>, u32)> for Stored {
    fn weight(&self, _: &Key, value: &(Packed<V>, u32)) -> u64 {
        u64::from(value.1)
    }
}

/// A key as it is looked up.
#[derive(Hash)]
struct Bytes<'a>(&'a [u8]);

impl Equivalent<Key> for Bytes<'_> {
    #[inline]
    fn equivalent(&self, key: &Key) -> bool {
        same(self.0, key.as_bytes())
    }
}

/// Equality, with short keys compared in place: a call of `memcmp` costs more than that.
#[inline(always)]
fn same(a: &[u8], b: &[u8]) -> bool {
    /// Two slices of one length from `N` to 2 × `N`: equal if both ends are.
    #[inline(always)]
    fn ends<const N: usize>(a: &[u8], b: &[u8]) -> bool {
        a.first_chunk::<N>() == b.first_chunk::<N>() && a.last_chunk::<N>() == b.last_chunk::<N>()
    }
    a.len() == b.len()
        && match a.len() {
            8..=16 => ends::<8>(a, b),
            4..=7 => ends::<4>(a, b),
            2..=3 => ends::<2>(a, b),
            _ => a == b,
        }
}

fn build<T: Clone, W: Weighter<Key, T> + Clone>(
    capacity: u64,
    entries: u64,
    weighter: W,
) -> Cache<Key, T, W, Hasher> {
    let threads = std::thread::available_parallelism().map_or(4, |n| n.get() as u64);
    let shards = (entries / SHARD_ENTRIES).clamp(threads * 4, MAX_SHARDS.max(threads * 4));
    let mut options = OptionsBuilder::new();
    options.shards(shards as usize).weight_capacity(capacity).estimated_items_capacity(entries as usize);
    // Fails only for what is not set.
    let options = options.build().unwrap_or_else(|_| unreachable!("both capacities are set"));
    Cache::with_options(options, weighter, Hasher::default(), DefaultLifecycle::default())
}

impl<V> Quick<V> {
    pub(crate) fn new(capacity: u64) -> Self {
        Self(build(capacity, capacity, UnitWeighter))
    }
}

impl<V: Send + Sync + 'static> LocalBackend<V> for Quick<V> {
    fn get(&self, key: &[u8]) -> Option<Entry<V>> {
        self.0.get(&Bytes(key)).map(Entry::from)
    }

    #[inline]
    fn answer(&self, key: &[u8], sight: &Sight<'_>) -> Option<Option<Arc<V>>> {
        Packed::answer(self.0.get(&Bytes(key)), sight)
    }

    fn insert(&self, key: &Key, entry: Entry<V>) {
        self.0.insert(key.clone(), entry.into());
    }

    fn remove(&self, key: &[u8]) {
        self.0.remove(&Bytes(key));
    }

    fn clear(&self) {
        self.0.clear();
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

impl<V> QuickWeighed<V> {
    pub(crate) fn new(capacity: u64, weigher: Weigher<V>) -> Self {
        let entries = (capacity / GUESSED_WEIGHT).max(capacity.min(10_000));
        Self { cache: build(capacity, entries, Stored), weigher: Arc::new(weigher) }
    }
}

impl<V: Send + Sync + 'static> LocalBackend<V> for QuickWeighed<V> {
    fn get(&self, key: &[u8]) -> Option<Entry<V>> {
        self.cache.get(&Bytes(key)).map(|(entry, _)| entry.into())
    }

    #[inline]
    fn answer(&self, key: &[u8], sight: &Sight<'_>) -> Option<Option<Arc<V>>> {
        Packed::answer(self.cache.get(&Bytes(key)).map(|(entry, _)| entry), sight)
    }

    fn insert(&self, key: &Key, entry: Entry<V>) {
        match weigh(&self.weigher, key, &entry) {
            Some(weight) => self.cache.insert(key.clone(), (entry.into(), weight)),
            None => self.remove(key.as_bytes()),
        }
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
