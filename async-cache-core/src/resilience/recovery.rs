//! Invalidations whose outcome is unknown: kept, and retried until they land.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::Result;
use crate::key::Key;
use crate::shared::Shared;

/// More keys than this are replaced by one clear of the namespace: sound, and it costs refills.
const MAX_KEYS: usize = 10_000;

/// Keys sent at once.
const BATCH: usize = 256;

/// Pause between attempts.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// The invalidations to be retried: one per key, the newest.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    queue: Mutex<Queue>,
    len: AtomicUsize,
    added: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    keys: HashMap<Key, u64>,
    /// Number of the newest clear; 0 for none.
    clear: u64,
    number: u64,
}

impl Pending {
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Whether the shared tier may hold a value of this key that was invalidated here. Until the
    /// retry lands, this node must not read it there.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        if self.len() == 0 {
            return false;
        }
        let queue = self.queue.lock();
        queue.clear > 0 || queue.keys.contains_key(key)
    }

    pub(crate) fn add(&self, keys: &[Key]) {
        let mut queue = self.queue.lock();
        for key in keys {
            queue.number += 1;
            let number = queue.number;
            queue.keys.insert(key.clone(), number);
        }
        if queue.keys.len() > MAX_KEYS {
            queue.keys.clear();
            queue.number += 1;
            queue.clear = queue.number;
        }
        self.publish(&queue);
    }

    pub(crate) fn add_clear(&self) {
        let mut queue = self.queue.lock();
        queue.number += 1;
        queue.clear = queue.number;
        queue.keys.clear();
        self.publish(&queue);
    }

    fn publish(&self, queue: &Queue) {
        self.len.store(queue.keys.len() + usize::from(queue.clear > 0), Ordering::Release);
        self.added.notify_one();
    }

    /// The next piece of work, oldest first; a clear before keys invalidated after it.
    fn next(&self) -> Option<Work> {
        let queue = self.queue.lock();
        if queue.clear > 0 {
            return Some(Work::Clear(queue.clear));
        }
        let mut keys: Vec<_> = queue.keys.iter().map(|(key, number)| (key.clone(), *number)).collect();
        keys.sort_unstable_by_key(|(_, number)| *number);
        keys.truncate(BATCH);
        (!keys.is_empty()).then_some(Work::Keys(keys))
    }

    /// Takes out what has landed, unless it has been asked for again meanwhile.
    fn landed(&self, work: &Work) {
        let mut queue = self.queue.lock();
        match work {
            Work::Clear(number) if queue.clear == *number => queue.clear = 0,
            Work::Clear(_) => {}
            Work::Keys(keys) => {
                for (key, number) in keys {
                    if queue.keys.get(key.as_bytes()) == Some(number) {
                        queue.keys.remove(key.as_bytes());
                    }
                }
            }
        }
        self.len.store(queue.keys.len() + usize::from(queue.clear > 0), Ordering::Release);
    }
}

enum Work {
    Clear(u64),
    Keys(Vec<(Key, u64)>),
}

/// Retries until the cache is closed.
pub(crate) async fn run<V: Send + Sync + 'static>(shared: Arc<Shared<V>>) {
    loop {
        let Some(work) = shared.pending.next() else {
            shared.pending.added.notified().await;
            continue;
        };
        match attempt(&shared, &work).await {
            Ok(()) => {
                shared.pending.landed(&work);
                shared.look_around();
            }
            Err(_) => tokio::time::sleep(RETRY_EVERY).await,
        }
    }
}

async fn attempt<V: Send + Sync + 'static>(shared: &Shared<V>, work: &Work) -> Result<()> {
    match work {
        Work::Clear(_) => shared.send_clear().await.map(drop),
        Work::Keys(keys) => {
            let keys: Vec<Key> = keys.iter().map(|(key, _)| key.clone()).collect();
            shared.send_invalidate(&keys).await.map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        Key::encode(&n).unwrap()
    }

    #[test]
    fn a_key_asked_for_again_meanwhile_stays() {
        let pending = Pending::default();
        pending.add(&[key(1), key(2)]);
        let work = pending.next().unwrap();
        pending.add(&[key(1)]);
        pending.landed(&work);
        assert!(pending.covers(key(1).as_bytes()));
        assert!(!pending.covers(key(2).as_bytes()));
        assert_eq!(pending.len(), 1);
    }

    #[test]
    fn too_many_keys_become_a_clear_and_none_is_forgotten() {
        let pending = Pending::default();
        for n in 0..=MAX_KEYS {
            pending.add(&[key(n)]);
        }
        assert_eq!(pending.len(), 1);
        assert!(pending.covers(b"anything"));
        let work = pending.next().unwrap();
        assert!(matches!(work, Work::Clear(_)));
        pending.landed(&work);
        assert_eq!(pending.len(), 0);
    }
}
