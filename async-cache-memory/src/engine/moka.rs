//! The engine on moka.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_cache_core::LocalBackend;
use async_cache_core::backend::{Entry, PackedEntry};
use async_cache_core::key::Key;

use ::moka::notification::RemovalCause;

use super::claim::{Claim, Shareable, too_late};
use super::erased::{AnyValue, Held, Listener, Map};
use super::weigh::{Weigher, weigh};
use crate::eviction::{EvictionCause, Outlet};

/// Handles share everything.
pub(crate) struct Moka<V> {
    map: Map,
    weigher: Option<Arc<Weigher<V>>>,
    refused: Arc<AtomicU64>,
    capacity: u64,
    /// Whether there is a listener or a `time_to_idle`. Then moka's log is also processed in the background.
    watched: bool,
    claim: Option<Arc<Claim>>,
}

/// The present operation of this thread on the engine. The engine calls its listener on this thread.
#[derive(Clone, Copy)]
enum Doing {
    Nothing,
    /// It removes an entry that can never answer again.
    Sweeping,
    /// It stores the value at this address.
    Storing(usize),
}

thread_local! {
    static DOING: Cell<Doing> = const { Cell::new(Doing::Nothing) };
}

fn while_doing(doing: Doing, call: impl FnOnce()) {
    DOING.set(doing);
    call();
    DOING.set(Doing::Nothing);
}

fn address(value: Option<&AnyValue>) -> usize {
    value.map_or(0, |value| Arc::as_ptr(value).addr())
}

/// The cause for the listener. An entry that is stored again with another life has not been replaced.
fn cause_of(cause: RemovalCause, value: Option<&AnyValue>) -> Option<EvictionCause> {
    match (cause, DOING.get()) {
        (RemovalCause::Size, _) => Some(EvictionCause::Size),
        // The engine knows no other expiry.
        (RemovalCause::Expired, _) => Some(EvictionCause::Idle),
        (RemovalCause::Replaced, Doing::Storing(stored)) if stored == address(value) => None,
        (RemovalCause::Replaced, _) => Some(EvictionCause::Replaced),
        (RemovalCause::Explicit, Doing::Sweeping) => Some(EvictionCause::Expired),
        (RemovalCause::Explicit, _) => Some(EvictionCause::Removed),
    }
}

/// The value, as the type that it was stored with.
fn typed<V: Send + Sync + 'static>(value: Option<AnyValue>) -> Option<Arc<V>> {
    value.map(|value| value.downcast().expect("an engine stores values of one type"))
}

impl<V: Send + Sync + 'static> Moka<V> {
    pub(crate) fn new(
        capacity: u64,
        weigher: Option<Arc<Weigher<V>>>,
        time_to_idle: Option<Duration>,
        evicted: Option<Arc<Outlet<V>>>,
    ) -> Self {
        let watched = time_to_idle.is_some() || evicted.is_some();
        let listener = evicted.map(|outlet| -> Listener {
            Box::new(move |key, value, cause| {
                if let Some(cause) = cause_of(cause, value.as_ref()) {
                    outlet.tell(key, typed(value), cause);
                }
            })
        });
        let map = Map::new(capacity, weigher.is_some(), time_to_idle, listener);
        Self { map, weigher, refused: Arc::default(), capacity, watched, claim: None }
    }
}

impl<V: Send + Sync + 'static> LocalBackend<V> for Moka<V> {
    fn get(&self, key: &[u8]) -> Option<Entry<V>> {
        self.map.get(key).map(|Held { value, terms, .. }| terms.with(typed(value)))
    }

    fn insert(&self, key: &Key, entry: Entry<V>) {
        match self.weigher.as_ref().map_or(Some(1), |weigher| weigh(weigher, key, &entry)) {
            Some(weight) if u64::from(weight) <= self.capacity => {
                let (terms, value) = PackedEntry::of(entry);
                let value = value.map(|value| value as AnyValue);
                while_doing(Doing::Storing(address(value.as_ref())), || {
                    self.map.insert(key.clone(), Held { value, terms, weight });
                });
            }
            _ => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                self.remove(key.as_bytes());
            }
        }
        if too_late(self.claim.as_ref()) {
            self.remove(key.as_bytes());
        }
    }

    fn remove(&self, key: &[u8]) {
        self.map.remove(key);
    }

    fn clear(&self) {
        self.map.clear();
        if self.watched {
            self.map.process_log();
        }
    }

    fn len(&self) -> u64 {
        self.map.process_log();
        self.map.len()
    }

    fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn close(&self) {
        if let Some(claim) = &self.claim {
            claim.end();
        }
        self.clear();
        // The engine frees nothing before it has processed its log.
        self.map.process_log();
    }

    fn sweep<'a>(
        &'a self,
        is_dead: &'a (dyn Fn(&[u8], &Entry<V>) -> bool + Send + Sync),
    ) -> Box<dyn Iterator<Item = ()> + Send + 'a> {
        if self.watched {
            // Processing the log frees idle entries. While nobody uses the cache, nothing else processes it.
            self.map.process_log();
        }
        Box::new(self.map.entries().map(move |(key, Held { value, terms, .. })| {
            if is_dead(key.as_bytes(), &terms.with(typed(value))) {
                // The entry may have been replaced a moment ago. Then the new one is removed, which costs a read of L2.
                while_doing(Doing::Sweeping, || self.map.remove(key.as_bytes()));
            }
        }))
    }
}

impl<V: Send + Sync + 'static> Shareable<V> for Moka<V> {
    fn handle(&self, claim: Arc<Claim>) -> Box<dyn LocalBackend<V>> {
        Box::new(Self {
            map: self.map.clone(),
            weigher: self.weigher.clone(),
            refused: Arc::clone(&self.refused),
            capacity: self.capacity,
            watched: self.watched,
            claim: Some(claim),
        })
    }
}
