//! Gathers keys into batches. A batch is loaded when it is full or when its delay is over.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Shared;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::api::data_loader::source::{Memory, Source};
use crate::error::{Error, ErrorKind};
use crate::liveness::lifecycle::OUTSIDE_TOKIO;
use crate::lookup::many::plan::Outcome;
use crate::observe::trace;
use crate::options::Options;

/// The time for starting a batch and for delivering its end. The limits of a batch do not include it.
const GRACE: Duration = Duration::from_millis(100);

/// The settings of a loader.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) max_batch_size: usize,
    pub(crate) delay: Duration,
    pub(crate) max_pending: usize,
    pub(crate) max_entries: usize,
    pub(crate) options: Options,
}

/// The keys of one loader: those that are held, gathered or being loaded.
pub(crate) struct Gathering<K, V> {
    pub(crate) source: Arc<dyn Source<K, V>>,
    pub(crate) settings: Settings,
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    slots: HashMap<K, Slot<V>>,
    /// The keys of the batch that is being gathered. `batch` is its number.
    gathered: Vec<Waiting<K, V>>,
    batch: u64,
    /// The number of keys that are gathered or being loaded.
    pending: usize,
    /// The number of the last load.
    number: u64,
}

/// The state of a key that the loader knows.
enum Slot<V> {
    Held(Arc<V>),
    /// The load with this number sends the outcome.
    Pending(u64, Promise<V>),
}

pub(crate) type Promise<V> = Shared<oneshot::Receiver<Outcome<V>>>;

/// A key that is gathered or being loaded, and the channel for its outcome.
struct Waiting<K, V> {
    key: K,
    number: u64,
    tell: oneshot::Sender<Outcome<V>>,
}

/// The result of asking for a key.
pub(crate) enum Entered<K, V> {
    Known(Outcome<V>),
    Promised(Awaited<K, V>),
}

/// A load that a caller waits for.
pub(crate) struct Awaited<K, V> {
    gathering: Arc<Gathering<K, V>>,
    key: K,
    number: u64,
    promise: Promise<V>,
}

impl<K, V> Entered<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(crate) async fn outcome(self) -> Outcome<V> {
        match self {
            Self::Known(outcome) => outcome,
            Self::Promised(awaited) => awaited.outcome().await,
        }
    }
}

impl<K, V> Awaited<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Waits no longer than a batch may take. The batch is gathered and loaded on the runtime of the first
    /// caller, and perhaps nothing runs that runtime any more.
    async fn outcome(mut self) -> Outcome<V> {
        let Settings { delay, options, .. } = &self.gathering.settings;
        let limit = options.load.load_timeout.saturating_add(options.load.wait_timeout) + 10 * GRACE;
        let mut told = timeout(delay.saturating_add(GRACE), &mut self.promise).await;
        if told.is_err() {
            self.gathering.set_out(self.number);
            told = timeout(limit, &mut self.promise).await;
        }
        match told {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Error::new(
                ErrorKind::Shutdown,
                "the batch that loads this key was dropped, because its runtime has ended",
            )),
            Err(_) => {
                self.gathering.give_up(&self.key, self.number);
                let message = format!(
                    "the batch that loads this key has not ended within {limit:?}: its function blocks a thread, or the \
                     runtime that it began on is not running"
                );
                Err(Error::new(ErrorKind::Timeout, message))
            }
        }
    }
}

