//! The backend: opens the regions of one server.

use std::fmt;
use std::sync::{Arc, Weak};

use async_cache_core::backend::{Backend, Listener, Region, RegionSpec};
use async_cache_core::{Error, ErrorKind, Result};

use crate::commands::region::RedisRegion;
use crate::inner::Inner;
use crate::keys::PartitionKeys;
#[cfg(feature = "cluster")]
use crate::topology::{self, cluster::Cluster, region::ClusterRegion};

/// A [`Backend`] on a Redis server, or on a Redis Cluster. It is cheap to clone. Clones share their connections, and
/// among them a namespace can be open only once.
///
/// Background work and connections end when the last clone and the last region are dropped.
#[derive(Clone)]
pub struct RedisBackend {
    servers: Servers,
}

#[derive(Clone)]
enum Servers {
    One(Arc<Inner>),
    #[cfg(feature = "cluster")]
    Cluster(Arc<Cluster>),
}

impl RedisBackend {
    pub(crate) fn of_server(inner: Inner) -> Self {
        Self { servers: Servers::One(Arc::new(inner)) }
    }

    #[cfg(feature = "cluster")]
    pub(crate) fn of_cluster(cluster: Cluster) -> Self {
        Self { servers: Servers::Cluster(Arc::new(cluster)) }
    }
}

impl Backend for RedisBackend {
    fn open(&self, spec: RegionSpec, listener: Weak<dyn Listener>) -> Result<Arc<dyn Region>> {
        let partitions = match &self.servers {
            Servers::One(inner) => inner.partitions,
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => cluster.partitions,
        };
        Ok(match self.open_region(spec, listener, partitions)? {
            Opened::One(region) => region,
            #[cfg(feature = "cluster")]
            Opened::Cluster(region) => region,
        })
    }
}

/// A namespace that has been opened.
pub(crate) enum Opened {
    One(Arc<RedisRegion>),
    #[cfg(feature = "cluster")]
    Cluster(Arc<ClusterRegion>),
}

/// Checks the name of a namespace. Keys and channels have it in braces.
pub(crate) fn check_namespace(name: &str) -> Result<()> {
    let strange = |c: char| c.is_control() || matches!(c, '{' | '}');
    if name.is_empty() || name.len() > 128 || name.contains(strange) {
        let why = "a namespace has 1 to 128 bytes, no control characters and no braces";
        return Err(Error::new(ErrorKind::Config, why).in_namespace(name));
    }
    Ok(())
}

impl RedisBackend {
    /// Opens a namespace with this number of partitions.
    pub(crate) fn open_region(
        &self,
        spec: RegionSpec,
        listener: Weak<dyn Listener>,
        partitions: u16,
    ) -> Result<Opened> {
        let namespace = &spec.namespace;
        check_namespace(namespace)?;
        let open_names = match &self.servers {
            Servers::One(inner) => &inner.open_names,
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => &cluster.open_names,
        };
        if !open_names.lock().insert(namespace.clone()) {
            let why = "already open on this RedisBackend: share the cache, or connect a second backend";
            return Err(Error::new(ErrorKind::Config, why).in_namespace(namespace));
        }
        Ok(match &self.servers {
            Servers::One(inner) => Opened::One(open(inner, spec, listener, partitions)),
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => {
                Opened::Cluster(topology::region::open(cluster, spec, listener, partitions))
            }
        })
    }
}

fn open(
    inner: &Arc<Inner>,
    spec: RegionSpec,
    listener: Weak<dyn Listener>,
    partitions: u16,
) -> Arc<RedisRegion> {
    inner.ensure();
    let names: Arc<[PartitionKeys]> =
        (0..partitions).map(|p| PartitionKeys::new(&spec.namespace, p, inner.database)).collect();
    let channels = names.iter().map(|partition| partition.channels(spec.node)).collect();
    let member = inner.bus.join(0, channels, listener);
    inner.subscribe();
    Arc::new(RedisRegion::new(Arc::clone(inner), spec, names, Some(member)))
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (server, partitions) = match &self.servers {
            Servers::One(inner) => (inner.server.clone(), inner.partitions),
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => (cluster.seeds(), cluster.partitions),
        };
        f.debug_struct("RedisBackend")
            .field("server", &server)
            .field("partitions", &partitions)
            .finish_non_exhaustive()
    }
}

const _: () = {
    const fn assert<T: Send + Sync + Clone>() {}
    assert::<RedisBackend>();
};
