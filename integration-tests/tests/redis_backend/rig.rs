//! The setup of these tests: a server, and nodes on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_cache_core::backend::{
    Accept, Acquire, Acquired, Backend as _, BusEvent, Check, Lease, Listener, NodeId, Region, RegionSpec,
    Token,
};
use async_cache_core::frame::{SEAL_LEN, TOKEN_OFFSET, seal};
use async_cache_core::key::Key;
use async_cache_redis::{RedisBackend, RedisBackendBuilder};
use bytes::Bytes;
use integration_tests::listen::PATIENCE;
use integration_tests::{Recorder, RedisServer};

pub(crate) const RECORD: &str = "v1 test";
pub(crate) const LIFE: Duration = Duration::from_secs(60);
pub(crate) const TTL: Duration = Duration::from_secs(5);

/// The builder of a backend whose deadlines a busy machine does not miss.
pub(crate) fn patient(url: String) -> RedisBackendBuilder {
    RedisBackend::builder().url(url).connect_timeout(PATIENCE).command_timeout(PATIENCE)
}

/// A node: its connections, a region, and the events so far.
pub(crate) struct Node {
    pub(crate) region: Arc<dyn Region>,
    pub(crate) heard: Arc<Recorder>,
    pub(crate) id: NodeId,
    pub(crate) backend: RedisBackend,
}

impl Node {
    /// A node of the namespace `ns` that has subscribed.
    pub(crate) async fn on(server: &RedisServer) -> Self {
        Self::of(patient(server.url()).connect().await.unwrap()).await
    }

    pub(crate) async fn of(backend: RedisBackend) -> Self {
        let node = Self::unsubscribed(backend, "ns", RECORD);
        node.heard.heard(&BusEvent::Subscribed).await;
        node
    }

    pub(crate) fn unsubscribed(backend: RedisBackend, namespace: &str, record: &str) -> Self {
        let heard = Recorder::new();
        let id = NodeId::random();
        let region = open(&backend, RegionSpec::new(namespace, id, record), &heard).unwrap();
        Self { region, heard, id, backend }
    }

    /// A new token of this node.
    pub(crate) fn token(&self) -> Token {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        Token { node: self.id, counter: COUNT.fetch_add(1, Ordering::Relaxed) }
    }

    pub(crate) fn ask(&self) -> Acquire {
        Acquire { token: self.token(), ttl: TTL, accept: Accept::Any }
    }

    pub(crate) async fn acquire(&self, key: &Key) -> Acquired {
        self.region.acquire_one(key, self.ask()).await.unwrap()
    }

    /// Acquires a lease that must be free.
    pub(crate) async fn lease(&self, key: &Key) -> Lease {
        match self.acquire(key).await {
            Acquired::Granted(lease) => lease,
            other => panic!("not granted: {other:?}"),
        }
    }

    /// Stores a value under its own lease.
    pub(crate) async fn store(&self, key: &Key, payload: &[u8]) -> (Token, Bytes) {
        let now = self.region.state(0).await.unwrap().time_ms;
        let token = self.token();
        let frame = frame(token, payload);
        let seqs = self.region.put(&[(key.clone(), frame.clone())], LIFE, now + 60_000).await.unwrap();
        (token, stored(seqs[0], &frame))
    }

    pub(crate) async fn read(&self, key: &Key) -> Option<Bytes> {
        self.region.read_one(key, Check::Plain).await.unwrap().value
    }
}

pub(crate) fn open(
    backend: &RedisBackend,
    spec: RegionSpec,
    heard: &Arc<Recorder>,
) -> async_cache_core::Result<Arc<dyn Region>> {
    let listener: Arc<dyn Listener> = Arc::clone(heard) as _;
    backend.open(spec, Arc::downgrade(&listener))
}

pub(crate) fn key(text: &str) -> Key {
    Key::from_encoded(text.as_bytes())
}

/// A frame with its token at the offset for stored values.
pub(crate) fn frame(token: Token, payload: &[u8]) -> Bytes {
    let mut frame = vec![b'h'; TOKEN_OFFSET - SEAL_LEN];
    frame.extend_from_slice(&token.to_bytes());
    frame.extend_from_slice(payload);
    frame.into()
}

pub(crate) fn stored(seq: u64, frame: &[u8]) -> Bytes {
    [&seal(seq)[..], frame].concat().into()
}