impl<K, V> Gathering<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(crate) fn new(source: Arc<dyn Source<K, V>>, settings: Settings) -> Self {
        let state = State { slots: HashMap::new(), gathered: Vec::new(), batch: 0, pending: 0, number: 0 };
        Self { source, settings, state: Mutex::new(state) }
    }

    /// Answers a key at once, joins a load of it, or adds it to the next batch.
    pub(crate) fn enter(self: &Arc<Self>, key: K) -> Entered<K, V> {
        if let Some(outcome) = self.source.peek(&key) {
            return Entered::Known(outcome);
        }
        if Handle::try_current().is_err() {
            return Entered::Known(Err(outside_tokio()));
        }
        let mut state = self.state.lock();
        match state.slots.get(&key) {
            Some(Slot::Held(value)) => return Entered::Known(Ok(Some(Arc::clone(value)))),
            Some(Slot::Pending(number, promise)) => {
                let (number, promise) = (*number, promise.clone());
                return self.promised(key, number, promise);
            }
            None => {}
        }
        if state.pending >= self.settings.max_pending {
            return Entered::Known(Err(self.overloaded()));
        }
        let (tell, told) = oneshot::channel();
        let promise = told.shared();
        state.number += 1;
        let number = state.number;
        state.slots.insert(key.clone(), Slot::Pending(number, promise.clone()));
        state.gathered.push(Waiting { key: key.clone(), number, tell });
        state.pending += 1;
        let full = state.gathered.len() >= self.settings.max_batch_size;
        let first = state.gathered.len() == 1;
        let (batch, of) = (full.then(|| self.take(&mut state)), state.batch);
        // The lock is released before the spawn. A runtime that is ending drops the task at once, and its
        // `Drop` takes the lock again.
        drop(state);
        if let Some(batch) = batch {
            tokio::spawn(trace::here(batch.run()));
        } else if first {
            tokio::spawn(trace::here(self.due(of).run(self.settings.delay)));
        }
        self.promised(key, number, promise)
    }

    fn promised(self: &Arc<Self>, key: K, number: u64, promise: Promise<V>) -> Entered<K, V> {
        Entered::Promised(Awaited { gathering: Arc::clone(self), key, number, promise })
    }

    /// Starts the batch that is being gathered if this load is in it. The caller has found that its delay is
    /// over.
    fn set_out(self: &Arc<Self>, number: u64) {
        let mut state = self.state.lock();
        if state.gathered.binary_search_by_key(&number, |waiting| waiting.number).is_ok() {
            let batch = self.take(&mut state);
            drop(state);
            tokio::spawn(trace::here(batch.run()));
        }
    }

    /// Forgets a load that has sent no outcome in time. The next request for the key starts a new load.
    fn give_up(&self, key: &K, number: u64) {
        let mut state = self.state.lock();
        if matches!(state.slots.get(key), Some(Slot::Pending(pending, _)) if *pending == number) {
            state.slots.remove(key);
        }
    }

    /// Keeps a value until it is cleared, even if a load of the key is under way. Callers whose batch has not
    /// started get this value.
    pub(crate) fn keep(&self, key: K, value: V) {
        let value = Arc::new(value);
        let mut state = self.state.lock();
        let waiting = state.gathered_as(&key).map(|at| state.gathered.remove(at));
        if let Some(waiting) = waiting {
            state.pending -= 1;
            let _ = waiting.tell.send(Ok(Some(Arc::clone(&value))));
        }
        if state.slots.contains_key(&key) || state.slots.len() < self.settings.max_entries {
            state.slots.insert(key, Slot::Held(value));
        }
    }

    /// Forgets the value of a key, and a load of it that is under way: only its present callers get its
    /// outcome. A load whose batch has not started is kept, because it will read the source after this call.
    pub(crate) fn forget(&self, key: &K) {
        let mut state = self.state.lock();
        if state.gathered_as(key).is_none() {
            state.slots.remove(key);
        }
    }

    pub(crate) fn forget_all(&self) {
        let mut state = self.state.lock();
        let first = state.gathered.first().map_or(u64::MAX, |waiting| waiting.number);
        state.slots.retain(|_, slot| matches!(slot, Slot::Pending(number, _) if *number >= first));
    }

    fn take(self: &Arc<Self>, state: &mut State<K, V>) -> Batch<K, V> {
        state.batch += 1;
        Batch { gathering: Arc::clone(self), waiting: std::mem::take(&mut state.gathered) }
    }

    fn due(self: &Arc<Self>, batch: u64) -> Due<K, V> {
        Due { gathering: Arc::clone(self), batch }
    }

    #[cold]
    fn overloaded(&self) -> Error {
        let message = format!(
            "{} keys are waiting or being loaded, which is the limit `max_pending`: load fewer keys at once, or raise the limit",
            self.settings.max_pending
        );
        Error::new(ErrorKind::Overloaded, message)
    }
}

