//! A shared tier with two switches: one cuts the node's subscriber, the other stops the whole tier.
//!
//! The dashboard uses them. The caches behind them run as they always do, and cannot tell the switches from a
//! broken connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_cache::backend::{
    Acquire, Acquired, Baseline, BusEvent, Check, Fill, Filled, Info, Lease, Listener, Pulse, ReadMany,
    Region, RegionSpec, Renewed,
};
use async_cache::key::Key;
use async_cache::{Backend, Error, ErrorKind, Result, Tags};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::orders::Faults;

/// A backend behind the switches. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    inner: Arc<dyn Backend>,
    switches: Arc<Switches>,
}

#[derive(Debug, Default)]
struct Switches {
    stopped: AtomicBool,
    cut: AtomicBool,
    ears: Mutex<Vec<Weak<Ear>>>,
    regions: Mutex<Vec<Weak<dyn Region>>>,
}

impl Gate {
    pub(crate) fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner, switches: Arc::default() }
    }

    /// Cuts the subscriber, or stops the tier, or lets them work again.
    pub(crate) fn set(&self, faults: &Faults) {
        let Faults { subscriber_cut, tier_stopped, .. } = *faults;
        self.switches.stopped.store(tier_stopped, Ordering::SeqCst);
        self.switches.cut.store(subscriber_cut || tier_stopped, Ordering::SeqCst);
        for ear in self.switches.ears.lock().iter().filter_map(Weak::upgrade) {
            ear.follow();
        }
    }

    /// Whether the tier can be reached, as far as is known.
    pub(crate) fn available(&self) -> bool {
        let regions = self.switches.regions.lock();
        !self.switches.stopped.load(Ordering::SeqCst)
            && regions.iter().filter_map(Weak::upgrade).all(|region| region.info().available)
    }
}

impl Backend for Gate {
    fn open(&self, spec: RegionSpec, listener: Weak<dyn Listener>) -> Result<Arc<dyn Region>> {
        let ear = Arc::new(Ear {
            listener,
            switches: Arc::clone(&self.switches),
            state: Mutex::new(State { subscribed: false, told: false }),
        });
        let heard: Arc<dyn Listener> = ear.clone();
        let inner = self.inner.open(spec, Arc::downgrade(&heard))?;
        self.switches.ears.lock().push(Arc::downgrade(&ear));
        self.switches.regions.lock().push(Arc::downgrade(&inner));
        Ok(Arc::new(Guarded { inner, switches: Arc::clone(&self.switches), _ear: ear }))
    }
}

/// Passes events on while the subscriber is not cut.
#[derive(Debug)]
struct Ear {
    listener: Weak<dyn Listener>,
    switches: Arc<Switches>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What the backend said last.
    subscribed: bool,
    /// What the listener was told last.
    told: bool,
}

impl Ear {
    /// Tells the listener if the switch has changed whether it hears.
    fn follow(&self) {
        let mut state = self.state.lock();
        let hears = state.subscribed && !self.switches.cut.load(Ordering::SeqCst);
        if hears != state.told {
            state.told = hears;
            self.pass(if hears { BusEvent::Subscribed } else { BusEvent::Lost });
        }
    }

    fn pass(&self, event: BusEvent) {
        if let Some(listener) = self.listener.upgrade() {
            listener.notify(event);
        }
    }
}

impl Listener for Ear {
    fn notify(&self, event: BusEvent) {
        match event {
            BusEvent::Subscribed | BusEvent::Lost => {
                let mut state = self.state.lock();
                let subscribed = event == BusEvent::Subscribed;
                // A second `Lost` or `Subscribed` means that changes were missed in between.
                if subscribed == state.subscribed && state.told {
                    state.told = false;
                    self.pass(BusEvent::Lost);
                }
                state.subscribed = subscribed;
                drop(state);
                self.follow();
            }
            event => {
                let state = self.state.lock();
                if state.told || matches!(event, BusEvent::Refused { .. }) {
                    self.pass(event);
                }
            }
        }
    }
}

/// A region whose operations fail while the tier is stopped.
#[derive(Debug)]
struct Guarded {
    inner: Arc<dyn Region>,
    switches: Arc<Switches>,
    /// The inner region knows it by a weak reference.
    _ear: Arc<Ear>,
}

impl Guarded {
    fn pass(&self) -> Result<&dyn Region> {
        if self.switches.stopped.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Backend, "the shared tier is stopped"));
        }
        Ok(&*self.inner)
    }
}

#[async_trait]
impl Region for Guarded {
    fn info(&self) -> Info {
        let info = self.inner.info();
        Info { available: info.available && self.pass().is_ok(), ..info }
    }

    fn outage(&self) -> Option<Error> {
        match self.pass() {
            Ok(inner) => inner.outage(),
            Err(stopped) => Some(stopped),
        }
    }

    fn close(&self) {
        self.inner.close();
    }

    async fn read(&self, keys: &[Key], check: Check) -> Result<ReadMany> {
        self.pass()?.read(keys, check).await
    }

    async fn baseline(&self, partition: u16, tags: Option<&Tags>) -> Result<Baseline> {
        self.pass()?.baseline(partition, tags).await
    }

    async fn acquire(&self, asks: &[(Key, Acquire)]) -> Vec<Result<Acquired>> {
        match self.pass() {
            Ok(inner) => inner.acquire(asks).await,
            Err(error) => vec![Err(error); asks.len()],
        }
    }

    async fn fill(&self, fills: &[Fill]) -> Vec<Result<Filled>> {
        match self.pass() {
            Ok(inner) => inner.fill(fills).await,
            Err(error) => vec![Err(error); fills.len()],
        }
    }

    async fn renew(&self, leases: &[(Key, Lease)], ttl: Duration) -> Result<Vec<Renewed>> {
        self.pass()?.renew(leases, ttl).await
    }

    async fn release(&self, leases: &[(Key, Lease)]) -> Result<()> {
        self.pass()?.release(leases).await
    }

    async fn put(&self, entries: &[(Key, Bytes)], life: Duration, not_after_ms: u64) -> Result<Vec<u64>> {
        self.pass()?.put(entries, life, not_after_ms).await
    }

    async fn invalidate(&self, keys: &[Key]) -> Result<Vec<u64>> {
        self.pass()?.invalidate(keys).await
    }

    async fn invalidate_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        self.pass()?.invalidate_tags(partition, tags).await
    }

    async fn expire(&self, keys: &[Key]) -> Result<Vec<u64>> {
        self.pass()?.expire(keys).await
    }

    async fn expire_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        self.pass()?.expire_tags(partition, tags).await
    }

    async fn clear(&self, partition: u16) -> Result<u64> {
        self.pass()?.clear(partition).await
    }

    async fn heartbeat(&self, partition: u16, beat: u64) -> Result<Pulse> {
        self.pass()?.heartbeat(partition, beat).await
    }
}
