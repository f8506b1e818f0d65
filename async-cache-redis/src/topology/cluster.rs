//! The cluster that the handles and regions of one backend share.

use std::collections::HashSet;
use std::sync::Arc;

use async_cache_core::Result;
use parking_lot::Mutex;
use redis::ConnectionAddr;
use tokio::runtime::Handle;

use super::learn::Topology;
use crate::background::Background;
use crate::connection::settings::{self, Server, wrong};
use crate::limits::Deadlines;
use crate::parts::{CLUSTER_PARTITIONS, Settings, Target};

/// It ends with the last handle and region. The background task holds the topology only.
pub(crate) struct Cluster {
    pub(super) topology: Arc<Topology>,
    pub(crate) partitions: u16,
    pub(super) deadlines: Deadlines,
    /// Namespaces that are open.
    pub(crate) open_names: Mutex<HashSet<String>>,
    background: Background,
}

impl Cluster {
    /// Connects to the masters, and proves the rights of the user.
    pub(crate) async fn connect(settings: Settings) -> Result<Self> {
        let cluster = Self::new(settings)?;
        cluster.topology.prove().await?;
        cluster.begin();
        Ok(cluster)
    }

    /// Tries once to connect, and goes on in the background.
    pub(crate) async fn connect_lazy(settings: Settings) -> Result<Self> {
        let cluster = Self::new(settings)?;
        cluster.topology.learn().await;
        cluster.begin();
        Ok(cluster)
    }

    fn new(mut settings: Settings) -> Result<Self> {
        settings.validate()?;
        let Target::Cluster(urls) = std::mem::replace(&mut settings.target, Target::Missing) else {
            return Err(wrong("no cluster given: call `cluster`"));
        };
        let partitions = *settings.partitions.get_or_insert(CLUSTER_PARTITIONS);
        let deadlines = settings.deadlines;
        let topology = Arc::new(Topology::new(settings, seeds(&urls)?));
        Ok(Self {
            topology,
            partitions,
            deadlines,
            open_names: Mutex::default(),
            background: Background::new(),
        })
    }

    fn begin(&self) {
        self.background.spawn(Arc::clone(&self.topology).run());
    }

    /// If the runtime of the task that follows the cluster has ended, starts the task again on the current
    /// runtime.
    pub(super) fn ensure(&self) {
        if self.background.has_ended()
            && let Ok(here) = Handle::try_current()
            && let Some(scope) = self.background.begin_again(here, || {})
        {
            self.background.spawn_in(scope, Arc::clone(&self.topology).run());
        }
    }

    /// Runs a task on the runtime of the background.
    pub(super) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(task);
    }

    /// The nodes that the user has named, for messages.
    pub(crate) fn seeds(&self) -> String {
        self.topology.seeds()
    }
}

/// The nodes at these URLs. They must agree, because the other nodes are used with the same settings.
fn seeds(urls: &[String]) -> Result<Vec<Server>> {
    let seeds: Vec<Server> = urls.iter().map(|url| settings::parse(url)).collect::<Result<_>>()?;
    let Some(first) = seeds.first() else {
        return Err(wrong("`cluster` has no URL: give at least one node"));
    };
    let login = |seed: &Server| {
        let settings = seed.info.redis_settings();
        let word = |word: Option<&str>| word.map(ToOwned::to_owned);
        (word(settings.username()), word(settings.password()), settings.protocol(), seed.encryption)
    };
    if seeds.iter().any(|seed| login(seed) != login(first)) {
        return Err(wrong(
            "the URLs of `cluster` differ in more than host and port: all nodes of a cluster have the same user, \
             password and scheme",
        ));
    }
    if seeds.iter().any(|seed| seed.info.redis_settings().db() != 0) {
        return Err(wrong("a URL of `cluster` names a database: a Redis Cluster has number 0 only"));
    }
    if seeds.iter().any(|seed| !matches!(seed.info.addr(), ConnectionAddr::Tcp(..))) {
        return Err(wrong("the nodes of a cluster are reached by TCP: write `redis://` or `rediss://`"));
    }
    Ok(seeds)
}
