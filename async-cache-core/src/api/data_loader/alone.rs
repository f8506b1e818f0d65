//! A batch function without a cache.

use std::any::Any;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;

use crate::api::data_loader::source::{Memory, Source};
use crate::error::{BoxError, Error, ErrorKind, Result, guard};
use crate::lookup::many::plan::{Outcome, Picked};
use crate::options::{LoadOptions, Options};

tokio::task_local! {
    static RUNNING: Running;
}

/// The batch that the calling task runs.
struct Running {
    loader: u64,
    keys: Arc<dyn Any + Send + Sync>,
}

/// A batch function whose only type parameters are the keys and the values.
pub(crate) type BatchFn<K, V> =
    Box<dyn Fn(Vec<K>) -> BoxFuture<'static, Result<Picked<V>, BoxError>> + Send + Sync>;

pub(crate) struct Alone<K, V> {
    id: u64,
    batch: BatchFn<K, V>,
}

impl<K, V> Alone<K, V> {
    pub(crate) fn new(batch: BatchFn<K, V>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), batch }
    }
}

impl<K, V> Source<K, V> for Alone<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn memory(&self) -> Memory {
        Memory::UntilCleared
    }

    /// Returns an error if the calling task is the batch that loads this key, because it would wait for itself.
    /// Otherwise it returns `None`.
    fn peek(&self, key: &K) -> Option<Outcome<V>> {
        let own = RUNNING.try_with(|running| {
            running.loader == self.id
                && running.keys.downcast_ref::<HashSet<K>>().is_some_and(|keys| keys.contains(key))
        });
        own.unwrap_or(false).then(|| {
            Err(Error::new(
                ErrorKind::Reentrant,
                "a batch function asked its own loader for a key it is loading: read the source directly",
            ))
        })
    }

    fn run(self: Arc<Self>, keys: Vec<K>, options: Options) -> BoxFuture<'static, Vec<Outcome<V>>> {
        let (count, loading) = (keys.len(), keys.iter().cloned().collect::<HashSet<K>>());
        if let Err(error) = check(&options) {
            return Box::pin(async move { vec![Err(error); count] });
        }
        let running = Running { loader: self.id, keys: Arc::new(loading) };
        Box::pin(RUNNING.scope(running, async move {
            let what = format!("loading a batch of {count} keys");
            match guard::run(&what, options.load.load_timeout, move || (self.batch)(keys)).await {
                Ok(picked) => picked.answers.into_iter().map(outcome).collect(),
                Err(error) => vec![Err(error); count],
            }
        }))
    }

    fn prime(&self, key: K, value: V, _: Options) -> Result<BoxFuture<'static, Result<()>>, (K, V)> {
        Err((key, value))
    }

    fn clear(&self, _: Option<&K>) -> Option<BoxFuture<'static, Result<()>>> {
        None
    }
}

/// Checks the options. A batch function without a cache has the option `load_timeout` and no other.
fn check(options: &Options) -> Result<()> {
    let known = LoadOptions::new().load_timeout(options.load.load_timeout);
    if *options != (Options { load: known, ..Options::default() }) {
        let message = "a DataLoader without a cache has only the option `load_timeout`: leave the others out, or use `data_loader` of a cache";
        return Err(Error::new(ErrorKind::Config, message));
    }
    options.validate()
}

fn outcome<V>(answer: Option<Result<V, BoxError>>) -> Outcome<V> {
    answer
        .transpose()
        .map(|value| value.map(Arc::new))
        .map_err(|cause| Error::new(ErrorKind::Loader, "loading a key of a batch failed").with_source(cause))
}
