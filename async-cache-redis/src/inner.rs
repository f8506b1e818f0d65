//! What the handles and regions of one backend have in common. It ends with the last of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::connection::connect::Connector;
use crate::connection::slots::{Purpose, Slots, tend};
use crate::lua::Scripts;
use crate::pubsub::bus::Bus;
use crate::pubsub::subscriber::Subscriber;

/// Releases under way for acquires of unknown outcome.
const ORPHANS: usize = 256;

/// Background tasks hold parts of this, never the whole: dropping it ends them.
pub(crate) struct Shared {
    /// Where it is connected to, as it is shown.
    pub(crate) server: String,
    pub(crate) partitions: u16,
    pub(crate) database: i64,
    pub(crate) slots: Arc<Slots>,
    pub(crate) scripts: &'static Scripts,
    pub(crate) bus: Arc<Bus>,
    /// Namespaces that are open.
    pub(crate) names: Mutex<HashSet<String>>,
    pub(crate) orphans: Arc<Semaphore>,
    connector: Arc<Connector>,
    subscriber: Arc<Subscriber>,
    subscribing: AtomicBool,
    turn: Arc<Turn>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

/// The background tasks and the connections, which end with their runtime, although the backend may live on:
/// whoever needs them next begins them again, on the current one.
struct Turn {
    /// Where this turn runs, and what ends it.
    now: Mutex<(Handle, CancellationToken)>,
    /// The runtime has dropped a task of this turn.
    ended: AtomicBool,
}

impl Shared {
    /// Must be called inside a Tokio runtime, which is where the background tasks will run.
    pub(crate) fn new(
        server: String,
        partitions: u16,
        slots: Arc<Slots>,
        connector: Arc<Connector>,
        subscriber: Subscriber,
    ) -> Self {
        let stop = CancellationToken::new();
        let now = Mutex::new((Handle::current(), stop.child_token()));
        let shared = Self {
            server,
            partitions,
            database: subscriber.client.get_connection_info().redis_settings().db(),
            slots,
            scripts: connector.scripts,
            bus: Arc::clone(&subscriber.bus),
            names: Mutex::default(),
            orphans: Arc::new(Semaphore::new(ORPHANS)),
            connector,
            subscriber: Arc::new(subscriber),
            subscribing: AtomicBool::new(false),
            turn: Arc::new(Turn { now, ended: AtomicBool::new(false) }),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        };
        shared.begin(&shared.turn.now.lock().clone());
        shared
    }

    /// Runs a task until it ends, or the current turn does.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let turn = self.turn.now.lock().clone();
        self.spawn_in(turn, task);
    }

    fn spawn_in(
        &self,
        (runtime, end): (Handle, CancellationToken),
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let witness = Witness { turn: Arc::clone(&self.turn), end: end.clone(), done: false };
        runtime.spawn(async move {
            let mut witness = witness;
            end.run_until_cancelled_owned(task).await;
            witness.done = true;
        });
    }

    /// Begins the tasks of this turn, which may have ended again: another one has tasks of its own.
    fn begin(&self, turn: &(Handle, CancellationToken)) {
        for index in 0..self.slots.count() {
            let tending = tend(Arc::clone(&self.slots), index, Arc::clone(&self.connector));
            self.spawn_in(turn.clone(), tending);
        }
    }

    /// Connects again if the runtime of the connections has ended, and gives the first attempt its time.
    pub(crate) async fn connected(&self, purpose: Purpose) {
        self.ensure();
        self.slots.first_attempt(purpose).await;
    }

    /// Connects again on the current runtime, if the one has ended on which the connections were made and are read.
    pub(crate) fn ensure(&self) {
        if self.turn.ended.load(Ordering::Acquire)
            && let Ok(here) = Handle::try_current()
        {
            self.begin_again(here);
        }
    }

    #[cold]
    fn begin_again(&self, here: Handle) {
        let mut now = self.turn.now.lock();
        if !self.turn.ended.load(Ordering::Acquire) {
            return;
        }
        // Of several workers of the old runtime, some may not have ended yet.
        let turn = (here, self.stop.child_token());
        std::mem::replace(&mut *now, turn.clone()).1.cancel();
        self.slots.take_down_all();
        // Only now: a caller who finds that nothing has ended must not find a connection of the old runtime. An
        // attempt that is just ending there may still put one in place: the first command on it finds out.
        self.turn.ended.store(false, Ordering::Release);
        drop(now);
        // What the old connection would have told has been missed.
        self.bus.lost();
        self.begin(&turn);
        if self.subscribing.load(Ordering::Acquire) {
            self.spawn_in(turn, Arc::clone(&self.subscriber).run());
        }
    }

    /// Starts the subscriber, if it has not been.
    pub(crate) fn subscribe(&self) {
        if !self.subscribing.swap(true, Ordering::AcqRel) {
            self.spawn(Arc::clone(&self.subscriber).run());
        }
    }
}

/// A task holds this. If it is dropped before the task is done, the runtime has ended, or the task has panicked: in
/// either case the tasks are begun again.
struct Witness {
    turn: Arc<Turn>,
    end: CancellationToken,
    done: bool,
}

impl Drop for Witness {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let now = self.turn.now.lock();
        if !self.end.is_cancelled() {
            self.turn.ended.store(true, Ordering::Release);
        }
        drop(now);
    }
}
