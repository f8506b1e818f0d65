//! The state that the handles and regions of one backend share. It ends with the last of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::background::{Background, Scope};
#[cfg(feature = "cluster")]
use crate::beat_queue::BeatQueue;
use crate::connection::connect::Connector;
use crate::connection::server::IdentifyBy;
use crate::connection::slots::Slots;
use crate::connection::supervisor::supervise;
use crate::limits::Purpose;
use crate::pubsub::bus::Bus;
use crate::pubsub::subscriber::Subscriber;

/// The maximum number of releases under way for acquires of unknown outcome.
const ORPHANS: usize = 256;

/// Background tasks hold parts of this, never the whole: dropping it ends them.
pub(crate) struct Inner {
    /// The address of the server, as it is shown in messages.
    pub(crate) server: String,
    pub(crate) partitions: u16,
    pub(crate) database: i64,
    pub(crate) slots: Arc<Slots>,
    pub(crate) identify: IdentifyBy,
    pub(crate) bus: Arc<Bus>,
    /// Namespaces that are open.
    pub(crate) open_names: Mutex<HashSet<String>>,
    pub(crate) orphans: Arc<Semaphore>,
    pub(crate) background: Background,
    /// Heartbeats that wait to be sent together.
    #[cfg(feature = "cluster")]
    pub(crate) beats: Arc<BeatQueue>,
    connector: Arc<Connector>,
    subscriber: Arc<Subscriber>,
    subscribing: AtomicBool,
}

impl Inner {
    /// Must be called inside a Tokio runtime, which is where the background tasks will run.
    pub(crate) fn new(
        server: String,
        partitions: u16,
        slots: Arc<Slots>,
        connector: Arc<Connector>,
        subscriber: Subscriber,
    ) -> Self {
        let inner = Self {
            server,
            partitions,
            database: subscriber.opener.host.info.redis_settings().db(),
            slots,
            identify: connector.accepted.identify,
            bus: Arc::clone(&subscriber.bus),
            open_names: Mutex::default(),
            orphans: Arc::new(Semaphore::new(ORPHANS)),
            background: Background::new(),
            #[cfg(feature = "cluster")]
            beats: Arc::default(),
            connector,
            subscriber: Arc::new(subscriber),
            subscribing: AtomicBool::new(false),
        };
        inner.supervise_in(&inner.background.scope());
        inner
    }

    /// Keeps the slots up in this scope. If the scope has ended, its tasks end, and the next scope has its own.
    fn supervise_in(&self, scope: &Scope) {
        for index in 0..self.slots.count() {
            let task = supervise(Arc::clone(&self.slots), index, Arc::clone(&self.connector));
            self.background.spawn_in(scope.clone(), task);
        }
    }

    /// Connects again if the runtime of the connections has ended, and waits for the first attempt.
    pub(crate) async fn connected(&self, purpose: Purpose) {
        self.ensure();
        self.slots.first_attempt(purpose).await;
    }

    /// Connects again on the current runtime, if the runtime has ended on which the connections were made and are read.
    pub(crate) fn ensure(&self) {
        if self.background.has_ended()
            && let Ok(here) = Handle::try_current()
        {
            self.begin_again(here);
        }
    }

    #[cold]
    fn begin_again(&self, here: Handle) {
        // The connections of the old runtime are taken down first, so that no caller uses one of them. An attempt to
        // connect that is just ending there may still install one. The first command on it then fails.
        let Some(scope) = self.background.begin_again(here, || self.slots.take_down_all()) else { return };
        // The old connection may have missed messages.
        self.bus.lost();
        self.supervise_in(&scope);
        if self.subscribing.load(Ordering::Acquire) {
            self.background.spawn_in(scope, Arc::clone(&self.subscriber).run());
        }
    }

    /// Starts the subscriber, if it has not been started.
    pub(crate) fn subscribe(&self) {
        if !self.subscribing.swap(true, Ordering::AcqRel) {
            self.background.spawn(Arc::clone(&self.subscriber).run());
        }
    }
}
