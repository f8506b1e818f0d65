//! The tier inside the process.

use std::sync::Arc;
use std::time::Duration;

use super::{Life, Token};
use crate::coherence::TagTable;
use crate::key::Key;
use crate::tags::Tags;

/// A point on a cache's monotonic clock, in nanoseconds from a moment some decades before the
/// cache was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// Later than any other.
    pub const MAX: Self = Self(u64::MAX);

    /// The point `span` later, or [`Tick::MAX`].
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// What L1 holds for a key. Cloning it costs one reference count, or two if it has tags.
#[derive(Debug)]
pub struct Entry<V> {
    /// The value; `None` is a cached absence.
    pub value: Option<Arc<V>>,
    /// When it expires, and more. The cache checks it; an engine need not.
    pub life: Life,
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

/// What an entry is held against before it may answer. Read before the entry is.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    pub(crate) now: Tick,
    pub(crate) generation: u64,
    /// The sequence number a value must reflect, unless that was applied here already.
    pub(crate) need: u64,
    /// Looked at last, and for tagged entries alone.
    pub(crate) tags: &'a TagTable,
}

impl Sight<'_> {
    #[inline]
    pub(crate) fn admits<V>(&self, entry: &Entry<V>) -> bool {
        self.now < entry.life.due && self.verifies(entry)
    }

    /// Whether it reflects everything it must, as long as the node serves.
    #[inline]
    pub(crate) fn verifies<V>(&self, entry: &Entry<V>) -> bool {
        entry.generation == self.generation
            && entry.seq >= self.need
            && !self.tags.voids_hit(&entry.tags, entry.seq)
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

    /// The value under a key, if its entry may answer. Here so that it is compiled together with
    /// `get`: of an entry that answers, the value alone is taken out, and comes back in two registers.
    #[doc(hidden)]
    #[inline]
    fn answer(&self, key: &[u8], sight: &Sight<'_>) -> Option<Option<Arc<V>>> {
        let found = self.get(key);
        if !found.as_ref().is_some_and(|entry| sight.admits(entry)) {
            return None;
        }
        found.map(|entry| entry.value)
    }

    /// Itself, to be called for every lookup: an engine inside another hands out the inner one.
    #[doc(hidden)]
    fn into_shared(self) -> Arc<dyn LocalBackend<V>>
    where
        Self: Sized,
    {
        Arc::new(self)
    }

    /// Whether no entry is held, near enough for a gauge.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
