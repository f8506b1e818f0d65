//! The doubles of L1 and L2. Each operation is one step.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use shuttle::sync::mpsc::{Receiver, Sender, channel};

use crate::backend::{
    Acquire, Acquired, Backend, Baseline, BusEvent, Check, Entry, Fill, Filled, Info, Lease, Listener,
    LocalBackend, Pulse, ReadMany, Region, RegionSpec, Renewed, RunId, State,
};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::seal;
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::sync::Mutex;

const RUN: RunId = RunId(1);
pub(super) const TIME_MS: u64 = 1_000_000_000;

/// L1.
#[derive(Default)]
pub(super) struct Map(Mutex<HashMap<Key, Entry<u64>>>);

impl LocalBackend<u64> for Map {
    fn get(&self, key: &[u8]) -> Option<Entry<u64>> {
        self.0.lock().get(key).cloned()
    }

    fn insert(&self, key: &Key, entry: Entry<u64>) {
        self.0.lock().insert(key.clone(), entry);
    }

    fn remove(&self, key: &[u8]) {
        self.0.lock().remove(key);
    }

    fn clear(&self) {
        self.0.lock().clear();
    }

    fn len(&self) -> u64 {
        self.0.lock().len() as u64
    }
}

/// Whether the changes that are published arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bus {
    Whole,
    Lossy,
}

/// L2, and the bus to the one node that listens.
pub(super) struct Server {
    store: Mutex<Store>,
}

struct Store {
    seq: u64,
    values: HashMap<Key, Bytes>,
    leases: HashMap<Key, Lease>,
    waiting: Vec<Key>,
    bus: Bus,
    /// The next invalidation is not executed, and its outcome is unknown.
    fails: bool,
    events: Sender<Option<BusEvent>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// The server, and the events for its node in order. `None` ends them.
    pub(super) fn start() -> (Arc<Self>, Receiver<Option<BusEvent>>) {
        let (events, receiver) = channel();
        let store = Store {
            seq: 0,
            values: HashMap::new(),
            leases: HashMap::new(),
            waiting: Vec::new(),
            bus: Bus::Whole,
            fails: false,
            events,
        };
        (Arc::new(Self { store: Mutex::new(store) }), receiver)
    }

    pub(super) fn set_bus(&self, bus: Bus) {
        self.store.lock().bus = bus;
    }

    /// Lets the next invalidation fail.
    pub(super) fn fail_once(&self) {
        self.store.lock().fails = true;
    }

    /// Ends the bus after the published events.
    pub(super) fn hang_up(&self) {
        self.store.lock().events.send(None).ok();
    }

    /// A change of this key by any node. Returns its number.
    pub(super) fn change(&self, key: &Key) -> u64 {
        let mut store = self.store.lock();
        store.seq += 1;
        store.values.remove(key);
        let seq = store.seq;
        if store.leases.remove(key).is_some() {
            store.wake(key, None);
        }
        store.publish(BusEvent::Invalidated {
            partition: 0,
            seq,
            key: Bytes::copy_from_slice(key.as_bytes()),
        });
        seq
    }
}

impl Store {
    fn publish(&self, event: BusEvent) {
        if self.bus == Bus::Whole || !matches!(event, BusEvent::Invalidated { .. }) {
            self.events.send(Some(event)).ok();
        }
    }

    fn wake(&mut self, key: &Key, value: Option<Bytes>) {
        if self.waiting.contains(key) {
            self.waiting.retain(|other| other != key);
            self.publish(BusEvent::Woken { key: Bytes::copy_from_slice(key.as_bytes()), value });
        }
    }

    fn acquire(&mut self, key: &Key, ask: Acquire) -> Acquired {
        if let Some(stored) = self.values.get(key) {
            return Acquired::Value(stored.clone());
        }
        if self.leases.contains_key(key) {
            self.waiting.push(key.clone());
            return Acquired::Busy(ask.ttl);
        }
        let lease = Lease { token: ask.token, seq: self.seq };
        self.leases.insert(key.clone(), lease);
        Acquired::Granted(lease)
    }

