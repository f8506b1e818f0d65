//! A server that accepts no writes, because its memory or its disk is full. It answers, so this is not an
//! outage: a value that cannot be stored is loaded and returned, under every outage policy.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_cache::testing::until;
use async_cache::{ErrorKind, Event, MemoryBackend, OutagePolicy, RedisBackend, TieredCache};
use futures_util::StreamExt;
use integration_tests::RedisServer;
use integration_tests::fleet::{Cache, Fleet};
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine.
const AT_LAST: Duration = Duration::from_secs(30);

const OUTAGES: [OutagePolicy; 3] = [OutagePolicy::Fail, OutagePolicy::Load, OutagePolicy::ServeL1];

/// The reason why a server accepts no writes.
#[derive(Debug, Clone, Copy)]
enum Full {
    Memory,
    Disk,
}

impl Full {
    async fn fill(self, server: &RedisServer) {
        match self {
            Self::Memory => {
                server.cli::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
                server.cli::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
            }
            Self::Disk => {
                // There is a directory at the path of the snapshot.
                server.cli::<()>(&["CONFIG", "SET", "save", "3600 1000000"]);
                server.cli::<()>(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "yes"]);
                let (_, dir): (String, String) = server.cli(&["CONFIG", "GET", "dir"]);
                std::fs::create_dir_all(format!("{dir}/dump.rdb/inside")).unwrap();
                server.cli::<String>(&["BGSAVE"]);
                let failed = || server.cli::<String>(&["INFO", "persistence"]).contains("bgsave_status:err");
                until("the snapshot has failed", failed).await;
            }
        }
    }
}

async fn pair(fleet: &Fleet, outage: OutagePolicy) -> [Cache; 2] {
    let node = || fleet.node_with(|builder| builder.outage(outage));
    [node().await, node().await]
}

/// There is one load for each key and node. A value in L2 is returned, and a loaded value answers the next
/// lookup.
async fn lookups_go_on(full: Full, outage: OutagePolicy) {
    let fleet = Fleet::on(Arc::new(RedisServer::start()));
    let [node, other] = pair(&fleet, outage).await;
    node.insert("stored", 1).await.unwrap();
    full.fill(fleet.server()).await;
    let mut events = node.subscribe();
    let load = || async { Ok::<_, std::io::Error>(2) };
    let what = format!("{full:?}, {outage:?}");
    for _ in 0..3 {
        assert_eq!(*node.get_or_load("cold", load).await.expect(&what), 2, "{what}");
        assert_eq!(*other.get_or_load("stored", || async { Ok::<_, std::io::Error>(9) }).await.unwrap(), 1);
    }
    assert_eq!(node.stats().loads, 1, "L1 keeps it: {what}");
    for _ in 0..3 {
        let many = node.get_many_or_load(["stored", "x", "y", "z"], move |missing| async move {
            Ok::<_, std::io::Error>(missing.into_iter().map(|key| (key, 3)).collect::<HashMap<_, u64>>())
        });
        assert_eq!(many.await.expect(&what).len(), 4, "{what}");
    }
    assert_eq!(node.stats().loads, 2, "likewise, and one call for all: {what}");
    assert_eq!(node.stats().fills_rejected, 4, "{what}");
    let told = async {
        while !matches!(events.next().await.expect("the cache lives"), Event::FillRejected { .. }) {}
    };
    timeout(AT_LAST, told).await.expect("it is told");

    let refused = node.insert("stored", 4).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Backend, "{refused}");
    let word = match full {
        Full::Memory => "no memory left",
        Full::Disk => "cannot write to its disk",
    };
    let (mut said, mut cause) = (refused.to_string(), refused.source());
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    assert!(said.contains(word), "{said}");
}

