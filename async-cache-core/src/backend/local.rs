//! The tier inside the process.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::backend::life::Expiry;
use crate::backend::region::Effect;
use crate::backend::tag_table::TagTable;
use crate::backend::tick::Tick;
use crate::error::Result;
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::format::token::Token;

/// What L1 holds for a key. Cloning it costs one reference count, or two if it has tags.
#[derive(Debug)]
pub struct Entry<V> {
    /// The value; `None` is a cached absence.
    pub value: Option<Arc<V>>,
    /// When it expires, and more. The cache checks it; an engine need not.
    pub life: Expiry,
    /// The node's generation when it was read: another generation means "ask again".
    pub generation: u64,
    /// The sequence number it was granted at: it reflects every change up to this one.
    pub seq: u64,
    /// The token it is stored under in L2.
    pub token: Token,
    /// Its tags.
    pub tags: Tags,
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), tags: self.tags.clone(), ..*self }
    }
}

/// What is looked for, and what an entry is held against before it may answer: read before the entry
/// is. Hashed like the key.
///
/// In cells, though nothing changes: or the compiler would have all of it ready in registers before a
/// search that mostly looks at one entry, and keep what they held elsewhere.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct HitCheck<'a> {
    key: Cell<&'a [u8]>,
    now: Cell<Tick>,
    generation: Cell<u64>,
    /// Looked at last, and for tagged entries alone.
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

    /// Whether no change may have been missed since it was read.
    #[inline]
    pub(crate) fn is_current<V>(&self, entry: &Entry<V>) -> bool {
        entry.generation == self.generation()
    }

    /// Whether it reflects everything it must, as long as the node serves.
    #[inline]
    pub(crate) fn verifies<V>(&self, entry: &Entry<V>) -> bool {
        self.is_current(entry) && !self.concerns(&entry.tags, entry.seq)
    }

    /// Whether a change of one of these tags is newer than `seq`.
    pub(crate) fn concerns(&self, tags: &Tags, seq: u64) -> bool {
        self.tags.concerns_hit(tags, seq)
    }

    /// What changes of its tags have done to an entry since.
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
/// Knows nothing of expiry, generations or invalidation. It may drop any entry at any time; it
/// must never bring back an entry that was removed or replaced. Once `remove` or `insert` has
/// returned, every `get` that starts later, on any thread, sees its effect.
pub trait LocalBackend<V>: Send + Sync + 'static {
    /// The entry under a key, counted as a use of it.
    fn get(&self, key: &[u8]) -> Option<Entry<V>>;

    /// Stores or replaces an entry.
    fn insert(&self, key: &Key, entry: Entry<V>);

    /// Removes an entry.
    fn remove(&self, key: &[u8]);

    /// Frees what is held. Best effort: nothing relies on it.
    fn clear(&self);

    /// Number of entries held, near enough for a gauge.
    fn len(&self) -> u64;

    /// The value under a key, if its entry may answer. Here so that it is compiled together with `get`.
    #[doc(hidden)]
    #[inline]
    fn answer(&self, sight: &HitCheck<'_>) -> Option<Option<Arc<V>>> {
        self.get(sight.key()).filter(|entry| sight.admits(entry)).map(|entry| entry.value)
    }

    /// Itself, as the L1 of one cache: what is called for every lookup. An engine inside another hands out
    /// the inner one. What it holds belongs to that cache until it is [closed](Self::close).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config) if another cache has it, or if a setting of it cannot be,
    /// naming the setting.
    fn open(self, namespace: &str) -> Result<Box<dyn LocalBackend<V>>>
    where
        Self: Sized,
    {
        let _ = namespace;
        Ok(Box::new(self))
    }

    /// The cache has been closed: frees what is held, and whatever is inserted from now on.
    fn close(&self) {
        self.clear();
    }

    /// Inserts that were refused because of their weight.
    fn refused(&self) -> u64 {
        0
    }

    /// Looks at every entry once, one with each step of the iterator, and removes those that are dead. The
    /// entries shown have no value. What is inserted meanwhile may be passed over.
    fn sweep<'a>(
        &'a self,
        is_dead: &'a (dyn Fn(&[u8], &Entry<V>) -> bool + Send + Sync),
    ) -> Box<dyn Iterator<Item = ()> + Send + 'a> {
        let _ = is_dead;
        Box::new(std::iter::empty())
    }

    /// Whether no entry is held, near enough for a gauge.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
