//! Where a [`DataLoader`](super::DataLoader) gets its batches from: a function alone, or a cache
//! in front of one.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::error::Result;
use crate::lookup::many::picked::Outcome;
use crate::options::Options;

/// How long the loader itself joins loads and keeps what was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// From the first load until it is cleared.
    UntilCleared,
    /// Only until the batch sets out. From then on the source is asked again: it knows of
    /// invalidations, and joins what it may.
    ///
    /// Otherwise: 1. a batch reads version 1; 2. version 2 is committed and the key invalidated;
    /// 3. a load joins the batch, and answers version 1 to a caller who came after 2.
    WhileGathered,
}

pub(crate) trait Source<K, V>: Send + Sync + 'static {
    fn memory(&self) -> Memory;

    /// What can be said of a key at once.
    fn peek(&self, key: &K) -> Option<Outcome<V>>;

    /// Runs one batch of distinct keys; one outcome for each, in their order.
    fn run(self: Arc<Self>, keys: Vec<K>, options: Options) -> BoxFuture<'static, Vec<Outcome<V>>>;

    /// Stores a value; `None` if the loader is to keep it.
    fn prime(&self, key: K, value: V, options: Options) -> Result<BoxFuture<'static, Result<()>>, (K, V)>;

    /// Forgets a key, or every key. `None` if there is nothing to do.
    fn clear(&self, key: Option<&K>) -> Option<BoxFuture<'static, Result<()>>>;
}
