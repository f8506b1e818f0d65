//! Messages that arrive by way of a replica.

use std::time::{Duration, Instant};

use async_cache::testing::{Source, until};
use async_cache::{MemoryBackend, OutagePolicy, RedisBackend, SubscribeOn, TieredCache};
use integration_tests::fleet::Cache;
use integration_tests::{RedisServer, eventually, eventually_is};

/// The channel of the namespace.
const BUS: &str = "{rows:0}bus";
/// What `max_staleness` is unless set, and what timers add.
const BOUND: Duration = Duration::from_millis(1_050);

/// A master and a replica that has caught up.
async fn servers() -> (RedisServer, RedisServer) {
    let (master, replica) = (RedisServer::start(), RedisServer::start());
    master.cli::<()>(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
    replica.cli::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    eventually("the master knows its replica", || {
        let info: String = master.cli(&["INFO", "replication"]);
        info.lines().any(|line| line.starts_with("slave0") && line.contains("state=online")).then_some(())
    })
    .await;
    eventually("the replica follows", || {
        let info: String = replica.cli(&["INFO", "replication"]);
        info.contains("master_link_status:up").then_some(())
    })
    .await;
    (master, replica)
}

async fn node(master: &RedisServer) -> Cache {
    let builder = RedisBackend::builder().url(master.url()).subscribe_on(SubscribeOn::Replicas);
    let redis = builder.connect().await.unwrap();
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(100)).l2(redis);
    let cache = builder.outage(OutagePolicy::Load).build().unwrap();
    until("the node serves", || cache.is_serving()).await;
    cache
}

async fn read(cache: &Cache, source: &Source) -> u64 {
    let load = source.clone();
    *cache.get_or_load("k", move || load.now()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn invalidations_arrive_by_way_of_the_replica() {
    let (master, replica) = servers().await;
    let (a, b) = (node(&master).await, node(&master).await);
    assert_eq!((master.listeners(BUS), replica.listeners(BUS)), (0, 2));
    let source = Source::new();
    for _ in 0..20 {
        let version = source.version();
        assert_eq!((read(&a, &source).await, read(&b, &source).await), (version, version));
        source.write();
        a.invalidate("k").await.unwrap();
        assert_eq!(read(&a, &source).await, version + 1, "the node's own change is there at once");
        eventually_is("the other node has heard", async || read(&b, &source).await == version + 1).await;
    }
    assert!(a.is_serving() && b.is_serving());
    assert_eq!(b.stats().flushes, 1, "nothing was missed after the start");
}

/// The replica passes nothing on, while the master works, and the connections stay open.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hangs_makes_no_answer_too_old_and_is_left() {
    let (master, replica) = servers().await;
    let (a, b) = (node(&master).await, node(&master).await);
    assert_eq!((master.listeners(BUS), replica.listeners(BUS)), (0, 2));
    let source = Source::new();
    assert_eq!((read(&a, &source).await, read(&b, &source).await), (1, 1));
    replica.pause();
    source.write();
    a.invalidate("k").await.unwrap();
    let invalidated = Instant::now();
    loop {
        let begun = invalidated.elapsed();
        let found = read(&b, &source).await;
        assert!(found == 2 || begun < BOUND, "{found} in a read that began {begun:?} after the change");
        if found == 2 && begun > BOUND {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    eventually("both nodes have subscribed on the master", || (master.listeners(BUS) == 2).then_some(()))
        .await;
    until("both serve again", || a.is_serving() && b.is_serving()).await;
    replica.resume();
    assert_eq!((read(&a, &source).await, read(&b, &source).await), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_replica_the_master_is_subscribed_to() {
    let master = RedisServer::start();
    let node = node(&master).await;
    assert_eq!(master.listeners(BUS), 1);
    node.invalidate("k").await.unwrap();
}
