//! A shared tier whose commands and events a test can hold back.

mod holder;
mod region;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use async_cache_core::backend::{Backend, BusEvent, Listener, Region, RegionSpec};
use async_cache_core::testing::until;
use async_cache_core::{Error, ErrorKind, Result, TieredCache, TieredCacheBuilder};
use async_cache_memory::MemoryBackend;
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(crate) use holder::Holder;
use region::Staged;

pub(crate) type Cache = TieredCache<String, u64>;

/// The connection of one node to the tier: what is held back on it.
#[derive(Clone)]
pub(crate) struct Stage(Arc<Inner>);

struct Inner {
    tier: MemoryBackend,
    /// Changes are stuck, and fail without having been executed once they are let go.
    changes_fail: AtomicBool,
    /// Changes are refused, and how often they were.
    changes_refused: AtomicBool,
    refusals: AtomicUsize,
    stuck: AtomicBool,
    fills_fail: AtomicBool,
    fills_stick: AtomicBool,
    /// Leases are not kept alive.
    renewals_fail: AtomicBool,
    /// There is no room for values.
    full: AtomicBool,
    heartbeats: AtomicUsize,
    /// How often all tags were asked for.
    tables: AtomicUsize,
    /// How often a value was asked for.
    reads: AtomicUsize,
    /// How often the lease of a key was asked for.
    asks: AtomicUsize,
    reads_fail: AtomicBool,
    /// The tier is known to be unreachable.
    away: AtomicBool,
    /// Another server answers plain reads.
    usurped: AtomicBool,
    /// The numbers of changes have begun again.
    renumbered: AtomicBool,
    /// Reads are sent once they are let go.
    reads_wait: AtomicBool,
    /// Answers to reads of valid values, and of many, are on their way until they are let go.
    answers_late: AtomicBool,
    on_the_way: AtomicBool,
    arrived: Notify,
    unstuck: Notify,
    /// Events that have not arrived, if they are held back.
    late: Mutex<Option<Vec<BusEvent>>>,
    listener: Mutex<Option<Weak<dyn Listener>>>,
    record: Mutex<String>,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stage")
    }
}

impl Stage {
    pub(crate) fn on(tier: &MemoryBackend) -> Self {
        Self(Arc::new(Inner {
            tier: tier.clone(),
            changes_fail: AtomicBool::new(false),
            changes_refused: AtomicBool::new(false),
            refusals: AtomicUsize::new(0),
            stuck: AtomicBool::new(false),
            fills_fail: AtomicBool::new(false),
            fills_stick: AtomicBool::new(false),
            renewals_fail: AtomicBool::new(false),
            full: AtomicBool::new(false),
            heartbeats: AtomicUsize::new(0),
            tables: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            asks: AtomicUsize::new(0),
            reads_fail: AtomicBool::new(false),
            away: AtomicBool::new(false),
            usurped: AtomicBool::new(false),
            renumbered: AtomicBool::new(false),
            reads_wait: AtomicBool::new(false),
            answers_late: AtomicBool::new(false),
            on_the_way: AtomicBool::new(false),
            arrived: Notify::new(),
            unstuck: Notify::new(),
            late: Mutex::new(None),
            listener: Mutex::new(None),
            record: Mutex::default(),
        }))
    }

    /// Another connection to the same tier.
    pub(crate) fn beside(&self) -> Self {
        Self::on(&self.0.tier)
    }

    /// From now on changes get no answer, and are not executed.
    pub(crate) fn changes_get_stuck(&self) {
        self.0.changes_fail.store(true, Ordering::SeqCst);
    }

    /// From now on the user may not change anything; or may again.
    pub(crate) fn changes_are_refused(&self, refused: bool) {
        self.0.changes_refused.store(refused, Ordering::SeqCst);
    }

    /// How many changes were refused.
    pub(crate) fn refusals(&self) -> usize {
        self.0.refusals.load(Ordering::SeqCst)
    }

