//! The source of the batches of a [`DataLoader`](super::DataLoader): a function alone, or a function behind a
//! cache.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::error::Result;
use crate::lookup::many::plan::Outcome;
use crate::options::Options;

/// How long the loader itself joins loads of a key and keeps their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// From the first load until the key is cleared.
    UntilCleared,
    /// Until the batch starts. After that the source is asked again: it knows the invalidations, and joins
    /// loads where that is right. Without this rule:
    ///
    /// 1. a batch reads version 1;
    /// 2. version 2 is committed, and the key is invalidated;
    /// 3. a load joins the batch, and returns version 1 to a caller that came after step 2.
    WhileGathered,
}

pub(crate) trait Source<K, V>: Send + Sync + 'static {
    fn memory(&self) -> Memory;

    /// The outcome of a key, if it is known at once.
    fn peek(&self, key: &K) -> Option<Outcome<V>>;

    /// Runs one batch of distinct keys. Returns one outcome for each key, in their order.
    fn run(self: Arc<Self>, keys: Vec<K>, options: Options) -> BoxFuture<'static, Vec<Outcome<V>>>;

    /// Stores a value. Returns the key and the value as an `Err` if the loader itself must keep it.
    fn prime(&self, key: K, value: V, options: Options) -> Result<BoxFuture<'static, Result<()>>, (K, V)>;

    /// Forgets a key, or every key if `key` is `None`. Returns `None` if there is nothing to do.
    fn clear(&self, key: Option<&K>) -> Option<BoxFuture<'static, Result<()>>>;
}
