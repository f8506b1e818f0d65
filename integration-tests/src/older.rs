//! A Redis Cluster that belongs to a test, and is older than Redis 7.0: it knows no channels of slots.

use std::net::Ipv4Addr;

use tokio::task::spawn_blocking;

use crate::cluster::{NodeSettings, RedisCluster};
use crate::proxy::{Answers, Proxy};
use crate::server::major_version;

/// Three masters. If the server under test is not so old, proxies change the version in its answers: it knows the older
/// commands, too.
#[derive(Debug)]
pub struct OlderCluster {
    /// The servers themselves.
    pub cluster: RedisCluster,
    /// What a backend is given.
    pub urls: Vec<String>,
    _proxies: Vec<Proxy>,
}

impl OlderCluster {
    /// Starts it.
    ///
    /// # Panics
    ///
    /// If there is no `redis-server`, or if it does not become a cluster.
    pub async fn start() -> Self {
        if major_version() < 7 {
            let cluster = spawn_blocking(|| RedisCluster::start(3)).await.expect("a cluster");
            return Self { urls: cluster.urls(), cluster, _proxies: Vec::new() };
        }
        // The nodes tell their ports only. The host is that at which they were asked.
        let told = ["--cluster-preferred-endpoint-type", "unknown-endpoint"].map(str::to_owned);
        let settings = || NodeSettings { arguments: told.to_vec(), ..NodeSettings::default() };
        let settings: Vec<_> = (0..3).map(|_| settings()).collect();
        let cluster = spawn_blocking(move || RedisCluster::with_settings(3, &settings)).await;
        let cluster = cluster.expect("a cluster");
        let host = Ipv4Addr::new(127, 0, 0, 2);
        let (mut urls, mut proxies) = (Vec::new(), Vec::new());
        for node in cluster.nodes() {
            let port = node.port();
            proxies.push(Proxy::start_at((host, port).into(), port, Answers::OfRedis6).await);
            urls.push(format!("redis://{host}:{port}"));
        }
        Self { cluster, urls, _proxies: proxies }
    }
}