    fn fill(&mut self, Fill { key, lease, frame, .. }: &Fill) -> Filled {
        if self.leases.get(key) != Some(lease) {
            return Filled::Refused;
        }
        self.leases.remove(key);
        let stored: Bytes = [&seal(lease.seq)[..], frame].concat().into();
        self.values.insert(key.clone(), stored.clone());
        self.wake(key, Some(stored));
        Filled::Stored { seq: lease.seq }
    }
}

#[derive(Debug)]
pub(super) struct Tier(pub(super) Arc<Server>);

impl Backend for Tier {
    fn open(&self, _spec: RegionSpec, _listener: Weak<dyn Listener>) -> Result<Arc<dyn Region>> {
        Ok(Arc::clone(&self.0) as Arc<dyn Region>)
    }
}

#[async_trait]
impl Region for Server {
    fn info(&self) -> Info {
        Info { partitions: 1, deadline: Duration::from_secs(1), available: true }
    }

    async fn read(&self, keys: &[Key], _check: Check) -> Result<ReadMany> {
        let store = self.store.lock();
        Ok(ReadMany { run: RUN, values: keys.iter().map(|key| store.values.get(key).cloned()).collect() })
    }

    async fn baseline(&self, _partition: u16, _tags: Option<&Tags>) -> Result<Baseline> {
        let state = State { run: RUN, seq: self.store.lock().seq, floor: 0, time_ms: TIME_MS };
        Ok(Baseline { state, tag_floor: 0, tags: Vec::new(), expired_tags: Vec::new() })
    }

    async fn acquire(&self, asks: &[(Key, Acquire)]) -> Vec<Result<Acquired>> {
        asks.iter().map(|(key, ask)| Ok(self.store.lock().acquire(key, *ask))).collect()
    }

    async fn fill(&self, fills: &[Fill]) -> Vec<Result<Filled>> {
        fills.iter().map(|fill| Ok(self.store.lock().fill(fill))).collect()
    }

    async fn renew(&self, _leases: &[(Key, Lease)], _ttl: Duration) -> Result<Vec<Renewed>> {
        unreachable!("no load is slow")
    }

    async fn release(&self, leases: &[(Key, Lease)]) -> Result<()> {
        for (key, lease) in leases {
            let mut store = self.store.lock();
            if store.leases.get(key) == Some(lease) {
                store.leases.remove(key);
                store.wake(key, None);
            }
        }
        Ok(())
    }

    async fn put(&self, _entries: &[(Key, Bytes)], _life: Duration, _not_after_ms: u64) -> Result<Vec<u64>> {
        unreachable!("nothing is put")
    }

    async fn invalidate(&self, keys: &[Key]) -> Result<Vec<u64>> {
        if std::mem::take(&mut self.store.lock().fails) {
            return Err(Error::new(ErrorKind::Backend, "the reply is lost"));
        }
        Ok(keys.iter().map(|key| self.change(key)).collect())
    }

    async fn invalidate_tags(&self, _partition: u16, _tags: &Tags) -> Result<u64> {
        unreachable!("nothing is tagged")
    }

    async fn expire(&self, _keys: &[Key]) -> Result<Vec<u64>> {
        unreachable!("nothing is expired")
    }

    async fn expire_tags(&self, _partition: u16, _tags: &Tags) -> Result<u64> {
        unreachable!("nothing is tagged")
    }

    async fn clear(&self, _partition: u16) -> Result<u64> {
        unreachable!("nothing is cleared")
    }

    async fn heartbeat(&self, partition: u16, beat: u64) -> Result<Pulse> {
        let store = self.store.lock();
        store.publish(BusEvent::Echo { partition, seq: store.seq, beat });
        Ok(Pulse { run: RUN, time_ms: TIME_MS })
    }
}