/// The error of a call outside a Tokio runtime.
pub(crate) fn outside_tokio() -> Error {
    Error::new(ErrorKind::Config, OUTSIDE_TOKIO)
}

/// The delay of a batch. If its runtime ends first, its `Drop` drops the batch, and the callers get an error.
struct Due<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    gathering: Arc<Gathering<K, V>>,
    batch: u64,
}

impl<K, V> Due<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    async fn run(self, delay: Duration) {
        if delay.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(delay).await;
        }
        if let Some(batch) = self.batch() {
            batch.run().await;
        }
    }

    /// The batch, unless it has started already because it was full.
    fn batch(&self) -> Option<Batch<K, V>> {
        let mut state = self.gathering.state.lock();
        let due = state.batch == self.batch && !state.gathered.is_empty();
        due.then(|| self.gathering.take(&mut state))
    }
}

impl<K, V> Drop for Due<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn drop(&mut self) {
        drop(self.batch());
    }
}

/// A batch that is being loaded. If it is dropped before its end, its callers get an error.
struct Batch<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    gathering: Arc<Gathering<K, V>>,
    waiting: Vec<Waiting<K, V>>,
}

impl<K, V> Batch<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    async fn run(mut self) {
        let Gathering { source, settings, .. } = &*self.gathering;
        let keys = self.waiting.iter().map(|waiting| waiting.key.clone()).collect();
        if source.memory() == Memory::WhileGathered {
            let mut state = self.gathering.state.lock();
            self.waiting.iter().for_each(|waiting| state.end(waiting, None));
        }
        let outcomes = Arc::clone(source).run(keys, settings.options.clone()).await;
        debug_assert_eq!(outcomes.len(), self.waiting.len());
        {
            let mut state = self.gathering.state.lock();
            let room = source.memory() == Memory::UntilCleared;
            for (waiting, outcome) in self.waiting.iter().zip(&outcomes) {
                // Errors are not kept, and keys without an answer are not kept.
                let kept = outcome.as_ref().ok().and_then(Option::as_ref);
                let kept = kept.filter(|_| room && state.slots.len() <= settings.max_entries);
                state.end(waiting, kept.map(Arc::clone));
            }
            state.pending -= self.waiting.len();
        }
        for (waiting, outcome) in self.waiting.drain(..).zip(outcomes) {
            // Sending fails if no caller waits any more.
            let _ = waiting.tell.send(outcome);
        }
    }
}

impl<K: Eq + Hash, V> State<K, V> {
    /// The position of the key in the batch that is being gathered.
    fn gathered_as(&self, key: &K) -> Option<usize> {
        let Some(Slot::Pending(number, _)) = self.slots.get(key) else { return None };
        // The numbers in a batch are in ascending order.
        self.gathered.binary_search_by_key(number, |waiting| waiting.number).ok()
    }

    /// Ends a load. If the key was primed or cleared during the load, its slot is newer and stays as it is.
    fn end(&mut self, waiting: &Waiting<K, V>, kept: Option<Arc<V>>) {
        let Some(slot) = self.slots.get_mut(&waiting.key) else { return };
        if !matches!(slot, Slot::Pending(number, _) if *number == waiting.number) {
            return;
        }
        match kept {
            Some(value) => *slot = Slot::Held(value),
            None => drop(self.slots.remove(&waiting.key)),
        }
    }
}

impl<K, V> Drop for Batch<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn drop(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut state = self.gathering.state.lock();
        self.waiting.iter().for_each(|waiting| state.end(waiting, None));
        state.pending -= self.waiting.len();
    }
}
