//! The pending changes of this node. Until L2 has executed them, it may hold void values.

use std::collections::HashMap;
use std::sync::Arc;

use crate::backend::Entry;
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::sync::{AtomicUsize, Mutex, Notify, Ordering};

/// The maximum number of pending keys, and of pending tags, of one partition. Beyond it they are replaced by one clear
/// of the partition. That is correct, but values must be loaded again.
const MOST: usize = 10_000;

/// The maximum number of pending keys of all partitions together, as long as each may have [`BATCH`]. Each key
/// belongs to one partition.
const KEYS: usize = 10_000;

/// The same for tags. Each tag belongs to every partition.
const TAGS: usize = 1 << 18;

/// The maximum number of keys or tags sent at once.
const BATCH: usize = 256;

/// The pending changes of every partition. Each partition has its own, because its server may be away while those
/// of others answer.
#[derive(Debug)]
pub(crate) struct UnsentChanges {
    partitions: Box<[Unsent]>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    len: AtomicUsize,
    added: Notify,
}

impl UnsentChanges {
    pub(crate) fn new(partitions: u16) -> Self {
        let shared = Arc::<Shared>::default();
        let share = |all: usize| (all / usize::from(partitions.max(1))).clamp(BATCH, MOST);
        let limits = Limits { keys: share(KEYS), tags: share(TAGS) };
        let unsent = |_| Unsent { queue: Mutex::default(), limits, shared: Arc::clone(&shared) };
        Self { partitions: (0..partitions).map(unsent).collect(), shared }
    }

    /// The number of pending changes. A change of tags counts once for each partition that it has not reached.
    pub(crate) fn len(&self) -> usize {
        self.shared.len.load(Ordering::Acquire)
    }

    /// The pending changes of one partition.
    pub(crate) fn of(&self, partition: u16) -> &Unsent {
        &self.partitions[usize::from(partition)]
    }

    /// The partitions that have pending changes.
    pub(crate) fn partitions(&self) -> Vec<u16> {
        if self.len() == 0 {
            return Vec::new();
        }
        (0..)
            .zip(&self.partitions)
            .filter(|(_, unsent)| unsent.queue.lock().len() > 0)
            .map(|(index, _)| index)
            .collect()
    }

    /// Waits until a change has been added since the last wait.
    pub(crate) async fn added(&self) {
        self.shared.added.notified().await;
    }
}

/// The pending changes of one partition: the newest one of each key and tag, and the newest clear.
#[derive(Debug)]
pub(crate) struct Unsent {
    queue: Mutex<Queue>,
    limits: Limits,
    shared: Arc<Shared>,
}

/// How many keys and tags of a partition may be pending.
#[derive(Debug, Clone, Copy)]
struct Limits {
    keys: usize,
    tags: usize,
}

#[derive(Debug, Default)]
struct Queue {
    keys: HashMap<Key, u64>,
    tags: HashMap<Box<[u8]>, Mark>,
    clear: Option<Mark>,
    number: u64,
    /// The number of changes that [`Shared::len`] counts.
    counted: usize,
}

/// Decides which entries of L1 a pending tag invalidation or clear voids. A pending key is already removed
/// from L1. A clear voids the entries that it finds. A tag voids the entries that were read before it, as
/// their generation shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    number: u64,
    /// Entries of a lower generation were read before the change.
    generation: u64,
}

impl Unsent {
    /// Whether no change of any partition is pending.
    fn is_empty(&self) -> bool {
        self.shared.len.load(Ordering::Acquire) == 0
    }

