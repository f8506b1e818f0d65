//! The weight of an entry.

use std::panic::{AssertUnwindSafe, catch_unwind};

use async_cache_core::backend::Entry;
use async_cache_core::key::Key;

/// How much of the capacity an entry takes.
pub(crate) type Weigher<V> = Box<dyn Fn(&[u8], &V) -> u32 + Send + Sync>;

/// Weighs an entry once, before it is stored. Engines ask for the weight whenever they move an entry, under a
/// lock. Their sums become wrong if the weight has changed or the weigher panics. `None` if it panicked.
pub(super) fn weigh<V>(weigher: &Weigher<V>, key: &Key, entry: &Entry<V>) -> Option<u32> {
    let Some(value) = &entry.value else { return Some(1) };
    let weighed = catch_unwind(AssertUnwindSafe(|| weigher(key.as_bytes(), value)));
    // An entry without weight would never be dropped.
    weighed.ok().map(|weight| weight.max(1))
}