    /// Waits until a change is stuck.
    pub(crate) async fn a_change_is_stuck(&self) {
        until("a change is stuck", || self.0.stuck.load(Ordering::SeqCst)).await;
    }

    /// The stuck changes time out.
    pub(crate) fn time_out(&self) {
        self.0.unstuck.notify_waiters();
    }

    /// Changes are executed and answered again.
    pub(crate) fn changes_go_through(&self) {
        self.0.changes_fail.store(false, Ordering::SeqCst);
    }

    /// From now on reads of valid values, and of many, are executed, and answered once they are let go.
    pub(crate) fn answers_are_late(&self) {
        self.0.answers_late.store(true, Ordering::SeqCst);
    }

    /// Waits until such an answer is on its way.
    pub(crate) async fn an_answer_is_on_its_way(&self) {
        until("an answer is on its way", || self.0.on_the_way.load(Ordering::SeqCst)).await;
    }

    /// It arrives.
    pub(crate) fn answers_arrive(&self) {
        self.0.answers_late.store(false, Ordering::SeqCst);
        self.0.arrived.notify_waiters();
    }

    /// From now on reads are executed once they are let go.
    pub(crate) fn reads_wait(&self) {
        self.0.reads_wait.store(true, Ordering::SeqCst);
    }

    /// Waits until a read is held back.
    pub(crate) async fn a_read_waits(&self) {
        until("a read waits", || self.0.on_the_way.load(Ordering::SeqCst)).await;
    }

    /// The reads that wait are executed.
    pub(crate) fn reads_go_on(&self) {
        self.0.reads_wait.store(false, Ordering::SeqCst);
        self.0.arrived.notify_waiters();
    }

    pub(crate) fn fills_fail(&self) {
        self.0.fills_fail.store(true, Ordering::SeqCst);
    }

    /// From now on fills get no answer, for good.
    pub(crate) fn fills_get_stuck(&self) {
        self.0.fills_stick.store(true, Ordering::SeqCst);
    }

    /// Waits until a fill is stuck.
    pub(crate) async fn a_fill_is_stuck(&self) {
        until("a fill is stuck", || self.0.stuck.load(Ordering::SeqCst)).await;
    }

    /// From now on leases lapse, however long their loads take.
    pub(crate) fn renewals_fail(&self) {
        self.0.renewals_fail.store(true, Ordering::SeqCst);
    }

    /// From now on there is no room for values.
    pub(crate) fn is_full(&self) {
        self.0.full.store(true, Ordering::SeqCst);
    }

    /// How often all tags of a partition were asked for.
    pub(crate) fn tables(&self) -> usize {
        self.0.tables.load(Ordering::SeqCst)
    }

    /// How often the node has read values.
    pub(crate) fn reads(&self) -> usize {
        self.0.reads.load(Ordering::SeqCst)
    }

    /// How often the node has asked for the lease of a key.
    pub(crate) fn asks(&self) -> usize {
        self.0.asks.load(Ordering::SeqCst)
    }

    /// How many heartbeats the node has sent.
    pub(crate) fn heartbeats(&self) -> usize {
        self.0.heartbeats.load(Ordering::SeqCst)
    }

    pub(crate) fn reads_fail(&self) {
        self.0.reads_fail.store(true, Ordering::SeqCst);
    }

    /// The same, and the node knows it.
    pub(crate) fn goes_away(&self) {
        self.reads_fail();
        self.0.away.store(true, Ordering::SeqCst);
    }

    /// It can be reached again.
    pub(crate) fn comes_back(&self) {
        self.0.reads_fail.store(false, Ordering::SeqCst);
        self.0.away.store(false, Ordering::SeqCst);
    }

    /// From now on plain reads are answered by another server than the one the node knows.
    pub(crate) fn another_server_answers(&self) {
        self.0.usurped.store(true, Ordering::SeqCst);
    }

    /// From now on the tier says that it has made no change yet.
    pub(crate) fn numbers_begin_again(&self) {
        self.0.renumbered.store(true, Ordering::SeqCst);
    }