    /// Whether L2 may hold a value of this key that was invalidated on this node. Until the retry succeeds,
    /// this node must not read the key from L2.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        if self.is_empty() {
            return false;
        }
        let queue = self.queue.lock();
        queue.clear.is_some() || queue.keys.contains_key(key)
    }

    /// Whether a pending change voids a value of L2 with these tags. A pending clear does: it may have taken the
    /// place of a pending tag since the value was asked for.
    pub(crate) fn voids_read(&self, tags: &Tags) -> bool {
        if self.is_empty() {
            return false;
        }
        let queue = self.queue.lock();
        queue.clear.is_some() || tags.iter().any(|tag| queue.tags.contains_key(tag))
    }

    /// Whether an entry of L1 was read before a pending invalidation of one of its tags. The invalidation may
    /// have become part of a clear.
    pub(crate) fn voids<V>(&self, entry: &Entry<V>) -> bool {
        if self.is_empty() {
            return false;
        }
        let queue = self.queue.lock();
        let before = |mark: &Mark| entry.generation < mark.generation;
        queue.clear.as_ref().is_some_and(before)
            || entry.tags.iter().filter_map(|tag| queue.tags.get(tag)).any(before)
    }

    pub(crate) fn add(&self, key: &Key) {
        let mut queue = self.queue.lock();
        queue.number += 1;
        let number = queue.number;
        queue.keys.insert(key.clone(), number);
        if queue.keys.len() > self.limits.keys {
            queue.fold(0);
        }
        self.publish(&mut queue);
    }

    /// Adds invalidations of tags. `move_generation` raises the generation and returns the new one.
    ///
    /// 1. the tags are pending, and void all entries; 2. the generation rises; 3. the tags void only entries
    ///    of earlier generations.
    ///
    /// With 2 before 1, a get between the two would read an old value from L2, find no pending tag, and store
    /// the value in the new generation.
    ///
    /// A clear takes the place of too many tags in the same order.
    pub(crate) fn add_tags(&self, tags: &[Tags], move_generation: impl Fn() -> u64) {
        let mut queue = self.queue.lock();
        let too_many = queue.len_with(tags) > self.limits.tags;
        let note = |queue: &mut Queue, generation| match too_many {
            true => queue.fold(generation),
            false => queue.mark(tags, generation),
        };
        note(&mut queue, u64::MAX);
        self.publish(&mut queue);
        let generation = move_generation();
        note(&mut queue, generation);
        self.publish(&mut queue);
    }

    pub(crate) fn add_clear(&self) {
        let mut queue = self.queue.lock();
        queue.fold(0);
        self.publish(&mut queue);
    }

    fn publish(&self, queue: &mut Queue) {
        self.count(queue);
        self.shared.added.notify_one();
    }

    fn count(&self, queue: &mut Queue) {
        let (before, now) = (queue.counted, queue.len());
        queue.counted = now;
        match now >= before {
            true => self.shared.len.fetch_add(now - before, Ordering::AcqRel),
            false => self.shared.len.fetch_sub(before - now, Ordering::AcqRel),
        };
    }

    /// The next invalidations to send, the oldest first. A clear is sent before all others.
    pub(crate) fn next(&self) -> Option<Work> {
        let queue = self.queue.lock();
        if let Some(mark) = queue.clear {
            return Some(Work::Clear(mark));
        }
        let keys = oldest(queue.keys.iter().map(|(key, number)| (*number, key, number)));
        let tags = oldest(queue.tags.iter().map(|(tag, mark)| (mark.number, tag, mark)));
        match (keys.first(), tags.first()) {
            (Some((key, ..)), Some((tag, ..))) if tag < key => Some(Work::tags(&tags, *key)),
            (Some(_), next) => Some(Work::keys(&keys, next.map_or(u64::MAX, |(tag, ..)| *tag))),
            (None, Some(_)) => Some(Work::tags(&tags, u64::MAX)),
            (None, None) => None,
        }
    }

    /// Removes the invalidations that L2 has executed. An invalidation that was added again meanwhile stays.
    pub(crate) fn landed(&self, work: &Work) {
        let mut queue = self.queue.lock();
        match work {
            Work::Clear(mark) => {
                queue.clear.take_if(|newest| newest == mark);
            }
            Work::Keys(keys) => {
                for (key, number) in keys {
                    if queue.keys.get(key.as_bytes()) == Some(number) {
                        queue.keys.remove(key.as_bytes());
                    }
                }
            }
            Work::Tags(tags) => {
                for (tag, mark) in tags {
                    if queue.tags.get(tag) == Some(mark) {
                        queue.tags.remove(tag);
                    }
                }
            }
        }
        self.count(&mut queue);
    }
}

impl Queue {
    fn len(&self) -> usize {
        self.keys.len() + self.tags.len() + usize::from(self.clear.is_some())
    }

    /// The number of pending tags with these.
    fn len_with(&self, tags: &[Tags]) -> usize {
        let new = tags.iter().flat_map(Tags::iter).filter(|tag| !self.tags.contains_key(*tag));
        self.tags.len() + new.count()
    }

    fn mark(&mut self, tags: &[Tags], generation: u64) {
        for tag in tags.iter().flat_map(Tags::iter) {
            self.number += 1;
            self.tags.insert(tag.into(), Mark { number: self.number, generation });
        }
    }

    /// Replaces all invalidations by one clear. The clear voids the entries of L1 that the tags voided, and those of
    /// generations before this one.
    fn fold(&mut self, generation: u64) {
        // The mark of a change that is being added is the highest, and the generation that it then gets is the newest.
        let folded = self.tags.values().chain(&self.clear).map(|mark| mark.generation);
        let folded = folded.filter(|generation| *generation < u64::MAX).max().unwrap_or(0);
        self.number += 1;
        self.clear = Some(Mark { number: self.number, generation: folded.max(generation) });
        self.keys.clear();
        self.tags.clear();
    }
}

pub(crate) enum Work {
    Clear(Mark),
    Keys(Vec<(Key, u64)>),
    Tags(Vec<(Box<[u8]>, Mark)>),
}

type Numbered<'a, K, M> = Vec<(u64, &'a K, &'a M)>;

/// The oldest of these invalidations, in order.
fn oldest<'a, K, M>(changes: impl Iterator<Item = (u64, &'a K, &'a M)>) -> Numbered<'a, K, M> {
    let mut changes: Vec<_> = changes.collect();
    changes.sort_unstable_by_key(|(number, ..)| *number);
    changes.truncate(BATCH);
    changes
}

/// The invalidations with numbers below `until`.
fn before<K: Clone, M: Copy>(changes: &Numbered<'_, K, M>, until: u64) -> Vec<(K, M)> {
    let due = changes.iter().take_while(|(number, ..)| *number < until);
    due.map(|(_, what, mark)| ((*what).clone(), **mark)).collect()
}

impl Work {
    fn keys(keys: &Numbered<'_, Key, u64>, until: u64) -> Self {
        Self::Keys(before(keys, until))
    }

    fn tags(tags: &Numbered<'_, Box<[u8]>, Mark>, until: u64) -> Self {
        Self::Tags(before(tags, until))
    }
}

#[cfg(test)]
mod tests;
