//! What the handles and regions of one backend have in common. It ends with the last of them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};

use async_cache_core::{Error, ErrorKind};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::bus::Bus;
use crate::scripts::Scripts;
use crate::slot::Slots;
use crate::subscriber::Subscriber;

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
    subscriber: Mutex<Option<Subscriber>>,
    subscribing: Once,
    runtime: Handle,
    /// It has ended, and the connections with it.
    ended: Arc<AtomicBool>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Shared {
    /// Must be called inside a Tokio runtime, which is where the background tasks will run.
    pub(crate) fn new(
        server: String,
        partitions: u16,
        slots: Arc<Slots>,
        scripts: &'static Scripts,
        subscriber: Subscriber,
    ) -> Self {
        let stop = CancellationToken::new();
        Self {
            server,
            partitions,
            database: subscriber.client.get_connection_info().redis_settings().db(),
            slots,
            scripts,
            bus: Arc::clone(&subscriber.bus),
            names: Mutex::default(),
            orphans: Arc::new(Semaphore::new(ORPHANS)),
            subscriber: Mutex::new(Some(subscriber)),
            subscribing: Once::new(),
            runtime: Handle::current(),
            ended: Arc::default(),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Runs a task until it ends or everything is dropped.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let witness = Witness { ended: Arc::clone(&self.ended), done: false };
        self.runtime.spawn(async move {
            let mut witness = witness;
            stop.run_until_cancelled_owned(task).await;
            witness.done = true;
        });
    }

    /// Whether the runtime has ended on which the connections were made and are read.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// What every call says from then on.
    pub(crate) fn ended(&self, doing: &str) -> Error {
        let message = format!(
            "{doing}: the Tokio runtime on which this backend was connected to Redis at {} has ended, and its \
             connections with it: connect again, on a runtime that lives for as long as the backend is used; each \
             `#[tokio::test]` has a runtime of its own, and needs a backend of its own",
            self.server
        );
        Error::new(ErrorKind::Shutdown, message)
    }

    /// Starts the subscriber, if it has not been.
    pub(crate) fn subscribe(&self) {
        self.subscribing.call_once(|| {
            if let Some(subscriber) = self.subscriber.lock().take() {
                self.spawn(subscriber.run());
            }
        });
    }
}

/// Held by a task to its end: dropped before that, it tells that the runtime has ended.
struct Witness {
    ended: Arc<AtomicBool>,
    done: bool,
}

impl Drop for Witness {
    fn drop(&mut self) {
        // A panic of ours is not the end of a runtime.
        if !self.done && !std::thread::panicking() {
            self.ended.store(true, Ordering::Release);
        }
    }
}
