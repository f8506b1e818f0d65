//! A cluster over TLS.

use std::sync::Arc;
use std::time::Duration;

use async_cache::testing::until;
use async_cache::{MemoryBackend, RedisBackend, RedisBackendBuilder, TieredCache, Tls};
use integration_tests::cluster::{NodeSettings, RedisCluster};
use integration_tests::eventually_is;
use integration_tests::fleet::Cache;
use integration_tests::ports::free_port;
use integration_tests::server::major_version;

use super::{LONG, master_of};
use crate::certificates::{Authority, Files, Validity};

/// Three masters with a port for TLS beside the plain one.
struct Encrypted {
    cluster: RedisCluster,
    authority: Authority,
    ports: Vec<u16>,
    _files: Files,
}

impl Encrypted {
    /// Starts it. `bus` says whether the nodes speak TLS with one another, too.
    fn start(bus: &str) -> Self {
        let authority = Authority::new();
        let files = Files::new(&authority, &authority.sign("127.0.0.1", Validity::Now));
        let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let settings = |port: &u16| {
            let mut arguments = files.arguments(*port);
            arguments.extend(["--tls-auth-clients", "no", "--tls-cluster", bus].map(str::to_owned));
            NodeSettings { arguments, ..NodeSettings::default() }
        };
        let cluster = RedisCluster::with_settings(3, &ports.iter().map(settings).collect::<Vec<_>>());
        Self { cluster, authority, ports, _files: files }
    }

    fn builder(&self) -> RedisBackendBuilder {
        let urls = self.ports.iter().map(|port| format!("rediss://127.0.0.1:{port}"));
        let tls = Tls::new().ca(self.authority.pem());
        // Time enough for a machine that has other things to do.
        let builder = RedisBackend::builder().cluster(urls).tls(tls);
        builder.command_timeout(Duration::from_secs(10)).connect_timeout(Duration::from_secs(10))
    }

    async fn node(&self) -> Cache {
        let redis = self.builder().connect().await.expect("the cluster answers");
        let builder =
            TieredCache::builder().namespace("rows").l1(MemoryBackend::new(1000)).l2(Arc::new(redis));
        let cache: Cache = builder.max_staleness(LONG).build().expect("a valid cache");
        until("the node serves", || cache.is_serving()).await;
        cache
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_reach_the_other_node_over_tls_at_every_master() {
    let encrypted = Encrypted::start("yes");
    let (a, b) = (encrypted.node().await, encrypted.node().await);
    let keys: Vec<String> = (0..60).map(|number| format!("key-{number}")).collect();
    let masters: Vec<usize> = keys.iter().map(|key| master_of(&encrypted.cluster, key)).collect();
    assert!((0..3).all(|master| masters.contains(&master)), "{masters:?}");
    a.insert_many(keys.iter().map(|key| (key.clone(), 1))).await.unwrap();
    let found = b.get_many(&keys).await.unwrap();
    assert!(found.iter().all(|value| value.as_deref() == Some(&1)), "{found:?}");
    b.invalidate_many(&keys).await.unwrap();
    for key in &keys {
        eventually_is("the old value is gone", async || a.get(key).await.unwrap().is_none()).await;
    }
    for (node, port) in encrypted.cluster.nodes().iter().zip(&encrypted.ports) {
        let clients: String = node.cli(&["CLIENT", "LIST"]);
        let by_tls = clients.lines().filter(|line| line.contains(&format!("laddr=127.0.0.1:{port} ")));
        assert_eq!((by_tls.count(), node.clients()), (6, 6), "two for commands and one for messages, twice");
    }
}

/// Nodes of Redis 7.0 that do not speak TLS with one another tell ports without it. Later ones may tell the right ports.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_tell_ports_without_tls_are_an_error_that_names_the_setting() {
    let encrypted = Encrypted::start("no");
    match encrypted.builder().connect().await {
        Err(error) => assert!(error.to_string().contains("tls-cluster yes"), "{error}"),
        Ok(_) => assert!(major_version() > 7, "the ports that Redis 7.0 tells do not speak TLS"),
    }
}
