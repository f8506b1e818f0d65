//! A slot moves from one master to another.

use std::time::Duration;

use async_cache::testing::until;
use integration_tests::cluster::RedisCluster;

use super::load::Load;
use super::table::Table;
use super::{LONG, keys_here_and_elsewhere, master_of, node, slot_of};

/// The default of `max_staleness`.
const BOUND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_under_load_costs_at_most_one_load_per_key() {
    let cluster = RedisCluster::start(3);
    let (a, b) = (node(&cluster, BOUND).await, node(&cluster, BOUND).await);
    let table = Table::default();
    let (mut here, elsewhere) = keys_here_and_elsewhere(30);
    let written = here.split_off(25);
    for key in here.iter().chain(&elsewhere).chain(&written) {
        table.get(&a, key, BOUND).await;
        table.get(&b, key, BOUND).await;
    }
    table.forget_loads();

    let load = Load::begin([&a, &b], &table, &[&here[..], &elsewhere].concat(), &written, BOUND);
    let (slot, from) = (slot_of(&cluster, &here[0]), master_of(&cluster, &here[0]));
    let cluster = tokio::task::spawn_blocking(move || {
        for to in [(from + 1) % 3, from, (from + 2) % 3] {
            cluster.move_slot(slot, to);
        }
        cluster
    });
    let cluster = cluster.await.unwrap();
    until("both nodes serve", || a.is_serving() && b.is_serving()).await;
    // Every read after this asks the new master, or the L1 that it has confirmed.
    for key in &here {
        table.get(&a, key, BOUND).await;
        table.get(&b, key, BOUND).await;
    }
    load.end().await;
    let loads: Vec<usize> = here.iter().map(|key| table.loads(key)).collect();
    assert!(loads.iter().all(|loads| *loads <= 3), "three moves: {loads:?}");
    assert!(elsewhere.iter().all(|key| table.loads(key) == 0), "other partitions are not concerned");
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_notices_at_once_that_a_slot_has_left_its_server() {
    let cluster = RedisCluster::start(3);
    // No heartbeat tells within this test.
    let (a, b) = (node(&cluster, LONG).await, node(&cluster, LONG).await);
    let table = Table::default();
    table.get(&a, "k", LONG).await;
    table.get(&b, "k", LONG).await;
    let (slot, from) = (slot_of(&cluster, "k"), master_of(&cluster, "k"));
    cluster.move_slot(slot, (from + 1) % 3);
    // The other node has to find the new master for this.
    assert!(table.write(&a, "k").await);
    let is_gone = async || b.get("k").await.unwrap().is_none();
    let start = std::time::Instant::now();
    while !is_gone().await {
        assert!(start.elapsed() < Duration::from_secs(10), "the node goes on with the old value");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    until("the node serves again", || b.is_serving()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_wait_while_a_slot_is_between_two_masters() {
    let cluster = RedisCluster::start(2);
    let node = node(&cluster, BOUND).await;
    let table = Table::default();
    let (keys, _) = keys_here_and_elsewhere(20);
    for key in &keys {
        table.get(&node, key, BOUND).await;
    }
    table.forget_loads();
    let (slot, from) = (slot_of(&cluster, &keys[0]), master_of(&cluster, &keys[0]));
    cluster.begin_move(slot, from, 1 - from);
    let waiting: Vec<_> = keys
        .iter()
        .map(|key| {
            let (node, table, key) = (node.clone(), table.clone(), key.clone());
            tokio::spawn(async move {
                assert!(table.write(&node, &key).await, "{key}");
                table.get(&node, &key, Duration::ZERO).await;
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(waiting.iter().all(|task| !task.is_finished()), "no script finds all of its keys");
    while cluster.move_keys(slot, from, 1 - from) {}
    cluster.end_move(slot, from, 1 - from);
    for task in waiting {
        task.await.unwrap();
    }
    assert!(keys.iter().all(|key| table.loads(key) == 1));
}
