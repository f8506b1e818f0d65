//! Older data in the same server process: a master was demoted, followed its former replica, and was promoted
//! again.

use std::sync::Arc;
use std::time::Duration;

use async_cache::testing::{Source, until};
use async_cache::{MemoryBackend, Stamp};
use integration_tests::fleet::{Cache, Fleet};
use integration_tests::{RedisServer, eventually};

/// So long that no heartbeat reports the change.
const LONG: Duration = Duration::from_secs(600);

/// A shared tier whose data can be replaced by older data.
enum Tier {
    Memory(MemoryBackend),
    Redis { master: Arc<RedisServer>, replica: RedisServer },
}

impl Tier {
    fn redis() -> Self {
        let (master, replica) = (Arc::new(RedisServer::start()), RedisServer::start());
        for server in [&*master, &replica] {
            server.cli::<()>(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
        }
        Self::Redis { master, replica }
    }

    fn fleet(&self) -> Fleet {
        match self {
            Self::Memory(memory) => Fleet::Memory(memory.clone()),
            Self::Redis { master, .. } => Fleet::on(Arc::clone(master)),
        }
    }

    /// Makes `change`, and then restores the data from before it.
    async fn undo<T>(&self, change: impl AsyncFnOnce() -> T) -> T {
        match self {
            Self::Memory(memory) => {
                let before = memory.snapshot();
                let made = change().await;
                memory.revert(&before);
                made
            }
            Self::Redis { master, replica } => {
                follow(replica, master).await;
                replica.cli::<()>(&["REPLICAOF", "NO", "ONE"]);
                let made = change().await;
                follow(master, replica).await;
                master.cli::<()>(&["REPLICAOF", "NO", "ONE"]);
                made
            }
        }
    }
}

/// Makes a server a replica, and waits until it has the data of its master.
async fn follow(server: &RedisServer, master: &RedisServer) {
    server.cli::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    let offset = |info: &str, name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
    };
    eventually("the replica has caught up", || {
        let (theirs, ours): (String, String) =
            (master.cli(&["INFO", "replication"]), server.cli(&["INFO", "replication"]));
        let reached = offset(&ours, "slave_repl_offset:")? >= offset(&theirs, "master_repl_offset:")?;
        (ours.contains("master_link_status:up") && reached).then_some(())
    })
    .await;
}

/// Loads a row and invalidates it. Then the tier loses the invalidation.
async fn forgotten(tier: &Tier, node: &Cache, source: &Source) -> Stamp {
    let load = source.clone();
    assert_eq!(*node.get_or_load("k", move || load.now()).await.unwrap(), 1);
    let stamp = tier
        .undo(async || {
            source.write();
            node.invalidate("k").await.unwrap()
        })
        .await;
    // The connections may have been lost with the change of the role.
    let reachable = async || node.contains("other").await.is_ok();
    while !reachable().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stamp
}

async fn a_stamp_is_held_against_the_memory(tier: Tier) {
    let (fleet, source) = (tier.fleet(), Source::new());
    let node = fleet.node_with(|builder| builder.max_staleness(LONG)).await;
    let stamp = forgotten(&tier, &node, &source).await;
    let read = node.get("k").at_least(&stamp).await.unwrap();
    assert_eq!(read, None, "an answer from before the stamp");
    // A reader without a stamp learns it long before the next heartbeat.
    eventually_true("the old value is void", async || matches!(node.get("k").await, Ok(None))).await;
    let load = source.clone();
    assert_eq!(*node.get_or_load("k", move || load.now()).await.unwrap(), 2);
    assert_eq!(node.get("k").at_least(&stamp).await.unwrap().as_deref(), Some(&2));
}

async fn a_node_that_knows_only_the_stamp(tier: Tier) {
    let (fleet, source) = (tier.fleet(), Source::new());
    let node = fleet.node_with(|builder| builder.max_staleness(LONG)).await;
    let stamp = forgotten(&tier, &node, &source).await.to_string().parse().unwrap();
    drop(node);
    let other = fleet.node_with(|builder| builder.max_staleness(LONG)).await;
    // This node cannot know it, and keeps the old value in its L1.
    assert_eq!(other.get("k").await.unwrap().as_deref(), Some(&1));
    assert_eq!(other.get("k").at_least(&stamp).await.unwrap(), None, "an answer from before the stamp");
    assert_eq!(other.get_many(["k"]).at_least(&stamp).await.unwrap(), [None]);
}

async fn a_plain_read_does_not_vouch_for_a_stamp(tier: Tier) {
    let (fleet, source) = (tier.fleet(), Source::new());
    let node = fleet.node_with(|builder| builder.max_staleness(LONG)).await;
    let stamp = forgotten(&tier, &node, &source).await;
    // The value may be old, because no heartbeat has been sent since. L1 keeps it.
    drop(node.get("k").await.unwrap());
    drop(node.get_many(["k"]).await.unwrap());
    assert_eq!(node.get("k").at_least(&stamp).await.unwrap(), None, "an answer from before the stamp");
}

async fn heartbeats_find_it_out(tier: Tier) {
    let (fleet, source) = (tier.fleet(), Source::new());
    let (node, other) = (fleet.node().await, fleet.node().await);
    let load = source.clone();
    assert_eq!(*other.get_or_load("k", move || load.now()).await.unwrap(), 1);
    forgotten(&tier, &node, &source).await;
    for node in [&node, &other] {
        // While the node connects to the new master, its reads fail.
        let is_gone = async || matches!(node.get("k").await, Ok(None));
        eventually_true("the old value is void", is_gone).await;
        until("the node serves again", || node.is_serving()).await;
    }
}

async fn eventually_true(what: &str, condition: impl AsyncFn() -> bool) {
    for _ in 0..3000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $name() {
                super::$name(super::Tier::Memory(async_cache::MemoryBackend::new(1000))).await;
            })*
        }
        mod redis {
            $(#[tokio::test] async fn $name() { super::$name(super::Tier::redis()).await; })*
        }
    };
}

on_both!(
    a_stamp_is_held_against_the_memory,
    a_node_that_knows_only_the_stamp,
    a_plain_read_does_not_vouch_for_a_stamp,
    heartbeats_find_it_out,
);

/// The new master cannot be reached, so the old one never follows it and keeps its data.
#[tokio::test]
async fn readers_of_a_demoted_master_stop_serving() {
    let server = Arc::new(RedisServer::start());
    let node = Fleet::on(Arc::clone(&server)).node().await;
    node.get_or_load("k", || async { Ok::<_, async_cache::Error>(1) }).await.unwrap();
    server.cli::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    until("L1 has stopped", || !node.is_serving()).await;
    server.cli::<()>(&["REPLICAOF", "NO", "ONE"]);
    until("the node serves again", || node.is_serving()).await;
}
