//! What a lookup wants.

use std::time::Duration;

use crate::backend::Entry;
use crate::local::approach::{Approach, Joins, Reuse, Want};
use crate::lookup::loader::{BoxLoader, Wish};
use crate::options::Options;

/// A lookup with a loader, without the key.
pub(crate) struct Plan<V> {
    pub(crate) aim: Aim,
    pub(crate) loader: BoxLoader<V>,
}

/// What a lookup with a loader wants.
#[derive(Debug, Clone)]
pub(crate) struct Aim {
    pub(crate) want: Want,
    pub(crate) reuse: Reuse,
    pub(crate) origin: Origin,
    /// What the loader wants to receive.
    pub(crate) wish: Wish,
    pub(crate) options: Options,
}

/// Whether a caller waits for the lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Its caller waits.
    Caller,
    /// Nobody waits. The lookup refreshes a value in the background.
    Behind,
}

impl<V> Plan<V> {
    pub(crate) fn new(
        (want, reuse, origin): (Want, Reuse, Origin),
        options: Options,
        loader: BoxLoader<V>,
    ) -> Self {
        Self { aim: Aim { want, reuse, origin, wish: loader.wish(), options }, loader }
    }
}

impl Aim {
    pub(crate) fn approach(&self, limit: Duration) -> Approach {
        let Self { reuse, want, .. } = *self;
        Approach { reuse, want, joins: Joins::Any, l1_ttl: self.options.store.l1_ttl, limit }
    }

    pub(crate) fn is_answered_by<V>(&self, entry: &Entry<V>) -> bool {
        self.want.accepts(&entry.value)
            && match self.reuse {
                Reuse::Cached => true,
                Reuse::Newer(old) => entry.token != old,
                Reuse::Nothing => false,
            }
    }
}
