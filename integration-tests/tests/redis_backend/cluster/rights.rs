//! The rights that a user needs on a cluster.

use async_cache_core::ErrorKind;
use async_cache_core::backend::{BusEvent, Check};
use async_cache_redis::RedisBackend;
use integration_tests::cluster::RedisCluster;
use integration_tests::server::major_version;

use crate::rig::{LIFE, Node, RECORD, frame, key};

/// As docs/operations.md lists them.
const LEAST: &str = "resetchannels ~{ns:* &{ns:* -@all +get +mget +evalsha +script|load +info +ping +spublish +ssubscribe \
                     +sunsubscribe +cluster|info +cluster|slots +hello +auth +set +del +unlink +persist +pexpire +pttl +hset \
                     +hget +hgetall +hmget +hdel +hlen +sadd +srem +srandmember +rename +time";

/// A cluster older than Redis 7.0 has no channels of slots.
fn least() -> String {
    if major_version() < 7 {
        return LEAST.replace("+spublish +ssubscribe +sunsubscribe", "+publish +subscribe +unsubscribe");
    }
    LEAST.to_owned()
}

async fn connected(cluster: &RedisCluster, rights: &str) -> async_cache_core::Result<RedisBackend> {
    for node in cluster.nodes() {
        node.set_user("app", &format!("reset on >secret {rights}"));
    }
    let urls = cluster.nodes().iter().map(|node| node.url_as("app"));
    RedisBackend::builder().cluster(urls).connect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_rights_suffice_on_a_cluster_and_each_one_that_is_missing_is_named() {
    let cluster = RedisCluster::start(2);
    let least = least();
    let node = Node::unsubscribed(connected(&cluster, &least).await.unwrap(), "ns", RECORD);
    for partition in 0..64 {
        node.heard.heard(&BusEvent::PartitionSubscribed { partition }).await;
        node.region.heartbeat(partition, 7).await.unwrap();
        node.heard
            .wait("the echo", |event| match event {
                BusEvent::Echo { partition: of, .. } => (*of == partition).then_some(()),
                _ => None,
            })
            .await;
    }
    let entries: Vec<_> = (0..50).map(|n| (key(&format!("k{n}")), frame(node.token(), b"v"))).collect();
    node.region.put(&entries, LIFE, u64::MAX >> 12).await.unwrap();
    let keys: Vec<_> = entries.into_iter().map(|(key, _)| key).collect();
    for check in [Check::Plain, Check::Valid] {
        let read = node.region.read(&keys, check).await.unwrap();
        assert!(read.values.iter().all(Option::is_some));
    }
    node.region.invalidate(&keys).await.unwrap();

    let is_needed =
        |right: &&str| ["info", "cluster|info", "cluster|slots", "evalsha", "hset"].contains(right);
    let of_channels = |right: &&str| right.ends_with("publish") || right.ends_with("subscribe");
    let rights = least.split(' ').filter_map(|word| word.strip_prefix('+'));
    let needed: Vec<&str> = rights.filter(|right| is_needed(right) || of_channels(right)).collect();
    assert_eq!(needed.len(), 8, "{needed:?}");
    for right in needed {
        let fewer = least.replace(&format!("+{right} "), "");
        let error = connected(&cluster, &fewer).await.expect_err(right);
        assert_eq!(error.kind(), ErrorKind::Config, "{right}: {error}");
        assert!(error.to_string().contains(&format!("+{right}`")), "{right}: {error}");
        assert!(!error.to_string().contains("IdentifyBy"), "a cluster cannot do without it: {error}");
    }
}