/// A refused value is known not to be stored. This holds for one value, for many in one part, and for many in
/// several parts.
#[tokio::test(flavor = "multi_thread")]
async fn an_insert_that_a_full_server_refuses_says_that_it_is_not_stored() {
    let fleet = Fleet::on(Arc::new(RedisServer::start()));
    let [node, other] = pair(&fleet, OutagePolicy::ServeL1).await;
    node.insert("old", 1).await.unwrap();
    assert_eq!(other.get("old").await.unwrap().as_deref(), Some(&1));
    Full::Memory.fill(fleet.server()).await;
    let told = |error: async_cache::Error, words: &[&str]| {
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Backend, "{text}");
        assert!(error.effect_is_known() && !text.contains("unknown"), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        assert!(text.contains("namespace `rows`"), "{text}");
    };
    told(node.insert("old", 2).await.unwrap_err(), &["nothing was changed", "refused"]);
    told(
        node.insert_many([("x".to_owned(), 1), ("y".to_owned(), 2)]).await.unwrap_err(),
        &["0 of 2", "refused"],
    );
    let many: Vec<(String, u64)> = (0..1_500).map(|n| (n.to_string(), n)).collect();
    told(node.insert_many(many).await.unwrap_err(), &["0 of "]);
    // The source has changed already, so the old value is invalidated on every node.
    until("it lands", || node.stats().pending_invalidations == 0).await;
    until("it is heard", || other.stats().invalidations_received > 0).await;
    for cache in [&node, &other] {
        let gone = async {
            while cache.get("old").await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(AT_LAST, gone).await.expect("it is gone");
    }
}

/// If the outcome of any value is unknown, the error says so.
#[tokio::test(flavor = "multi_thread")]
async fn an_insert_without_an_answer_does_not_say_that_it_is_not_stored() {
    let fleet = Fleet::on(Arc::new(RedisServer::start()));
    let node = fleet.node().await;
    fleet.server().pause();
    let error = node.insert("k", 1).await.unwrap_err();
    fleet.server().resume();
    assert!(!error.effect_is_known() && error.to_string().contains("unknown"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_go_on_when_the_memory_is_full() {
    for outage in OUTAGES {
        lookups_go_on(Full::Memory, outage).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_go_on_when_the_disk_is_full() {
    for outage in OUTAGES {
        lookups_go_on(Full::Disk, outage).await;
    }
}

/// Each invalidation succeeds although nothing can be stored, and voids the values that both nodes hold in L1
/// alone. There is one load for each node and version, with and without a stamp.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_invalidated_is_loaded_when_the_memory_is_full() {
    let fleet = Fleet::on(Arc::new(RedisServer::start()));
    let [node, other] = pair(&fleet, OutagePolicy::ServeL1).await;
    node.insert("k", 1).await.unwrap();
    assert_eq!(other.get("k").await.unwrap().as_deref(), Some(&1));
    Full::Memory.fill(fleet.server()).await;
    for version in 2..10 {
        let stamp = node.invalidate("k").await.unwrap();
        assert!(node.get("k").await.unwrap().is_none(), "L2 has nothing: the invalidation went through");
        assert!(other.get("k").at_least(&stamp).await.unwrap().is_none(), "nor does the other node hold it");
        let load = move || async move { Ok::<_, std::io::Error>(version) };
        let never = || async { Err::<u64, _>(std::io::Error::other("L1 holds it")) };
        assert_eq!(*other.get_or_load("k", load).at_least(&stamp).await.unwrap(), version);
        assert_eq!(*node.get_or_load("k", load).await.unwrap(), version);
        for cache in [&node, &other] {
            until("it serves", || cache.is_serving()).await;
            assert_eq!(*cache.get_or_load("k", never).await.unwrap(), version);
        }
        assert_eq!((node.stats().loads, other.stats().loads), (version - 1, version - 1));
    }
    fleet.server().cli::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    let stamp = node.insert("k", 10).await.unwrap();
    assert_eq!(other.get("k").at_least(&stamp).await.unwrap().as_deref(), Some(&10));
}

/// A node that receives no messages holds an entry that is void in L2. L2 answers, so the node is not cut off.
/// The void entry is not returned, although there is no room for a lease.
#[tokio::test(flavor = "multi_thread")]
async fn what_l1_cannot_verify_is_loaded_when_the_memory_is_full() {
    let server = RedisServer::start();
    server.set_user("app", "~* &* +@all");
    let fleet = Fleet::on(Arc::new(server));
    let node = fleet.node().await;
    let backend = RedisBackend::connect(fleet.server().url_as("app")).await.unwrap();
    let deaf: Cache =
        TieredCache::builder().namespace("rows").l1(MemoryBackend::new(1000)).l2(backend).build().unwrap();
    until("it serves", || deaf.is_serving()).await;
    node.insert("k", 1).await.unwrap();
    assert_eq!(deaf.get("k").await.unwrap().as_deref(), Some(&1));
    fleet.server().set_user("app", "resetchannels");
    until("its L1 is suspended", || !deaf.is_serving()).await;
    node.invalidate("k").await.unwrap();
    Full::Memory.fill(fleet.server()).await;
    let load = || async { Ok::<_, std::io::Error>(2) };
    assert_eq!(*deaf.get_or_load("k", load).await.unwrap(), 2);
}
