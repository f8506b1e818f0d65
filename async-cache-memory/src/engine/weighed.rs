//! The engine on quick_cache, with weights.
//!
//! The engine divides the capacity among its shards, and a shard refuses entries heavier than its part. So entries
//! heavier than half a shard are stored in a separate table. The capacity of the shards shrinks by the weight of that
//! table.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_cache_core::LocalBackend;
use async_cache_core::backend::{Entry, HitCheck};
use async_cache_core::key::Key;

use super::claim::{Claim, Shareable, too_late};
use super::heavy::{Dropped, Heavy, Incoming, Table, TakenOut};
use super::quick::Quick;
use super::weigh::{Weigher, weigh};
use crate::eviction::{EvictionCause, Outlet, is_same};

/// The assumed weight of an entry. The engine needs the number of expected entries, and remembers the keys of half as
/// many that it has dropped.
const GUESSED_WEIGHT: u64 = 1024;

/// Clones share everything.
pub(crate) struct Weighed<V> {
    light: Quick<V, u32>,
    inner: Arc<Inner<V>>,
    claim: Option<Arc<Claim>>,
}

struct Inner<V> {
    heavy: Heavy<V>,
    weigher: Arc<Weigher<V>>,
    capacity: u64,
    /// The heaviest entry that goes into a shard.
    limit: AtomicU64,
    refused: AtomicU64,
    evicted: Option<Arc<Outlet<V>>>,
}

impl<V: Send + Sync + 'static> Weighed<V> {
    pub(crate) fn new(capacity: u64, weigher: Arc<Weigher<V>>, evicted: Option<Arc<Outlet<V>>>) -> Self {
        let entries = (capacity / GUESSED_WEIGHT).max(capacity.min(10_000));
        let light = Quick::build(capacity, entries, evicted.clone());
        let (heavy, refused) = (Heavy::new(), AtomicU64::new(0));
        let limit = AtomicU64::new(limit(capacity, light.shards()));
        let inner = Inner { heavy, weigher, capacity, limit, refused, evicted };
        Self { light, inner: Arc::new(inner), claim: None }
    }

    /// Gives the shards the capacity that the table leaves, at least 1 for each. Without capacity a shard forgets which
    /// keys it has dropped.
    fn share_capacity(&self, table: &Table<V>) {
        let shards = self.light.shards();
        let rest = (self.inner.capacity - table.weight.min(self.inner.capacity)).max(shards);
        self.inner.limit.store(limit(rest, shards), Ordering::Relaxed);
        self.light.set_capacity(rest);
    }

    /// Changes the table, and drops the values taken out when the lock is free. `cause` says why they are.
    fn change(&self, cause: EvictionCause, change: impl FnOnce(&mut Table<V>) -> Dropped<V>) {
        let mut table = self.inner.heavy.write();
        let before = table.weight;
        let dropped = change(&mut table);
        if table.weight != before {
            self.share_capacity(&table);
        }
        drop(table);
        if let Some(outlet) = &self.inner.evicted {
            dropped.into_iter().for_each(|TakenOut { key, value }| outlet.tell(&key, value, cause));
        }
    }

    fn remove_heavy(&self, key: &[u8]) {
        if self.inner.heavy.read().contains(key) {
            self.change(EvictionCause::Removed, |table| table.remove(key).into_iter().collect());
        }
    }

    fn store(&self, key: &Key, entry: Entry<V>, weight: u32) {
        let (heavy, capacity) = (&self.inner.heavy, self.inner.capacity);
        let lap = heavy.count(u64::from(weight), capacity);
        let table = heavy.read();
        if u64::from(weight) <= self.inner.limit.load(Ordering::Relaxed) && !table.contains(key.as_bytes()) {
            // This is done under the lock, so that no entry of this key gets into the table meanwhile.
            self.light.store(key, entry, weight);
            let unused = lap && table.len() > 0;
            drop(table);
            if unused {
                self.change(EvictionCause::Size, |table| heavy.drop_unused(table, capacity));
            }
            return;
        }
        drop(table);
        let value = entry.value.clone();
        let mut before = Dropped::new();
        self.change(EvictionCause::Size, |table| {
            before.extend(self.light.take(key.as_bytes()));
            before.extend(table.remove(key.as_bytes()));
            heavy.insert(table, Incoming { key, entry, weight: u64::from(weight) }, capacity)
        });
        before.retain(|taken| !is_same(taken.value.as_ref(), value.as_ref()));
        if let Some(outlet) = &self.inner.evicted {
            before.into_iter().for_each(|taken| outlet.tell(key, taken.value, EvictionCause::Replaced));
        }
    }
}

/// A shard holds a little less than its part of the capacity, and more than one entry.
fn limit(capacity: u64, shards: u64) -> u64 {
    (capacity.div_ceil(shards) / 2).max(1)
}

impl<V: Send + Sync + 'static> LocalBackend<V> for Weighed<V> {
    fn get(&self, key: &[u8]) -> Option<Entry<V>> {
        self.light.get(key).or_else(|| self.inner.heavy.get(key))
    }

    #[inline]
    fn answer(&self, sight: &HitCheck<'_>) -> Option<Option<Arc<V>>> {
        match self.light.answer(sight) {
            None => self.inner.heavy.answer(sight),
            answer => answer,
        }
    }

    fn insert(&self, key: &Key, entry: Entry<V>) {
        match weigh(&self.inner.weigher, key, &entry) {
            Some(weight) if u64::from(weight) <= self.inner.capacity => self.store(key, entry, weight),
            _ => {
                self.inner.refused.fetch_add(1, Ordering::Relaxed);
                self.remove(key.as_bytes());
            }
        }
        if too_late(self.claim.as_ref()) {
            self.remove(key.as_bytes());
        }
    }

    fn remove(&self, key: &[u8]) {
        self.light.remove(key);
        self.remove_heavy(key);
    }

    fn clear(&self) {
        self.light.clear();
        self.change(EvictionCause::Removed, Table::take_all);
    }

    fn len(&self) -> u64 {
        self.light.len() + self.inner.heavy.read().len() as u64
    }

    fn refused(&self) -> u64 {
        self.inner.refused.load(Ordering::Relaxed)
    }

    fn close(&self) {
        if let Some(claim) = &self.claim {
            claim.end();
        }
        self.clear();
    }

    fn sweep<'a>(
        &'a self,
        is_dead: &'a (dyn Fn(&[u8], &Entry<V>) -> bool + Send + Sync),
    ) -> Box<dyn Iterator<Item = ()> + Send + 'a> {
        let keys = self.inner.heavy.read().keys();
        let heavy = keys.into_iter().map(move |key| {
            let dead = |table: &mut Table<V>| table.remove_if(key.as_bytes(), is_dead).into_iter().collect();
            self.change(EvictionCause::Expired, dead);
        });
        Box::new(heavy.chain(self.light.sweep(is_dead)))
    }
}

impl<V: Send + Sync + 'static> Shareable<V> for Weighed<V> {
    fn handle(&self, claim: Arc<Claim>) -> Box<dyn LocalBackend<V>> {
        Box::new(Self { light: self.light.share(), inner: Arc::clone(&self.inner), claim: Some(claim) })
    }
}
