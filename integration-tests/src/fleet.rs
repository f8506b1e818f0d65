//! Several nodes of one namespace with a shared tier.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_cache::backend::Backend;
use async_cache::testing::until;
use async_cache::{MemoryBackend, RedisBackend, TieredCache, TieredCacheBuilder};

use crate::listen::PATIENCE;
use crate::proxy::Proxy;
use crate::server::RedisServer;

/// The caches of these tests. The value is the version of a row.
pub type Cache = TieredCache<String, u64>;

/// A shared tier, on which nodes can be built.
#[derive(Debug)]
pub enum Fleet {
    /// The in-process tier.
    Memory(MemoryBackend),
    /// A server that belongs to the test.
    Redis(Arc<RedisServer>),
}

impl Fleet {
    /// A fleet of this process on the in-process tier.
    #[must_use]
    pub fn memory() -> Self {
        Self::Memory(MemoryBackend::new(100_000))
    }

    /// A fleet on a new `redis-server`.
    #[must_use]
    pub fn redis() -> Self {
        Self::on(Arc::new(RedisServer::start()))
    }

    /// A fleet on an existing server.
    #[must_use]
    pub fn on(server: Arc<RedisServer>) -> Self {
        Self::Redis(server)
    }

    /// The Redis server of this fleet.
    ///
    /// # Panics
    ///
    /// If the tier is in this process.
    #[must_use]
    pub fn server(&self) -> &RedisServer {
        match self {
            Self::Redis(server) => server,
            Self::Memory(_) => panic!("this fleet has no server"),
        }
    }

    /// A backend with its own connections.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn backend(&self) -> Arc<dyn Backend> {
        match self {
            Self::Memory(memory) => Arc::new(memory.clone()),
            Self::Redis(server) => Arc::new(connected(|| RedisBackend::connect(server.url())).await),
        }
    }

    /// A node whose L1 serves.
    ///
    /// # Panics
    ///
    /// If its L1 does not serve in time.
    pub async fn node(&self) -> Cache {
        self.node_with(|builder| builder).await
    }

    /// A node with long timeouts whose L1 serves. It is for tests of what is stored in the end, on a busy
    /// machine. A load over its deadline is not stored, and a thousand of them at once close the connections.
    ///
    /// # Panics
    ///
    /// If its L1 does not serve in time.
    pub async fn patient_node(&self) -> Cache {
        const TIME: Duration = Duration::from_secs(60);
        let backend: Arc<dyn Backend> = match self {
            Self::Memory(_) => self.backend().await,
            Self::Redis(server) => {
                let connect = || RedisBackend::builder().url(server.url()).command_timeout(TIME).connect();
                Arc::new(connected(connect).await)
            }
        };
        on(backend, |builder| builder.lease_ttl(TIME).ttl(10 * TIME)).await
    }

    /// A node with options whose L1 serves.
    ///
    /// # Panics
    ///
    /// If the options are invalid.
    pub async fn node_with(
        &self,
        options: impl FnOnce(TieredCacheBuilder<String, u64>) -> TieredCacheBuilder<String, u64>,
    ) -> Cache {
        on(self.backend().await, options).await
    }

    /// A node with options whose connections all go through a proxy.
    ///
    /// # Panics
    ///
    /// If the tier is in this process, or if the options are invalid.
    pub async fn node_through(
        &self,
        proxy: &Proxy,
        options: impl FnOnce(TieredCacheBuilder<String, u64>) -> TieredCacheBuilder<String, u64>,
    ) -> Cache {
        let url = self.server().url_at(proxy.port());
        on(Arc::new(connected(|| RedisBackend::connect(url.clone())).await), options).await
    }
}

/// The first connection. A busy machine may miss its deadline of one second several times.
async fn connected<F: Future<Output = async_cache::Result<RedisBackend>>>(
    connect: impl Fn() -> F,
) -> RedisBackend {
    let start = Instant::now();
    loop {
        match connect().await {
            Ok(backend) => return backend,
            Err(error) => assert!(start.elapsed() < PATIENCE, "the server does not answer: {error}"),
        }
    }
}

async fn on(
    backend: Arc<dyn Backend>,
    options: impl FnOnce(TieredCacheBuilder<String, u64>) -> TieredCacheBuilder<String, u64>,
) -> Cache {
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(200_000)).l2(backend);
    let cache = options(builder).build().expect("a valid cache");
    until("the node serves", || cache.is_serving()).await;
    cache
}

/// Makes two tests from each scenario: one on the in-process tier, and one on Redis.
#[macro_export]
macro_rules! on_both_tiers {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::$name($crate::fleet::Fleet::memory()).await; })*
        }
        mod redis {
            $(#[tokio::test] async fn $name() { super::$name($crate::fleet::Fleet::redis()).await; })*
        }
    };
}
