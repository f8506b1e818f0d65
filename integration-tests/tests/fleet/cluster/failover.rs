//! A master is killed and its replica promoted, and masters come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_cache::testing::until;
use futures_util::FutureExt as _;
use integration_tests::cluster::RedisCluster;
use integration_tests::eventually_is;

use super::table::Table;
use super::{LONG, master_of, node, node_with, slot_of};

/// Long enough for a busy machine.
const BOUND: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_killed_suspends_its_own_partitions_alone() {
    let cluster = RedisCluster::with_replicas(3, 1);
    let (a, b) = (node(&cluster, BOUND).await, node(&cluster, BOUND).await);
    let table = Table::default();
    let killed = master_of(&cluster, "key-0");
    let (harmed, unharmed) = of_and_elsewhere(&cluster, killed);
    for key in harmed.iter().chain(&unharmed) {
        table.get(&a, key, BOUND).await;
        table.get(&b, key, BOUND).await;
    }
    table.forget_loads();

    let stop = Arc::new(AtomicBool::new(false));
    // One node reads keys of unharmed partitions only. The other one reads all, and changes some.
    let (node, rows, stopped, keys) = (a.clone(), table.clone(), Arc::clone(&stop), unharmed.clone());
    let before = a.stats();
    let reader = tokio::spawn(async move {
        let mut reads = 0;
        while !stopped.load(Ordering::Relaxed) {
            for key in &keys {
                rows.get(&node, key, BOUND).await;
                reads += 1;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        reads
    });
    let (node, rows, stopped, keys) = (b.clone(), table.clone(), Arc::clone(&stop), harmed.clone());
    let writer = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            for key in &keys {
                rows.write(&node, key).await;
                rows.get(&node, key, BOUND).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    cluster.node(killed).kill();
    let slot = slot_of(&cluster, &harmed[0]);
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.new_owner_of(slot, killed);
        cluster
    });
    let cluster = cluster.await.unwrap();
    until("both nodes serve", || a.is_serving() && b.is_serving()).await;
    stop.store(true, Ordering::Relaxed);
    let reads: u64 = reader.await.unwrap();
    writer.await.unwrap();
    assert_eq!(a.stats().l1_hits - before.l1_hits, reads, "every read of an unharmed partition was a hit");
    assert!(unharmed.iter().all(|key| table.loads(key) == 0));

    // The new master is as good as the old one.
    for key in harmed.iter().chain(&unharmed) {
        table.get(&a, key, BOUND).await;
        assert!(table.write(&b, key).await, "{key}");
        eventually_is("the old value is gone", async || a.get(key).await.unwrap().is_none()).await;
    }
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_added_and_one_that_goes_are_followed() {
    let mut cluster = RedisCluster::start(2);
    let (a, b) = (node(&cluster, BOUND).await, node(&cluster, BOUND).await);
    let table = Table::default();
    let keys: Vec<String> = (0..60).map(|number| format!("key-{number}")).collect();
    for key in &keys {
        table.get(&b, key, BOUND).await;
    }
    let new = cluster.add_master();
    let mut slots: Vec<u16> = keys.iter().map(|key| slot_of(&cluster, key)).collect();
    slots.sort_unstable();
    slots.dedup();
    for slot in slots {
        cluster.move_slot(slot, new);
    }
    for key in &keys {
        table.get(&b, key, BOUND).await;
        assert!(table.write(&a, key).await, "{key}");
        eventually_is("the old value is gone", async || b.get(key).await.unwrap().is_none()).await;
    }
    until("both nodes serve", || a.is_serving() && b.is_serving()).await;
}

/// Keys of one master, and keys of the others.
fn of_and_elsewhere(cluster: &RedisCluster, master: usize) -> (Vec<String>, Vec<String>) {
    (0..60).map(|number| format!("key-{number}")).partition(|key| master_of(cluster, key) == master)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_hangs_keeps_no_other_partition_from_serving() {
    let cluster = RedisCluster::start(3);
    let node = node_with(&cluster, Duration::from_secs(1), LONG).await;
    let table = Table::default();
    let (_, unharmed) = of_and_elsewhere(&cluster, 0);
    for key in &unharmed {
        table.get(&node, key, BOUND).await;
    }
    cluster.node(0).pause();
    // Longer than a serving lease lasts. The heartbeats to this master wait longer than this test.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for key in &unharmed {
        until("L1 answers", || {
            let before = node.stats().l1_hits;
            node.get(key).into_future().now_or_never().is_some() && node.stats().l1_hits > before
        })
        .await;
    }
    assert!(unharmed.iter().all(|key| table.loads(key) == 1));
    cluster.node(0).resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_are_answered_although_one_master_is_away() {
    let cluster = RedisCluster::start(3);
    let (a, b) = (node(&cluster, BOUND).await, node(&cluster, BOUND).await);
    let table = Table::default();
    let (harmed, unharmed) = of_and_elsewhere(&cluster, 0);
    for key in harmed.iter().chain(&unharmed) {
        table.get(&a, key, BOUND).await;
    }
    // This node holds the values of the master that goes, and has not asked for the others.
    for key in &harmed {
        table.get(&b, key, BOUND).await;
    }
    cluster.node(0).kill();
    until("the loss is noticed", || !b.is_serving()).await;
    let all = [&harmed[..], &unharmed].concat();
    let before = b.stats();
    let found = b.get_many(&all).await.unwrap();
    assert!(found.iter().all(Option::is_some), "{found:?}");
    assert_eq!(
        b.stats().l2_hits - before.l2_hits,
        unharmed.len() as u64,
        "these come from the other masters"
    );
    table.forget_loads();
    for key in &all {
        table.get(&b, key, BOUND).await;
    }
    assert!(all.iter().all(|key| table.loads(key) == 0), "the L1 answers where Redis cannot");
}
