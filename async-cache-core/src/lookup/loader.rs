//! Loaders in the one form that the lookup uses, what they receive, and what they produce. A
//! loader that asks for the key that it is loading is refused.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use smallvec::SmallVec;

use crate::backend::{Entry, NodeId, Tick};
use crate::error::{BoxError, ErrorKind, Result, boxed, guard};
use crate::format::key::Key;
use crate::inner::Inner;
use crate::local::lead::Lead;
use crate::local::request::{Answer, CacheMode, LookupRequest};
use crate::lookup::step::{Basis, StoreIn, store_in};
use crate::observe::{Amended, Timer};
use crate::options::{Amendment, Choice, Keep, Loaded, Options, StoreOptions};

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

/// The result of a loader. Its only type parameter is the value type of the cache.
pub(crate) struct Given<V> {
    pub(crate) payload: Payload<V>,
    pub(crate) choice: Choice,
    pub(crate) keep: Keep,
}

/// A value, an absence, or the statement that the previous value is still right.
pub(crate) enum Payload<V> {
    New(Answer<V>),
    Unchanged,
}

impl<V> Given<V> {
    pub(crate) fn new(found: Option<Loaded<V>>) -> Self {
        match found {
            Some(Loaded { value: Some(value), choice, keep }) => {
                Self { payload: Payload::New(Some(Arc::new(value))), choice, keep }
            }
            Some(Loaded { value: None, choice, keep }) => Self { payload: Payload::Unchanged, choice, keep },
            None => Self { payload: Payload::New(None), choice: Choice::default(), keep: Keep::Cached },
        }
    }
}

type Loading<V> = BoxFuture<'static, Result<Given<V>, BoxError>>;

/// A loader whose only type parameter is the value type of the cache. So the lookup is compiled once for each
/// value type, not for each call.
pub(crate) enum BoxLoader<V> {
    Plain(Box<dyn FnOnce() -> Loading<V> + Send>),
    /// A loader that receives the previous value.
    Informed(Box<dyn FnOnce(LoadContext<V>) -> Loading<V> + Send>),
}

impl<V> BoxLoader<V> {
    /// Whether the loader receives the value that the load is to replace.
    pub(crate) fn wants_previous(&self) -> bool {
        matches!(self, Self::Informed(_))
    }

    pub(crate) fn run(self, context: LoadContext<V>) -> Loading<V> {
        match self {
            Self::Plain(loader) => loader(),
            Self::Informed(loader) => loader(context),
        }
    }
}

pub(crate) fn box_loader<V, F, Fut, R, E>(loader: F, options: &mut StoreOptions) -> BoxLoader<V>
where
    V: Send + Sync + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    R: Into<Loaded<V>>,
    E: Into<BoxError> + 'static,
{
    box_optional_loader(move || loader().map(|result| result.map(Some)), options)
}

pub(crate) fn box_optional_loader<V, F, Fut, R, E>(loader: F, _: &mut StoreOptions) -> BoxLoader<V>
where
    V: Send + Sync + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Option<R>, E>> + Send + 'static,
    R: Into<Loaded<V>>,
    E: Into<BoxError> + 'static,
{
    BoxLoader::Plain(Box::new(move || loader().map(|result| given(result)).boxed()))
}

pub(crate) fn box_informed_loader<V, F, Fut, R, E>(loader: F, _: &mut StoreOptions) -> BoxLoader<V>
where
    V: Send + Sync + 'static,
    F: FnOnce(LoadContext<V>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    R: Into<Loaded<V>>,
    E: Into<BoxError> + 'static,
{
    BoxLoader::Informed(Box::new(move |context| {
        loader(context).map(|result| given(result.map(Some))).boxed()
    }))
}

fn given<V, R: Into<Loaded<V>>, E: Into<BoxError> + 'static>(
    result: Result<Option<R>, E>,
) -> Result<Given<V>, BoxError> {
    match result {
        Ok(found) => Ok(Given::new(found.map(Into::into))),
        Err(error) => Err(boxed(error)),
    }
}