    fn read(&self) -> Result<()> {
        match self.0.reads_fail.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Backend, "no answer")),
            false => Ok(()),
        }
    }

    /// From now on no event arrives.
    pub(crate) fn hold_events(&self) {
        *self.0.late.lock() = Some(Vec::new());
    }

    /// How many events are held back.
    pub(crate) fn held_events(&self) -> usize {
        self.0.late.lock().as_ref().map_or(0, Vec::len)
    }

    /// All events held back arrive.
    pub(crate) fn let_events_go(&self) {
        let late = self.0.late.lock().take().unwrap_or_default();
        late.into_iter().for_each(|event| self.deliver(event));
    }

    /// All events held back are lost, and later ones arrive.
    pub(crate) fn lose_held_events(&self) {
        *self.0.late.lock() = None;
    }

    /// The node is told that it hears of nothing any more.
    pub(crate) fn loses_the_bus(&self) {
        self.deliver(BusEvent::Lost);
    }

    fn deliver(&self, event: BusEvent) {
        let listener = self.0.listener.lock().as_ref().and_then(Weak::upgrade);
        if let Some(listener) = listener {
            listener.notify(event);
        }
    }

    /// A node behind this stage, serving.
    pub(crate) async fn node(&self) -> Cache {
        self.node_with(|builder| builder).await
    }

    /// The same, with options.
    pub(crate) async fn node_with(
        &self,
        options: impl FnOnce(TieredCacheBuilder<String, u64>) -> TieredCacheBuilder<String, u64>,
    ) -> Cache {
        let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(1_000)).l2(self.clone());
        let node = options(builder).build().unwrap();
        until("the node serves", || node.is_serving()).await;
        node
    }

    /// A node behind this stage that keeps nothing of its own.
    pub(crate) fn bare_node(&self) -> Cache {
        self.bare_node_with(|builder| builder)
    }

    /// The same, with options.
    pub(crate) fn bare_node_with(
        &self,
        options: impl FnOnce(TieredCacheBuilder<String, u64>) -> TieredCacheBuilder<String, u64>,
    ) -> Cache {
        options(TieredCache::builder().namespace("rows").l2(self.clone())).build().unwrap()
    }

    async fn let_go(&self, held: &AtomicBool) {
        if held.load(Ordering::SeqCst) {
            let arrived = self.0.arrived.notified();
            self.0.on_the_way.store(true, Ordering::SeqCst);
            arrived.await;
        }
    }

    async fn change(&self) -> Result<()> {
        if self.0.changes_refused.load(Ordering::SeqCst) {
            self.0.refusals.fetch_add(1, Ordering::SeqCst);
            return Err(Error::new(ErrorKind::Config, "the user may not PUBLISH"));
        }
        if self.0.changes_fail.load(Ordering::SeqCst) {
            let unstuck = self.0.unstuck.notified();
            self.0.stuck.store(true, Ordering::SeqCst);
            unstuck.await;
            return Err(Error::new(ErrorKind::Backend, "no answer"));
        }
        Ok(())
    }
}

/// Hands events on, or holds them back.
struct Held(Stage);

impl Listener for Held {
    fn notify(&self, event: BusEvent) {
        if let Some(late) = &mut *self.0.0.late.lock() {
            late.push(event);
            return;
        }
        self.0.deliver(event);
    }
}

impl Backend for Stage {
    fn open(&self, spec: RegionSpec, listener: Weak<dyn Listener>) -> Result<Arc<dyn Region>> {
        *self.0.listener.lock() = Some(listener);
        self.0.record.lock().clone_from(&spec.record);
        let held: Arc<dyn Listener> = Arc::new(Held(self.clone()));
        let region = Backend::open(&self.0.tier, spec, Arc::downgrade(&held))?;
        Ok(Arc::new(Staged { stage: self.clone(), region, _held: held }))
    }
}
