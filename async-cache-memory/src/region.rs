//! The backend as an L2: one namespace, as one node sees it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_cache_core::backend::{
    Acquire, Acquired, Backend, Baseline, Check, Effect, Fill, Filled, Info, Known, Lease, Listener, NodeId,
    Pulse, ReadMany, Region, RegionSpec, Renewed, RunId, State,
};
use async_cache_core::key::Key;
use async_cache_core::{Error, ErrorKind, Result, Tags};
use async_trait::async_trait;
use bytes::Bytes;

use crate::backend::MemoryBackend;
#[cfg(feature = "testing")]
use crate::faults::{fault, halves};
use crate::store::state::{Caller, State as Memory};
use crate::store::{Store, Stores, changes, leases};

impl Backend for MemoryBackend<Bytes> {
    fn open(&self, spec: RegionSpec, listener: Weak<dyn Listener>) -> Result<Arc<dyn Region>> {
        self.check_settings()?;
        let partitions = self.stores.partitions;
        let mut namespaces = self.stores.namespaces.lock();
        let store = namespaces
            .entry(spec.namespace.clone())
            .or_insert_with(|| Arc::new(Store::new(spec.record.clone(), &self.stores)));
        if store.record != spec.record {
            let message = format!(
                "other nodes use this namespace as `{}`, this one as `{}`: use one codec, another namespace, or if it is the same type under another name `.schema(\"..\")` with the one it had",
                store.record, spec.record
            );
            return Err(Error::new(ErrorKind::Config, message).in_namespace(&spec.namespace));
        }
        store.state.lock().outbox.join(spec.node, listener);
        Ok(Arc::new(MemoryRegion {
            store: Arc::clone(store),
            namespace: spec.namespace,
            node: spec.node,
            known: spec.known,
            stores: Arc::clone(&self.stores),
            partitions,
        }))
    }
}

#[derive(Debug)]
struct MemoryRegion {
    store: Arc<Store>,
    namespace: String,
    node: NodeId,
    known: Known,
    stores: Arc<Stores>,
    partitions: u16,
}

impl MemoryRegion {
    fn operate<T>(&self, operation: impl FnOnce(&mut Memory) -> T) -> T {
        self.store.operate(self.node, Caller { run: self.run(), known: Some(&self.known) }, operation)
    }

    /// Runs a plain read, which is not checked against the numbers that the node knows.
    fn read_plain<T>(&self, operation: impl FnOnce(&mut Memory) -> T) -> T {
        self.store.operate(self.node, Caller { run: self.run(), known: None }, operation)
    }

    fn run(&self) -> RunId {
        RunId(self.stores.run.load(Ordering::Relaxed))
    }

    fn check(&self, partition: u16) -> Result<()> {
        if partition < self.partitions {
            return Ok(());
        }
        let message = format!("partition {partition} does not exist: there are {}", self.partitions);
        Err(Error::new(ErrorKind::Config, message).in_namespace(&self.namespace))
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        self.store.state.lock().leave(self.node);
    }
}

#[async_trait]
impl Region for MemoryRegion {
    fn info(&self) -> Info {
        Info { partitions: self.partitions, deadline: Duration::from_secs(1), available: true }
    }

    async fn read(&self, keys: &[Key], check: Check) -> Result<ReadMany> {
        let values = match check {
            Check::Plain => self.read_plain(|state| ReadMany::values_of(keys, |key| state.get(key))),
            Check::Valid => self.operate(|state| ReadMany::values_of(keys, |key| state.get_valid(key))),
        };
        // The run is read after the values. If the memory was replaced before them, the answer has the new run.
        Ok(ReadMany { run: self.run(), values })
    }

    async fn baseline(&self, partition: u16, tags: Option<&Tags>) -> Result<Baseline> {
        self.check(partition)?;
        let read = |state: &mut Memory| (state.seq_and_floor(partition), state.tags(partition, tags));
        let ((seq, floor), (tag_floor, [tags, expired_tags])) = self.operate(read);
        let state = State { run: self.run(), seq, floor, time_ms: self.store.time_ms() };
        Ok(Baseline { state, tag_floor, tags, expired_tags })
    }

    async fn acquire(&self, asks: &[(Key, Acquire)]) -> Vec<Result<Acquired>> {
        self.operate(|state| {
            asks.iter().map(|(key, ask)| Ok(leases::acquire(state, self.node, key, *ask))).collect()
        })
    }

    async fn fill(&self, fills: &[Fill]) -> Vec<Result<Filled>> {
        self.operate(|state| fills.iter().map(|fill| Ok(leases::fill(state, fill))).collect())
    }

    async fn renew(&self, leases: &[(Key, Lease)], ttl: Duration) -> Result<Vec<Renewed>> {
        Ok(self.operate(|state| {
            leases.iter().map(|(key, lease)| leases::renew(state, key, *lease, ttl)).collect()
        }))
    }

    async fn release(&self, leases: &[(Key, Lease)]) -> Result<()> {
        self.operate(|state| leases.iter().for_each(|(key, lease)| leases::release(state, key, *lease)));
        Ok(())
    }

    async fn put(&self, entries: &[(Key, Bytes)], life: Duration, not_after_ms: u64) -> Result<Vec<u64>> {
        if self.store.time_ms() > not_after_ms {
            let message = "an insert was given up before it was executed";
            return Err(Error::new(ErrorKind::Backend, message).in_namespace(&self.namespace));
        }
        let put = |state: &mut Memory| {
            entries.iter().map(|(key, frame)| changes::put(state, key, frame, life)).collect()
        };
        Ok(self.operate(put))
    }

    async fn invalidate(&self, keys: &[Key]) -> Result<Vec<u64>> {
        #[cfg(feature = "testing")]
        if fault!(self.stores.faults, PublishBeforeDelete) {
            let seqs = self.operate(|state| keys.iter().map(|key| halves::announce(state, key)).collect());
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.operate(|state| keys.iter().for_each(|key| halves::remove(state, key)));
            return Ok(seqs);
        }
        Ok(self.operate(|state| keys.iter().map(|key| changes::invalidate(state, key)).collect()))
    }

    async fn clear(&self, partition: u16) -> Result<u64> {
        self.check(partition)?;
        Ok(self.operate(|state| changes::clear(state, partition)))
    }

    async fn invalidate_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        self.check(partition)?;
        Ok(self.operate(|state| changes::change_tags(state, partition, tags, Effect::Void)))
    }

    async fn expire(&self, keys: &[Key]) -> Result<Vec<u64>> {
        Ok(self.operate(|state| keys.iter().map(|key| changes::expire(state, key)).collect()))
    }

    async fn expire_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        self.check(partition)?;
        Ok(self.operate(|state| changes::change_tags(state, partition, tags, Effect::Expire)))
    }

    async fn heartbeat(&self, partition: u16, beat: u64) -> Result<Pulse> {
        self.check(partition)?;
        self.operate(|state| changes::echo(state, self.node, partition, beat));
        Ok(Pulse { run: self.run(), time_ms: self.store.time_ms() })
    }
}