/// Runs a loader within its time limit, and only while the cache is open.
pub(crate) async fn run_loader<V: 'static, T, Fut>(
    inner: &Inner<V>,
    loader: impl FnOnce() -> Fut,
    limit: Duration,
) -> Result<T>
where
    Fut: Future<Output = Result<T, BoxError>>,
{
    let timer = Timer::start();
    let outcome =
        inner.lifecycle.closing.run_until_cancelled(guard::run("loading a key", limit, loader)).await;
    inner.observer.loaded(timer);
    match outcome {
        Some(outcome) => outcome.map_err(|error| error.in_namespace(&inner.observer.namespace)),
        None => Err(inner
            .observer
            .error(ErrorKind::Shutdown, "the cache was shut down while a key was being loaded")),
    }
}

/// The result of a load.
pub(crate) struct Produced<V> {
    pub(crate) value: Answer<V>,
    /// The options for storing the value: those of the call, replaced by those that the loader chose.
    pub(crate) options: Options,
    pub(crate) keep: Keep,
    /// How long the load took.
    pub(crate) cost: Duration,
}

/// Decides where the loaded value is stored, and notes how long L1 may keep it.
pub(crate) fn place<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    lead: &mut Lead<V>,
    basis: Basis,
    produced: &Produced<V>,
) -> StoreIn {
    if produced.keep == Keep::Cached && basis.is_rejected() {
        inner.observer.fill_rejected(lead.key().as_bytes());
    }
    lead.l1_ttl = produced.options.store.l1_ttl;
    // A reload replaces a value that is known to be old. A fallback is known to be old, too.
    let replaces = lead.request.mode == CacheMode::Reload || lead.flight().fallback().is_some();
    store_in(basis, produced.keep, replaces)
}

/// Combines the loader's result with the previous value.
pub(crate) fn resolve<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    request: &LookupRequest,
    given: Given<V>,
    previous: Option<Entry<V>>,
    cost: Duration,
) -> Result<Produced<V>> {
    let Given { payload, mut choice, mut keep } = given;
    let mut amended = choice.amend(&request.options.store.tags);
    let mut options = request.options.clone().chosen(&choice);
    let value = match payload {
        Payload::New(value) => value,
        Payload::Unchanged => match previous {
            Some(Entry { value: Some(value), tags, .. }) => {
                let mut together = options.store.tags.clone();
                together.add_all(&tags.into());
                match together.get() {
                    Ok(_) => options.store.tags = together,
                    Err(error) => amended = Some(Amendment::uncached(false, Some(error))),
                }
                Some(value)
            }
            _ => {
                let message = "a loader answered `unchanged`, but there is no previous value: look at `LoadContext::previous` first";
                return Err(inner.observer.error(ErrorKind::Loader, message));
            }
        },
    };
    if let Some(Amendment { to, why }) = amended {
        inner.observer.amended(request.key.as_bytes(), to, &why);
        keep = if to == Amended::Uncached { Keep::Uncached } else { keep };
    }
    Ok(Produced { value, options, keep, cost })
}

tokio::task_local! {
    static LOADING: Arc<Chain>;
}

/// The loads inside which this task runs, the innermost first.
struct Chain {
    node: NodeId,
    /// Sorted.
    keys: SmallVec<[Key; 1]>,
    outer: Option<Arc<Chain>>,
}

/// Refuses a key that the calling task is already loading, directly or through other keys.
///
/// A loader that asks from a task of its own making is not detected. `load_timeout` ends it.
pub(crate) fn check_reentry<V: 'static>(inner: &Inner<V>, key: &Key) -> Result<()> {
    let mut next = current();
    while let Some(chain) = next {
        if chain.node == inner.local.liveness.node.id && chain.keys.binary_search(key).is_ok() {
            return Err(inner.observer.error(
                ErrorKind::Reentrant,
                "a loader asked for the key it is loading: read the source directly, or use another key",
            ));
        }
        next = chain.outer.clone();
    }
    Ok(())
}

fn current() -> Option<Arc<Chain>> {
    LOADING.try_with(Arc::clone).ok()
}

/// Runs `load` as the load of `keys`, inside the loads of the calling task.
pub(crate) fn within_load<F: Future>(
    node: NodeId,
    keys: impl IntoIterator<Item = Key>,
    load: F,
) -> impl Future<Output = F::Output> {
    let mut keys: SmallVec<[Key; 1]> = keys.into_iter().collect();
    keys.sort_unstable();
    let chain = Chain { node, keys, outer: current() };
    LOADING.scope(Arc::new(chain), load)
}
