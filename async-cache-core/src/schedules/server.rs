//! The tiers: a map in the process, and one shared with nodes elsewhere. Each operation is one step.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use shuttle::sync::mpsc::{Receiver, Sender, channel};

use crate::backend::{
    Acquire, Acquired, Announce, Backend, Baseline, BusEvent, Entry, Fill, Filled, Lease, Listener,
    LocalBackend, Pulse, Read, ReadMany, Region, RegionSpec, Renewed, RunId, State,
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
    /// The next invalidation is not executed, and nobody knows.
    fails: bool,
    events: Sender<Option<BusEvent>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// The server, and what its node is to be told, in order, up to `None`.
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

    /// Ends the bus behind what has been published.
    pub(super) fn hang_up(&self) {
        self.store.lock().events.send(None).ok();
    }

    /// A change of this key, made by whomever. Returns its number.
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
    fn partitions(&self) -> u16 {
        1
    }

    fn available(&self) -> bool {
        true
    }

    fn command_timeout(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn get(&self, key: &Key) -> Result<Read> {
        Ok(Read { run: RUN, value: self.store.lock().values.get(key).cloned() })
    }

    async fn get_many(&self, _keys: &[Key]) -> Result<ReadMany> {
        unreachable!("one key at a time")
    }

    async fn get_valid(&self, key: &Key) -> Result<Read> {
        self.get(key).await
    }

    async fn get_many_valid(&self, _keys: &[Key]) -> Result<ReadMany> {
        unreachable!("one key at a time")
    }

    async fn state(&self, _partition: u16) -> Result<State> {
        Ok(State { run: RUN, seq: self.store.lock().seq, floor: 0, time_ms: TIME_MS })
    }

    async fn baseline(&self, partition: u16) -> Result<Baseline> {
        Ok(Baseline { state: self.state(partition).await?, tag_floor: 0, tags: Vec::new() })
    }

    async fn acquire(&self, key: &Key, ask: Acquire) -> Result<Acquired> {
        let mut store = self.store.lock();
        if let Some(stored) = store.values.get(key) {
            return Ok(Acquired::Value(stored.clone()));
        }
        if store.leases.contains_key(key) {
            store.waiting.push(key.clone());
            return Ok(Acquired::Busy(ask.ttl));
        }
        let lease = Lease { token: ask.token, seq: store.seq };
        store.leases.insert(key.clone(), lease);
        Ok(Acquired::Granted(lease))
    }

    async fn fill(
        &self,
        key: &Key,
        lease: Lease,
        frame: Bytes,
        _life: Duration,
        _announce: Announce,
    ) -> Result<Filled> {
        let mut store = self.store.lock();
        if store.leases.get(key) != Some(&lease) {
            return Ok(Filled::Refused);
        }
        store.leases.remove(key);
        let stored: Bytes = [&seal(lease.seq)[..], &frame].concat().into();
        store.values.insert(key.clone(), stored.clone());
        store.wake(key, Some(stored));
        Ok(Filled::Stored { seq: lease.seq })
    }

    async fn fill_many(&self, _fills: &[Fill]) -> Vec<Result<Filled>> {
        unreachable!("one key at a time")
    }

    async fn renew(&self, _key: &Key, _lease: Lease, _ttl: Duration) -> Result<Renewed> {
        unreachable!("no load is slow")
    }

    async fn release(&self, key: &Key, lease: Lease) -> Result<()> {
        let mut store = self.store.lock();
        if store.leases.get(key) == Some(&lease) {
            store.leases.remove(key);
            store.wake(key, None);
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

    async fn clear(&self, _partition: u16) -> Result<u64> {
        unreachable!("nothing is cleared")
    }

    async fn heartbeat(&self, partition: u16, beat: u64) -> Result<Pulse> {
        let store = self.store.lock();
        store.publish(BusEvent::Echo { partition, seq: store.seq, beat });
        Ok(Pulse { run: RUN, time_ms: TIME_MS })
    }
}
