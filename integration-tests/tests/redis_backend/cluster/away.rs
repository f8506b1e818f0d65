//! One master is away.

use std::time::Duration;

use async_cache::testing::until;
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

/// While a replica takes the place of a master, a node may have forgotten the old owner of the slots, and not know the
/// new one yet. Then the map has no server for the slots, and none that is away.
#[tokio::test(flavor = "multi_thread")]
async fn slots_without_a_master_are_asked_for_until_they_have_one() {
    let cluster = RedisCluster::start(3);
    let backend = RedisBackend::builder().cluster(cluster.urls()).command_timeout(Duration::from_secs(1));
    let node = Node::unsubscribed(backend.connect().await.unwrap(), "ns", RECORD);
    let slots = cluster.slots_of(0);
    let is_of_the_first =
        |key: &Key| slots.contains(&cluster.slot_of(&format!("{{ns:{}}}", key.partition(64))));
    let orphan = (0..).map(|n| key(&format!("k{n}"))).find(is_of_the_first).expect("a key");
    node.region.read(std::slice::from_ref(&orphan), Check::Plain).await.unwrap();
    cluster.node(0).kill();
    cluster.orphan(&slots);
    // The tests ask the nodes, too, but with other commands.
    for _ in 0..2 {
        let before = cluster.questions();
        until("the nodes are asked again", || cluster.questions() > before + 4).await;
    }
    cluster.adopt(&slots, 1);
    let read = async {
        while node.region.read(std::slice::from_ref(&orphan), Check::Plain).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    // Much less than the pause between two questions of a handle that misses nothing.
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("the new master is found");
}
