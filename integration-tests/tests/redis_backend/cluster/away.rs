//! One master is away.

use std::time::Duration;

use async_cache_core::ErrorKind;
use async_cache_core::backend::{BusEvent, Check};
use async_cache_core::key::Key;
use async_cache_redis::RedisBackend;
use integration_tests::cluster::RedisCluster;

use crate::rig::{LIFE, Node, RECORD, frame, key};

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_a_master_that_is_away_fail_alone() {
    let cluster = RedisCluster::start(3);
    let backend = RedisBackend::builder().cluster(cluster.urls()).command_timeout(Duration::from_secs(5));
    let node = Node::unsubscribed(backend.connect().await.unwrap(), "ns", RECORD);
    let entries: Vec<_> = (0..60).map(|n| (key(&format!("k{n}")), frame(node.token(), b"v"))).collect();
    node.region.put(&entries, LIFE, u64::MAX >> 12).await.unwrap();
    let keys: Vec<Key> = entries.into_iter().map(|(key, _)| key).collect();
    let is_away = |key: &Key| {
        let slot = cluster.slot_of(&format!("{{ns:{}}}", key.partition(64)));
        cluster.owner_of(slot) == Some(0)
    };
    let away: Vec<bool> = keys.iter().map(is_away).collect();
    assert!(away.contains(&true) && away.contains(&false));
    cluster.node(0).kill();

    for check in [Check::Plain, Check::Valid] {
        for (read, away) in node.region.read_each(&keys, check).await.into_iter().zip(&away) {
            assert_eq!(read.map_err(|error| error.kind()).err(), away.then_some(ErrorKind::Backend));
        }
        assert!(node.region.read(&keys, check).await.is_err(), "an answer for all is not to be had");
    }
    let asks: Vec<_> = keys.iter().map(|key| (key.clone(), node.ask())).collect();
    for (acquired, away) in node.region.acquire(&asks).await.into_iter().zip(&away) {
        assert_eq!(acquired.is_err(), *away);
    }
    assert!(node.region.info().available, "the others answer");
    let lost = |event: &BusEvent| match event {
        BusEvent::PartitionLost { partition } => Some(*partition),
        _ => None,
    };
    let partition = node.heard.wait("the loss", lost).await;
    assert_eq!(
        u32::from(cluster.slot_of(&format!("{{ns:{partition}}}"))) * 3 / 16_384,
        0,
        "a partition of this master"
    );
    assert!(!node.heard.events().contains(&BusEvent::Lost), "the others are not lost");
}
