//! Several nodes on a Redis Cluster.

mod changes;
mod failover;
mod load;
mod masters;
mod moves;
mod older;
mod pending;
mod table;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use async_cache::key::Key;
use async_cache::testing::until;
use async_cache::{MemoryBackend, RedisBackend, TieredCache};
use integration_tests::cluster::RedisCluster;
use integration_tests::fleet::Cache;

/// The partitions of a namespace in a cluster.
const PARTITIONS: u16 = 64;

/// So long that no heartbeat reports a change.
const LONG: Duration = Duration::from_secs(600);

/// A node that waits long for a slot, on a busy machine. Its L1 serves.
async fn node(cluster: &RedisCluster, max_staleness: Duration) -> Cache {
    node_with(cluster, max_staleness, Duration::from_secs(10)).await
}

async fn node_with(cluster: &RedisCluster, max_staleness: Duration, command_timeout: Duration) -> Cache {
    node_at(&cluster.urls(), max_staleness, command_timeout).await
}

async fn node_at(urls: &[String], max_staleness: Duration, command_timeout: Duration) -> Cache {
    let redis = RedisBackend::builder().cluster(urls).command_timeout(command_timeout);
    let cache = TieredCache::builder()
        .namespace("rows")
        .l1(MemoryBackend::new(10_000))
        .l2(Arc::new(redis.connect().await.expect("the cluster answers")))
        .max_staleness(max_staleness)
        .build()
        .expect("a valid cache");
    until("the node serves", || cache.is_serving()).await;
    cache
}

fn partition_of(key: &str) -> u16 {
    Key::encode(key).expect("a key").partition(PARTITIONS)
}

/// The slot of a key of these nodes.
fn slot_of(cluster: &RedisCluster, key: &str) -> u16 {
    cluster.slot_of(&format!("{{rows:{}}}", partition_of(key)))
}

/// The master of a key.
fn master_of(cluster: &RedisCluster, key: &str) -> usize {
    cluster.owner_of(slot_of(cluster, key)).expect("its slot has an owner")
}

/// Keys of the partition of the first key, and as many of other partitions.
fn keys_here_and_elsewhere(count: usize) -> (Vec<String>, Vec<String>) {
    let all = || (0..).map(|number| format!("key-{number}"));
    let here = partition_of("key-0");
    let same = all().filter(|key| partition_of(key) == here).take(count).collect();
    let others = all().filter(|key| partition_of(key) != here).take(count).collect();
    (same, others)
}
