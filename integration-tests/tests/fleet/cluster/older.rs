//! A cluster that is older than Redis 7.0: it knows no channels of slots.

use std::time::Duration;

use async_cache::testing::until;
use integration_tests::eventually_is;
use integration_tests::fleet::Cache;
use integration_tests::older::OlderCluster;
use integration_tests::server::major_version;
use tokio::task::spawn_blocking;

use super::load::Load;
use super::table::Table;
use super::{LONG, keys_here_and_elsewhere, master_of, node_at, slot_of};

/// The default of `max_staleness`.
const BOUND: Duration = Duration::from_secs(1);

async fn node(older: &OlderCluster, max_staleness: Duration) -> Cache {
    node_at(&older.urls, max_staleness, Duration::from_secs(10)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_cluster_is_used_by_its_plain_channels() {
    let older = OlderCluster::start().await;
    let (a, b) = (node(&older, LONG).await, node(&older, LONG).await);
    let (keys, _) = keys_here_and_elsewhere(20);
    for key in &keys {
        a.insert(key, 1).await.unwrap();
        assert_eq!(b.get(key).await.unwrap().as_deref(), Some(&1));
        a.invalidate(key).await.unwrap();
        // No heartbeat tells of it within this test.
        eventually_is("the old value is gone", async || b.get(key).await.unwrap().is_none()).await;
    }
    let mut heard = 0;
    for (index, node) in older.cluster.nodes().iter().enumerate() {
        let plain: Vec<String> = node.cli(&["PUBSUB", "CHANNELS", "{rows:*"]);
        if major_version() >= 7 {
            assert_eq!(node.cli::<Vec<String>>(&["PUBSUB", "SHARDCHANNELS"]), [""; 0]);
        }
        for channel in &plain {
            // Only there are its messages in the order of the changes.
            assert_eq!(older.cluster.owner_of(older.cluster.slot_of(channel)), Some(index), "{channel}");
        }
        heard += plain.len();
    }
    assert_eq!(heard, 64 * 3, "the bus of each partition, and a channel of each node");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_in_an_older_cluster_costs_at_most_one_load_per_key() {
    let older = OlderCluster::start().await;
    let (a, b) = (node(&older, BOUND).await, node(&older, BOUND).await);
    let table = Table::default();
    let (mut here, elsewhere) = keys_here_and_elsewhere(30);
    let written = here.split_off(25);
    for key in here.iter().chain(&elsewhere).chain(&written) {
        table.get(&a, key, BOUND).await;
        table.get(&b, key, BOUND).await;
    }
    table.forget_loads();
    let load = Load::begin([&a, &b], &table, &[&here[..], &elsewhere].concat(), &written, BOUND);
    let (slot, from) = (slot_of(&older.cluster, &here[0]), master_of(&older.cluster, &here[0]));
    let moved = spawn_blocking(move || {
        for to in [(from + 1) % 3, from, (from + 2) % 3] {
            older.cluster.move_slot(slot, to);
        }
        older
    });
    let older = moved.await.unwrap();
    until("both nodes serve", || a.is_serving() && b.is_serving()).await;
    for key in &here {
        table.get(&a, key, BOUND).await;
        table.get(&b, key, BOUND).await;
    }
    load.end().await;
    let loads: Vec<usize> = here.iter().map(|key| table.loads(key)).collect();
    assert!(loads.iter().all(|loads| *loads <= 3), "three moves: {loads:?}");
    assert!(elsewhere.iter().all(|key| table.loads(key) == 0), "other partitions are not concerned");
    // Its old master does not end the subscriptions. The nodes do.
    let owner = older.cluster.owner_of(slot).unwrap();
    for (index, node) in older.cluster.nodes().iter().enumerate() {
        let bus = format!("{{rows:{}}}bus", super::partition_of(&here[0]));
        until("only the new master is listened to", || {
            node.listeners(&bus) == if index == owner { 2 } else { 0 }
        })
        .await;
    }
}
