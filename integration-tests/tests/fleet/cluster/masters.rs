//! Masters leave the cluster, and join it.

use std::time::Duration;

use async_cache::testing::until;
use integration_tests::cluster::RedisCluster;
use integration_tests::eventually_is;
use integration_tests::fleet::Cache;
use tokio::task::spawn_blocking;

use super::load::Load;
use super::table::Table;
use super::{PARTITIONS, node};

/// The default of `max_staleness`.
const BOUND: Duration = Duration::from_secs(1);

/// Reads the rows through both nodes, from the masters that have them now, or from the L1 that these have confirmed.
async fn settled(nodes: [&Cache; 2], table: &Table, keys: &[String]) {
    until("both nodes serve", || nodes.iter().all(|node| node.is_serving())).await;
    for key in keys {
        for node in nodes {
            table.get(node, key, BOUND).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_leaves_and_one_that_joins_under_load_cost_one_load_per_key_and_no_error() {
    let mut cluster = RedisCluster::start(3);
    let (a, b) = (node(&cluster, BOUND).await, node(&cluster, BOUND).await);
    let table = Table::default();
    let mut keys: Vec<String> = (0..90).map(|number| format!("key-{number}")).collect();
    let written = keys.split_off(80);
    settled([&a, &b], &table, &[&keys[..], &written].concat()).await;
    table.forget_loads();
    let load = Load::begin([&a, &b], &table, &keys, &written, BOUND);

    let cluster = spawn_blocking(move || {
        cluster.remove_master(1, [0, 2]);
        cluster
    });
    let mut cluster = cluster.await.unwrap();
    settled([&a, &b], &table, &keys).await;
    let loads: Vec<usize> = keys.iter().map(|key| table.loads(key)).collect();
    assert!(loads.iter().all(|loads| *loads <= 1), "one move for some, none for others: {loads:?}");
    assert!(loads.contains(&0) && loads.contains(&1), "some were concerned: {loads:?}");

    table.forget_loads();
    let cluster = spawn_blocking(move || {
        let new = cluster.add_master();
        let mut slots: Vec<u16> =
            (0..PARTITIONS).map(|partition| cluster.slot_of(&format!("{{rows:{partition}}}"))).collect();
        slots.retain(|slot| cluster.owner_of(*slot) == Some(0));
        cluster.hand_over(&slots, 0, new);
        cluster
    });
    let cluster = cluster.await.unwrap();
    settled([&a, &b], &table, &keys).await;
    load.end().await;
    let loads: Vec<usize> = keys.iter().map(|key| table.loads(key)).collect();
    assert!(loads.iter().all(|loads| *loads <= 1), "one move for some, none for others: {loads:?}");
    assert!(loads.contains(&0) && loads.contains(&1), "some were concerned: {loads:?}");

    // The new masters are as good as the old ones.
    for key in &keys {
        assert!(table.write(&b, key).await, "{key}");
        table.get(&b, key, Duration::ZERO).await;
        eventually_is("the old value is gone", async || {
            a.get(key).await.unwrap().is_none_or(|version| *version != 1)
        })
        .await;
    }
    drop(cluster);
}
