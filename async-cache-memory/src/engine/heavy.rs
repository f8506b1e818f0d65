//! Entries that weigh more than a shard of the engine may hold: one table for all of them.
//!
//! There are few of them, because they are heavy. So one lock is enough, and a search among all of them finds
//! the entry to drop.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_cache_core::backend::{Entry, HitCheck, PackedEntry};
use async_cache_core::key::Key;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The table, and a clock that counts the weight stored anywhere in the L1. If an entry was not used while a
/// whole capacity was stored, it is dropped, as it would be in one queue with all other entries.
pub(super) struct Heavy<V> {
    table: RwLock<Table<V>>,
    stored: AtomicU64,
}

pub(super) struct Table<V> {
    held: HashMap<Key, Held<V>>,
    pub(super) weight: u64,
}

struct Held<V> {
    terms: PackedEntry,
    value: Option<Arc<V>>,
    weight: u64,
    /// When it was used last, by the clock of stored weight.
    used: AtomicU64,
}

/// An entry to be stored.
pub(super) struct Incoming<'a, V> {
    pub(super) key: &'a Key,
    pub(super) entry: Entry<V>,
    pub(super) weight: u64,
}

/// An entry that was taken out.
pub(super) struct TakenOut<V> {
    pub(super) key: Key,
    pub(super) value: Option<Arc<V>>,
}

/// Entries taken out, to be dropped when the lock is free: the `Drop` of a value is the user's code.
pub(super) type Dropped<V> = Vec<TakenOut<V>>;

impl<V> Heavy<V> {
    pub(super) fn new() -> Self {
        Self { table: RwLock::new(Table { held: HashMap::new(), weight: 0 }), stored: AtomicU64::new(0) }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Table<V>> {
        self.table.read()
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Table<V>> {
        self.table.write()
    }

    fn now(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Counts stored weight. Returns whether another sixteenth of the capacity was stored.
    pub(super) fn count(&self, weight: u64, capacity: u64) -> bool {
        let (before, step) = (self.stored.fetch_add(weight, Ordering::Relaxed), (capacity / 16).max(1));
        before / step != (before + weight) / step
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Entry<V>> {
        let table = self.read();
        let held = table.held.get(key)?;
        held.used.store(self.now(), Ordering::Relaxed);
        Some(held.terms.with(held.value.clone()))
    }

    pub(super) fn answer(&self, sight: &HitCheck<'_>) -> Option<Option<Arc<V>>> {
        let table = self.read();
        let held = table.held.get(sight.key()).filter(|held| held.terms.answers(sight))?;
        held.used.store(self.now(), Ordering::Relaxed);
        Some(held.value.clone())
    }

    /// Takes out the entries that were not asked for while `capacity` was stored.
    pub(super) fn drop_unused(&self, table: &mut Table<V>, capacity: u64) -> Dropped<V> {
        let least = self.now().saturating_sub(capacity);
        let unused = table.held.iter().filter(|(_, held)| held.used.load(Ordering::Relaxed) < least);
        let unused: Vec<Key> = unused.map(|(key, _)| key.clone()).collect();
        unused.iter().filter_map(|key| table.remove(key.as_bytes())).collect()
    }

    /// Stores an entry that fits the capacity, in the place of those that were used longest ago.
    pub(super) fn insert(
        &self,
        table: &mut Table<V>,
        incoming: Incoming<'_, V>,
        capacity: u64,
    ) -> Dropped<V> {
        let Incoming { key, entry, weight } = incoming;
        let mut dropped: Dropped<V> = table.remove(key.as_bytes()).into_iter().collect();
        while table.weight + weight > capacity {
            let oldest = table.held.iter().min_by_key(|(_, held)| held.used.load(Ordering::Relaxed));
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
            dropped.extend(table.remove(oldest.as_bytes()));
        }
        let (terms, value) = PackedEntry::of(entry);
        table.weight += weight;
        table.held.insert(key.clone(), Held { terms, value, weight, used: AtomicU64::new(self.now()) });
        dropped
    }
}

impl<V> Table<V> {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.held.contains_key(key)
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.held.keys().cloned().collect()
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<TakenOut<V>> {
        let (key, held) = self.held.remove_entry(key)?;
        self.weight -= held.weight;
        Some(TakenOut { key, value: held.value })
    }

    pub(super) fn remove_if(
        &mut self,
        key: &[u8],
        condition: &dyn Fn(&[u8], &Entry<V>) -> bool,
    ) -> Option<TakenOut<V>> {
        let held = self.held.get(key)?;
        if condition(key, &held.terms.with(held.value.clone())) { self.remove(key) } else { None }
    }

    pub(super) fn take_all(&mut self) -> Dropped<V> {
        self.weight = 0;
        self.held.drain().map(|(key, held)| TakenOut { key, value: held.value }).collect()
    }
}
