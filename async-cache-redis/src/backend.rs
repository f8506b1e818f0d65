//! The backend: opens the regions of one server.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use async_cache_core::backend::{Backend, Listener, Region, RegionSpec};
use async_cache_core::{Error, ErrorKind, Result};

use crate::commands::region::RedisRegion;
use crate::inner::Inner;
use crate::keys::PartitionKeys;

/// A [`Backend`] on one Redis server. Cheap to clone; clones share connections and count as the
/// same node set: a namespace can be open once among them.
///
/// Background work and connections end when the last clone and the last region are dropped.
#[derive(Clone)]
pub struct RedisBackend {
    pub(crate) inner: Arc<Inner>,
}

impl Backend for RedisBackend {
    fn open(&self, spec: RegionSpec, listener: Weak<dyn Listener>) -> Result<Arc<dyn Region>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);

        let namespace = &spec.namespace;
        let config = |what: &str| Err(Error::new(ErrorKind::Config, what).in_namespace(namespace));
        let strange = |c: char| c.is_control() || matches!(c, '{' | '}');
        if namespace.is_empty() || namespace.len() > 128 || namespace.contains(strange) {
            return config("a namespace has 1 to 128 bytes, no control characters and no braces");
        }
        self.inner.ensure();
        if !self.inner.open_names.lock().insert(namespace.clone()) {
            return config("already open on this RedisBackend: share the cache, or connect a second backend");
        }
        let names: Vec<PartitionKeys> = (0..self.inner.partitions)
            .map(|p| PartitionKeys::new(namespace, p, self.inner.database))
            .collect();
        let channels = names.iter().map(|partition| partition.channels(spec.node)).collect();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let member = self.inner.bus.join(id, channels, listener);
        self.inner.subscribe();
        Ok(Arc::new(RedisRegion::new(Arc::clone(&self.inner), spec, names, member)))
    }
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend")
            .field("server", &self.inner.server)
            .field("partitions", &self.inner.partitions)
            .finish_non_exhaustive()
    }
}

const _: () = {
    const fn assert<T: Send + Sync + Clone>() {}
    assert::<RedisBackend>();
};
