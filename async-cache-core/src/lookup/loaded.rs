//! What a loader receives, and what it returns.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Entry, Tick};
use crate::options::Choice;

/// What a loader returns: a value, and options for caching it.
///
/// A loader may return the plain value instead.
#[derive(Debug, Clone)]
pub struct Loaded<V> {
    /// `None` means that the previous value is still right.
    pub(crate) value: Option<V>,
    pub(crate) choice: Choice,
    pub(crate) keep: Keep,
}

/// Whether a loaded value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Cached,
    Uncached,
}

impl<V> Loaded<V> {
    /// A value to be cached with the options of the call.
    pub fn new(value: V) -> Self {
        Self { value: Some(value), choice: Choice::default(), keep: Keep::Cached }
    }

    /// The previous value is still right. It begins a new life, keeps its tags, and is the answer for all
    /// waiting callers. It is for loaders that receive it: see [`LoadContext::previous`]. Without a previous
    /// value it is an error of kind [`Loader`](crate::error::ErrorKind::Loader).
    #[must_use]
    pub fn unchanged() -> Self {
        Self { value: None, choice: Choice::default(), keep: Keep::Cached }
    }

    /// Sets the lifetime of this value.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.choice.ttl = Some(ttl);
        self
    }

    /// Caps the lifetime of this value in L1.
    #[must_use]
    pub fn l1_ttl(mut self, l1_ttl: Duration) -> Self {
        self.choice.l1_ttl = Some(l1_ttl);
        self
    }

    /// Shortens the lifetime of this value at random by up to this fraction (0 to below 1).
    #[must_use]
    pub fn ttl_jitter(mut self, fraction: f64) -> Self {
        self.choice.ttl_jitter = Some(fraction);
        self
    }

    /// Sets how long past its expiry this value is kept as a fallback.
    #[must_use]
    pub fn stale_for(mut self, stale_for: Duration) -> Self {
        self.choice.stale_for = Some(stale_for);
        self
    }

    /// Refreshes this value ahead of its expiry, with this eagerness.
    #[must_use]
    pub fn refresh_ahead(mut self, eagerness: f64) -> Self {
        self.choice.refresh_ahead = Some(eagerness);
        self
    }

    /// Adds a tag to those of the call; see [`StoreOptions::tag`](crate::options::StoreOptions::tag).
    ///
    /// An invalidation of the tag during the load is not lost, although the tag is unknown until the load
    /// ends. Callers that asked before the invalidation get the value, and it is stored nowhere.
    #[must_use]
    pub fn tag(mut self, tag: impl AsRef<str>) -> Self {
        self.choice.tags.add(tag.as_ref());
        self
    }

    /// Adds tags; see [`tag`](Self::tag).
    #[must_use]
    pub fn tags<T: AsRef<str>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        tags.into_iter().for_each(|tag| self.choice.tags.add(tag.as_ref()));
        self
    }

    /// Returns the value to all waiting callers, and stores it nowhere. If the value was to replace an older
    /// one (a fallback, or a value refreshed before its expiry), the older one is removed, because it is
    /// known to be old.
    #[must_use]
    pub fn uncached(mut self) -> Self {
        self.keep = Keep::Uncached;
        self
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

/// What a loader receives: see
/// [`TieredCache::get_or_load_with`](crate::api::cache::TieredCache::get_or_load_with).
pub struct LoadContext<V> {
    pub(crate) previous: Option<Arc<V>>,
    pub(crate) age: Option<Duration>,
    pub(crate) attempt: u32,
}

impl<V> LoadContext<V> {
    pub(crate) fn of(previous: Option<&Entry<V>>, now: Tick) -> Self {
        Self {
            previous: previous.and_then(|entry| entry.value.clone()),
            age: previous.map(|entry| entry.life.age(now)),
            attempt: previous.map_or(1, |entry| entry.life.failures.saturating_add(1)),
        }
    }

    /// The value that this load is to replace. Either it has expired and is kept as a fallback, or it is
    /// refreshed before its expiry or on demand. It is never an invalidated value.
    #[must_use]
    pub fn previous(&self) -> Option<&Arc<V>> {
        self.previous.as_ref()
    }

    /// The time since the previous value was loaded, or last found unchanged.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.age
    }

    /// The number of this attempt. It is 1 plus the number of loads on this node that have failed since the
    /// previous value was loaded.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl<V> fmt::Debug for LoadContext<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadContext")
            .field("previous", &self.previous.is_some())
            .field("age", &self.age)
            .field("attempt", &self.attempt)
            .finish()
    }
}
