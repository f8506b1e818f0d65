//! Calls a listener for each entry that has left an L1.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use async_cache_core::key::Key;

/// The maximum number of entries that wait for the listener.
const MOST_WAITING: usize = 8192;

/// Why an entry has left an L1: an argument of the listener of [`on_evict`](crate::MemoryBackendBuilder::on_evict).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EvictionCause {
    /// The L1 was full.
    Size,
    /// No lookup used it for `time_to_idle`.
    Idle,
    /// It could never answer again: its `ttl` and its `stale_for` are over, or the invalidation of a tag or of
    /// everything has voided it. The background search for such entries may find it long after that.
    Expired,
    /// Another value of its key took its place, by a load or a refresh.
    Replaced,
    /// Its key was invalidated, inserted or expired, on this node or on another; or the cache was shut down.
    Removed,
}

/// The function that is called for each entry that has left.
pub(crate) type Listener<V> = Box<dyn FnMut(&[u8], Option<&Arc<V>>, EvictionCause) + Send>;

/// An entry that has left.
struct Evicted<V> {
    key: Key,
    value: Option<Arc<V>>,
    cause: EvictionCause,
}

/// Adds an entry to a queue. False if there is no room.
type Enqueue<V> = Box<dyn Fn(Evicted<V>) -> bool + Send + Sync>;

/// The queue to the listener. Entries leave under locks of the cache, so the listener runs on a thread of its own.
pub(crate) struct Outlet<V> {
    /// Behind a pointer, so that only a cache with a listener compiles the queue.
    enqueue: Enqueue<V>,
    missed: AtomicU64,
}

impl<V: Send + Sync + 'static> Outlet<V> {
    /// Starts the thread of the listener. It ends when the last engine with this outlet is dropped.
    pub(crate) fn open(listener: Listener<V>) -> Arc<Self> {
        let (waiting, evicted) = sync_channel(MOST_WAITING);
        // If the thread cannot start, there is no receiver, and every entry counts as missed.
        let run = move || tell_all(&evicted, listener);
        drop(std::thread::Builder::new().name("async-cache-evicted".to_owned()).spawn(run));
        let enqueue = Box::new(move |entry| waiting.try_send(entry).is_ok());
        Arc::new(Self { enqueue, missed: AtomicU64::new(0) })
    }
}

impl<V> Outlet<V> {
    /// Adds an entry. It never waits: if there is no room, the entry is only counted.
    pub(crate) fn tell(&self, key: &Key, value: Option<Arc<V>>, cause: EvictionCause) {
        if !(self.enqueue)(Evicted { key: key.clone(), value, cause }) {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

fn tell_all<V>(evicted: &Receiver<Evicted<V>>, mut listener: Listener<V>) {
    for Evicted { key, value, cause } in evicted {
        // A panic of the listener or of the value's `Drop` must not end the thread.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            listener(key.as_bytes(), value.as_ref(), cause);
            drop(value);
        }));
    }
}

/// Whether two values are one: an entry that is stored again, with another life, has not been replaced.
pub(crate) fn is_same<V>(one: Option<&Arc<V>>, other: Option<&Arc<V>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}
