//! Failovers by real Sentinels, under load.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_cache::testing::until;
use async_cache::{IdentifyBy, MemoryBackend, RedisBackend, TieredCache};
use integration_tests::fleet::Cache;
use integration_tests::sentinels::MASTER;
use integration_tests::{Data, RedisServer, Sentinels, eventually, eventually_is};
use parking_lot::Mutex;

const KEYS: usize = 8;
/// The channel of the namespace.
const BUS: &str = "{rows:0}bus";

/// A table of versions, and what its writers know.
#[derive(Default)]
struct Table {
    rows: [AtomicU64; KEYS],
    /// For each row the highest version whose invalidation was acknowledged.
    acknowledged: Mutex<HashMap<usize, u64>>,
    end: AtomicBool,
    lookups: AtomicU64,
}

impl Table {
    fn acknowledged(&self, row: usize) -> u64 {
        self.acknowledged.lock().get(&row).copied().unwrap_or(0)
    }
}

async fn node(sentinels: &Sentinels) -> Cache {
    node_by(sentinels, IdentifyBy::Info).await
}

async fn node_by(sentinels: &Sentinels, identify: IdentifyBy) -> Cache {
    let builder = RedisBackend::builder().sentinel(MASTER, sentinels.urls());
    let redis = builder.identify_server_by(identify).connect().await.unwrap();
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(1000)).l2(redis);
    let cache = builder.build().unwrap();
    until("the node serves", || cache.is_serving()).await;
    cache
}

async fn load(cache: &Cache, table: &Arc<Table>, row: usize) -> u64 {
    let source = Arc::clone(table);
    let load = move || async move { Ok::<_, Infallible>(source.rows[row].load(Ordering::SeqCst)) };
    let value = cache.get_or_load(&row.to_string(), load).await;
    table.lookups.fetch_add(1, Ordering::Relaxed);
    *value.expect("a failover is no error for callers")
}

/// Looks rows up until the end.
async fn read(cache: Cache, table: Arc<Table>) {
    while !table.end.load(Ordering::Relaxed) {
        for row in 0..KEYS {
            load(&cache, &table, row).await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Writes rows and invalidates them until the end. What was acknowledged is visible here at once.
async fn write(cache: Cache, table: Arc<Table>, rows: std::ops::Range<usize>) {
    while !table.end.load(Ordering::Relaxed) {
        for row in rows.clone() {
            let version = table.rows[row].fetch_add(1, Ordering::SeqCst) + 1;
            if cache.invalidate(&row.to_string()).await.is_ok() {
                table.acknowledged.lock().insert(row, version);
            }
            let found = load(&cache, &table, row).await;
            assert!(found >= version, "row {row}: {found} after the invalidation of {version} on this node");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs two nodes under load through a failover, and checks every row on both afterwards.
async fn survives(
    sentinels: &Sentinels,
    identify: IdentifyBy,
    new: &RedisServer,
    failover: impl FnOnce(),
) -> [Cache; 2] {
    let nodes = [node_by(sentinels, identify).await, node_by(sentinels, identify).await];
    let table = Arc::new(Table::default());
    let mut tasks = Vec::new();
    for (place, cache) in nodes.iter().enumerate() {
        let half = place * KEYS / 2..(place + 1) * KEYS / 2;
        tasks.push(tokio::spawn(read(cache.clone(), Arc::clone(&table))));
        tasks.push(tokio::spawn(write(cache.clone(), Arc::clone(&table), half)));
    }
    let acknowledged = || (0..KEYS).map(|row| table.acknowledged(row)).min();
    until("the load runs", || acknowledged() > Some(2)).await;
    failover();
    tokio::task::block_in_place(|| sentinels.wait_for_master(new));
    wait_for("both nodes have subscribed at the new master", || new.listeners(BUS) == 2).await;
    let before = acknowledged();
    wait_for("invalidations are acknowledged again", || acknowledged() > before).await;
    table.end.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    for cache in &nodes {
        wait_for("the node serves again and nothing is pending", || {
            cache.is_serving() && cache.stats().pending_invalidations == 0
        })
        .await;
    }
    // The last messages may be under way: a node serves older values for `max_staleness` at most. A change that it has
    // not heard of would be hidden for the life of the value.
    for row in 0..KEYS {
        for cache in &nodes {
            let is_new = async || load(cache, &table, row).await >= table.acknowledged(row);
            eventually_is(&format!("row {row}: the last change"), is_new).await;
        }
    }
    assert!(table.lookups.load(Ordering::Relaxed) > 100);
    nodes
}

/// A failover takes longer than other conditions.
async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_killed_under_load_is_replaced_and_comes_back_as_a_replica() {
    let sentinels = Sentinels::start();
    let [old, new] = &sentinels.servers;
    let nodes = survives(&sentinels, IdentifyBy::Info, new, || old.kill()).await;

    // For a moment it is a master again, until a Sentinel demotes it. Connections that are made now go to the new one.
    old.restart(Data::Drop);
    new.cli::<()>(&["CLIENT", "KILL", "TYPE", "normal"]);
    new.cli::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    wait_for("both nodes have subscribed again", || new.listeners(BUS) == 2).await;
    wait_for("the old master is a replica", || old.role() == "slave").await;
    assert_eq!(old.listeners(BUS), 0);
    for cache in &nodes {
        wait_for("the node serves", || cache.is_serving()).await;
    }
    nodes[0].insert("new", 7).await.unwrap();
    assert_eq!(nodes[1].get("new").await.unwrap().as_deref(), Some(&7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_on_command_is_followed_under_load() {
    let sentinels = Sentinels::start();
    let [old, new] = &sentinels.servers;
    survives(&sentinels, IdentifyBy::Info, new, || {
        // A Sentinel refuses until it has heard from the replica.
        let ask = || {
            let mut connection = sentinels.members[0].connection().unwrap();
            redis::cmd("SENTINEL").arg("FAILOVER").arg(MASTER).query::<()>(&mut connection)
        };
        while ask().is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
    })
    .await;
    eventually("the old master has no subscriber", || (old.listeners(BUS) == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_noticed_by_the_scripts_alone() {
    let sentinels = Sentinels::start();
    let [old, new] = &sentinels.servers;
    survives(&sentinels, IdentifyBy::Scripts, new, || old.kill()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_go_on_while_all_sentinels_are_away() {
    let sentinels = Sentinels::start();
    let [master, _] = &sentinels.servers;
    let (cache, table) = (node(&sentinels).await, Arc::new(Table::default()));
    for member in &sentinels.members {
        member.kill();
    }
    let loaded = load(&cache, &table, 0).await;
    cache.invalidate("0").await.unwrap();
    // No connection can be made again: this is an outage, in which loads go on.
    master.cli::<()>(&["CLIENT", "KILL", "TYPE", "normal"]);
    master.cli::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    wait_for("the connections are lost", || !cache.is_serving()).await;
    assert_eq!(load(&cache, &table, 0).await, loaded);
    assert_eq!(load(&cache, &table, 1).await, 0);
    for member in &sentinels.members {
        member.restart(Data::Keep);
    }
    wait_for("the node serves again", || cache.is_serving()).await;
    cache.invalidate("0").await.unwrap();
}
