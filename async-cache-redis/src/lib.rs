//! The Redis tier of async-cache: values, leases and the invalidation bus.
//!
//! ```no_run
//! # async fn example() -> async_cache_core::Result<()> {
//! use async_cache_redis::RedisBackend;
//!
//! let redis = RedisBackend::connect("redis://127.0.0.1:6379").await?;
//! # Ok(())
//! # }
//! ```
//!
//! The journey of an operation:
//!
//! | module | what it does |
//! |---|---|
//! | `commands/region`, `batch` | turn an operation into a command, a script or a pipeline |
//! | `commands/coalesce` | reads of single keys that are asked for at the same time share a command |
//! | `connection/slots` | pick a connection; deadline, breaker, restoring |
//! | `connection/handshake`, `rights` | what a new connection goes through: can the server be used, and may this user use it |
//! | `connection/link` | one physical connection and the run of the server behind it |
//! | `lua/` | what is executed in Redis, atomically |
//! | `pubsub/` | the way back: from the socket to a region's listener |
//!
//! # What it needs
//!
//! Redis 6.0 or later, standalone or the master of replicas. The user must be allowed `GET`,
//! `MGET`, `EVALSHA`, `SCRIPT LOAD`, `INFO`, `PING`, `PUBLISH`, `SUBSCRIBE`, what the scripts call, and
//! the channels and keys of its namespaces, all of which start with `{<namespace>:`.

#![forbid(unsafe_code)]

mod builder;
mod commands;
mod connection;
mod inner;
mod keys;
mod lua;
mod pubsub;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(not(feature = "testing"))]
mod testing;

use std::fmt;
use std::sync::{Arc, Weak};

use async_cache_core::backend::{Backend, Listener, Region, RegionSpec};
use async_cache_core::{Error, ErrorKind, Result};
use bytes::Bytes;

pub use builder::RedisBackendBuilder;

use crate::commands::region::RedisRegion;
use crate::inner::Shared;
use crate::keys::Home;

/// A [`Backend`] on one Redis server. Cheap to clone; clones share connections and count as the
/// same node set: a namespace can be open once among them.
///
/// Background work and connections end when the last clone and the last region are dropped.
#[derive(Clone)]
pub struct RedisBackend {
    shared: Arc<Shared>,
}

impl RedisBackend {
    /// Connects to `redis://[user[:password]@]host[:port][/database]` and proves the connection.
    ///
    /// # Errors
    ///
    /// Within two seconds, saying which: a wrong URL or password, no server there, a server that
    /// is not Redis. See [`RedisBackendBuilder::connect`].
    pub async fn connect(url: impl AsRef<str>) -> Result<Self> {
        Self::builder().url(url.as_ref()).connect().await
    }

    /// The same for a service that must start while Redis is away: see
    /// [`RedisBackendBuilder::connect_lazy`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the URL is wrong by itself.
    pub async fn connect_lazy(url: impl AsRef<str>) -> Result<Self> {
        Self::builder().url(url.as_ref()).connect_lazy().await
    }

    /// Starts with the defaults.
    pub fn builder() -> RedisBackendBuilder {
        RedisBackendBuilder::new()
    }

    /// **Escape hatch:** uses the caller's own pool for commands, and `client` to open the
    /// subscriber; both must lead to the same database of the same server.
    ///
    /// Connections are taken out of the pool for good, two unless set by
    /// [`RedisBackendBuilder::connections`]: the pool makes them, and makes new ones when they
    /// break, but they do not count against its size. Socket options are the caller's business.
    ///
    /// # Errors
    ///
    /// As [`RedisBackendBuilder::connect`].
    pub async fn from_pool(pool: deadpool_redis::Pool, client: redis::Client) -> Result<Self> {
        Self::builder().pool(pool, client).connect().await
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Backend for RedisBackend {
    fn open(&self, spec: RegionSpec, listener: Weak<dyn Listener>) -> Result<Arc<dyn Region>> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(1);

        let namespace = &spec.namespace;
        let config = |what: &str| Err(Error::new(ErrorKind::Config, what).in_namespace(namespace));
        let strange = |c: char| c.is_control() || matches!(c, '{' | '}');
        if namespace.is_empty() || namespace.len() > 128 || namespace.contains(strange) {
            return config("a namespace has 1 to 128 bytes, no control characters and no braces");
        }
        self.shared.ensure();
        if !self.shared.names.lock().insert(namespace.clone()) {
            return config("already open on this RedisBackend: share the cache, or connect a second backend");
        }
        let homes: Vec<Home> =
            (0..self.shared.partitions).map(|p| Home::new(namespace, p, self.shared.database)).collect();
        let channels =
            homes.iter().map(|home| (Bytes::from(home.bus()), Bytes::from(home.node(spec.node)))).collect();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let member = self.shared.bus.join(id, channels, listener);
        self.shared.subscribe();
        Ok(Arc::new(RedisRegion::new(Arc::clone(&self.shared), spec, homes, member)))
    }
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend")
            .field("server", &self.shared.server)
            .field("partitions", &self.shared.partitions)
            .finish_non_exhaustive()
    }
}

const _: () = {
    const fn assert<T: Send + Sync + Clone>() {}
    assert::<RedisBackend>();
};
