//! L1, the tier in the process.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::backend::life::{Expiry, Tick};
use crate::backend::region::Effect;
use crate::backend::tag_table::TagTable;
use crate::error::Result;
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::format::token::Token;

/// An entry of L1. A clone costs one reference count, or two if the entry has tags.
#[derive(Debug)]
pub struct Entry<V> {
    /// The value; `None` is a cached absence.
    pub value: Option<Arc<V>>,
    /// When it expires, and its other times. The cache checks them, so an engine need not.
    pub life: Expiry,
    /// The node's generation when the entry was read. In another generation L2 must confirm it.
    pub generation: u64,
    /// It reflects every change up to this sequence number.
    pub seq: u64,
    /// The token under which L2 stores it.
    pub token: Token,
    /// Its tags.
    pub tags: Tags,
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), tags: self.tags.clone(), ..*self }
    }
}

/// The key of a hit, and the facts that decide whether its entry may answer. They are read before the entry. It has the
/// hash of the key.
///
/// The fields are cells, although they never change. Otherwise the compiler would load all of them into registers
/// before the search, which mostly looks at one entry, and would spill what the registers held.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct HitCheck<'a> {
    key: Cell<&'a [u8]>,
    now: Cell<Tick>,
    generation: Cell<u64>,
    /// It is read last, and only for entries with tags.
    tags: &'a TagTable,
}

impl Hash for HitCheck<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl<'a> HitCheck<'a> {
    #[inline(always)]
    pub(crate) fn new(key: &'a [u8], now: Tick, generation: u64, tags: &'a TagTable) -> Self {
        Self { key: Cell::new(key), now: Cell::new(now), generation: Cell::new(generation), tags }
    }

    /// The key.
    #[inline(always)]
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        self.key.get()
    }

    #[inline(always)]
    pub(crate) fn now(&self) -> Tick {
        self.now.get()
    }

    #[inline(always)]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.get()
    }

    #[inline]
    pub(crate) fn admits<V>(&self, entry: &Entry<V>) -> bool {
        self.now() < entry.life.due() && self.verifies(entry)
    }

    /// Whether the entry is of the present generation, so that no change was missed since it was read.
    #[inline]
    pub(crate) fn is_current<V>(&self, entry: &Entry<V>) -> bool {
        entry.generation == self.generation()
    }

    /// Whether the entry reflects every change that it must, as long as the node serves.
    #[inline]
    pub(crate) fn verifies<V>(&self, entry: &Entry<V>) -> bool {
        self.is_current(entry) && !self.concerns(&entry.tags, entry.seq)
    }

    /// Whether a change of one of these tags is newer than `seq`.
    pub(crate) fn concerns(&self, tags: &Tags, seq: u64) -> bool {
        self.tags.concerns_hit(tags, seq)
    }

    /// The effect of later changes of its tags on an entry.
    pub(crate) fn done_to<V>(&self, entry: &Entry<V>) -> Option<Effect> {
        match self.concerns(&entry.tags, entry.seq) {
            false => None,
            true if self.tags.voids(&entry.tags, entry.seq) => Some(Effect::Void),
            true => Some(Effect::Expire),
        }
    }
}

/// An L1 engine: a bounded concurrent map from encoded keys to [`Entry`].
///
/// It need not know of expiry, generations or invalidation. It may drop any entry at any time, and must never bring
/// back an entry that was removed or replaced. After `remove` or `insert` has returned, every `get` that starts later,
/// on any thread, must see its effect.
pub trait LocalBackend<V>: Send + Sync + 'static {
    /// The entry under a key. The call counts as a use of the entry.
    fn get(&self, key: &[u8]) -> Option<Entry<V>>;

    /// Stores or replaces an entry.
    fn insert(&self, key: &Key, entry: Entry<V>);

    /// Removes an entry.
    fn remove(&self, key: &[u8]);

    /// Frees the entries. It may miss some, because nothing relies on it.
    fn clear(&self);

    /// The approximate number of entries, for a gauge.
    fn len(&self) -> u64;

    /// The value under a key, if its entry may answer. It is a method here so that it is compiled together with `get`.
    #[doc(hidden)]
    #[inline]
    fn answer(&self, sight: &HitCheck<'_>) -> Option<Option<Arc<V>>> {
        self.get(sight.key()).filter(|entry| sight.admits(entry)).map(|entry| entry.value)
    }

    /// Opens it as the L1 of one cache, and returns the engine that every lookup calls. A wrapper may return the engine
    /// inside it. The entries belong to that cache until it is [closed](Self::close).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config) if another cache has it, or if a setting is invalid. The
    /// message names the setting.
    fn open(self, namespace: &str) -> Result<Box<dyn LocalBackend<V>>>
    where
        Self: Sized,
    {
        let _ = namespace;
        Ok(Box::new(self))
    }

    /// Called when the cache is closed. It frees all entries, and those that are inserted from now on.
    fn close(&self) {
        self.clear();
    }

    /// The number of inserts that were refused because of their weight.
    fn refused(&self) -> u64 {
        0
    }

    /// Passes every entry to `is_dead`, one with each step of the iterator, and removes those for which it returns
    /// true. The passed entries have no value. Entries that are inserted meanwhile may be left out.
    fn sweep<'a>(
        &'a self,
        is_dead: &'a (dyn Fn(&[u8], &Entry<V>) -> bool + Send + Sync),
    ) -> Box<dyn Iterator<Item = ()> + Send + 'a> {
        let _ = is_dead;
        Box::new(std::iter::empty())
    }

    /// Whether there is no entry, approximately, for a gauge.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
