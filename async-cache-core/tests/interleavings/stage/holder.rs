//! A node of which a test says all that it does.

use std::sync::Arc;
use std::time::Duration;

use async_cache_core::backend::{
    Accept, Acquire, Acquired, Announce, Backend, BusEvent, Check, Fill, Filled, Lease, Listener, NodeId,
    Region, RegionSpec, Token,
};
use async_cache_core::key::Key;
use bytes::Bytes;

use super::Stage;

/// A node that is nothing but its leases: loads are what the test says.
pub(crate) struct Holder {
    region: Arc<dyn Region>,
    node: NodeId,
    counter: u64,
    _listener: Arc<dyn Listener>,
}

impl Holder {
    /// On the tier of a stage that has a node.
    pub(crate) fn beside(stage: &Stage) -> Self {
        struct Nobody;
        impl Listener for Nobody {
            fn notify(&self, _: BusEvent) {}
        }
        let listener: Arc<dyn Listener> = Arc::new(Nobody);
        let node = NodeId::random();
        let spec = RegionSpec::new("rows", node, stage.0.record.lock().clone());
        let region = Backend::open(&stage.0.tier, spec, Arc::downgrade(&listener)).unwrap();
        Self { region, node, counter: 0, _listener: listener }
    }

    /// The lease on a key; waits while it cools.
    pub(crate) async fn lease(&mut self, key: &Key) -> Lease {
        loop {
            self.counter += 1;
            let token = Token { node: self.node, counter: self.counter };
            let ask = Acquire { token, ttl: Duration::from_secs(60), accept: Accept::Nothing };
            match self.region.acquire_one(key, ask).await.unwrap() {
                Acquired::Granted(lease) => return lease,
                _ => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }

    pub(crate) async fn fill(&self, key: &Key, lease: Lease, frame: &Bytes) -> Filled {
        let life = Duration::from_secs(60);
        self.region
            .fill_one(Fill { key: key.clone(), lease, frame: frame.clone(), life, announce: Announce::No })
            .await
            .unwrap()
    }

    /// Ends a load that has failed, and wakes who waits.
    pub(crate) async fn release(&self, key: &Key, lease: Lease) {
        self.region.release_one(key, lease).await.unwrap();
    }

    /// What is stored under a key, behind the seal.
    pub(crate) async fn frame(&self, key: &Key) -> Bytes {
        let stored = self.region.read_one(key, Check::Plain).await.unwrap().value.expect("a value is stored");
        stored.slice(async_cache_core::frame::SEAL_LEN..)
    }
}
