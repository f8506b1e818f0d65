//! A node whose user lacks rights. The other nodes are not affected.

use std::sync::Arc;

use async_cache::redis_testing::Mutant;
use async_cache::testing::{ms, until};
use async_cache::{
    ErrorKind, Event, EventStream, MemoryBackend, RedisBackend, RedisBackendBuilder, Refused, TieredCache,
};
use futures_util::StreamExt;
use integration_tests::fleet::{Cache, Fleet};
use integration_tests::{RedisServer, eventually_is};

/// A healthy node, and a node that has lost the right to publish and has tried to invalidate a key.
async fn silenced(
    fleet: &Fleet,
    build: impl FnOnce(RedisBackendBuilder) -> RedisBackendBuilder,
) -> (Cache, Cache) {
    let server = fleet.server();
    server.set_user("app", "~* &* +@all");
    let healthy = fleet.node().await;
    let backend = build(RedisBackend::builder().url(server.url_as("app"))).connect().await.unwrap();
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(1000)).l2(backend);
    let silent: Cache = builder.build().unwrap();
    until("it serves", || silent.is_serving()).await;
    healthy.insert("a", 1).await.unwrap();
    assert_eq!(silent.get("a").await.unwrap().as_deref(), Some(&1));
    server.set_user("app", "resetchannels");
    let refused = silent.invalidate("a").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
    (healthy, silent)
}

#[tokio::test(flavor = "multi_thread")]
async fn healthy_nodes_verify_nothing_for_a_node_that_may_not_publish() {
    let fleet = Fleet::on(Arc::new(RedisServer::start()));
    let (healthy, silent) = silenced(&fleet, |builder| builder).await;
    let (flushes, hits) = (healthy.stats().flushes, healthy.stats().l1_hits);
    // Waits for several retries of the invalidation, and for heartbeats of the healthy node.
    until("retries", || silent.stats().l2_errors >= 6).await;
    tokio::time::sleep(ms(1500)).await;
    assert_eq!(healthy.get("a").await.unwrap().as_deref(), Some(&1), "nothing was invalidated");
    assert_eq!(healthy.stats().flushes, flushes);
    assert_eq!(healthy.stats().l1_hits, hits + 1);
    assert_eq!(silent.stats().pending_invalidations, 1);
    silent.get("a").await.expect_err("L2 cannot answer for what it was not let invalidate");

    fleet.server().set_user("app", "allchannels");
    until("the invalidation lands", || silent.stats().pending_invalidations == 0).await;
    eventually_is("the old value is gone", async || healthy.get("a").await.unwrap().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proof_objects_to_a_number_that_nobody_was_told() {
    let fleet = Fleet::on(Arc::new(RedisServer::start()));
    let (healthy, _silent) =
        silenced(&fleet, |builder| builder.mutant(Mutant::RefusedChangeKeepsNumber)).await;
    let flushes = healthy.stats().flushes;
    until("the healthy node has to verify what it holds", || healthy.stats().flushes > flushes).await;
}

/// A right that only changes need. Heartbeats go on, so the node serves.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_change_is_told_once_until_it_lands() {
    let fleet = Fleet::on(Arc::new(RedisServer::start()));
    let server = fleet.server();
    server.set_user("app", "~* &* +@all");
    let healthy = fleet.node().await;
    let backend = RedisBackend::connect(server.url_as("app")).await.unwrap();
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(1000));
    let node: Cache = builder.l2(backend).build().unwrap();
    node.ready().await.unwrap();
    for key in ["a", "b"] {
        healthy.insert(key, 1).await.unwrap();
    }
    let mut events = node.subscribe();
    server.set_user("app", "-hset");
    let refused = node.invalidate("a").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
    assert!(refused.to_string().contains("docs/operations.md lists"), "the remedy: {refused}");
    until("it is told", || node.stats().l2_refused).await;
    let told = l2_refused(&mut events).await;
    assert_eq!(told, Event::L2Refused { what: Refused::Changes });
    let failed = node.stats().l2_errors;
    until("it is tried again and again", || node.stats().l2_errors >= failed + 3).await;
    assert!(node.stats().l2_refused);
    node.ready().await.unwrap();

    server.set_user("app", "+hset");
    until("the invalidation lands", || node.stats().pending_invalidations == 0).await;
    until("the refusal ends", || !node.stats().l2_refused).await;
    eventually_is("the old value is gone", async || healthy.get("a").await.unwrap().is_none()).await;

    // The event of the next refusal is the second one: retries sent none.
    server.set_user("app", "-hset");
    node.invalidate("b").await.unwrap_err();
    until("it is told", || node.stats().l2_refused).await;
    node.shutdown().await;
    drop(node);
    let again = events.filter(|event| std::future::ready(matches!(event, Event::L2Refused { .. })));
    assert_eq!(again.count().await, 1);
}

/// The next event about a refusal.
async fn l2_refused(events: &mut EventStream) -> Event {
    loop {
        let event = events.next().await.unwrap();
        if matches!(event, Event::L2Refused { .. }) {
            return event;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_may_not_subscribe_any_more_says_so_and_serves_again_once_it_may() {
    let fleet = Fleet::on(Arc::new(RedisServer::start()));
    let server = fleet.server();
    server.set_user("app", "~* &* +@all");
    let backend = RedisBackend::connect(server.url_as("app")).await.unwrap();
    let builder = TieredCache::<String, u64>::builder().namespace("rows").l1(MemoryBackend::new(1000));
    let node = builder.l2(backend).build().unwrap();
    node.ready().await.unwrap();
    let mut events = node.subscribe();
    // The server closes the connection of a subscriber that loses its right. Redis 6.2.5 does not. There the next
    // heartbeat is refused, and L1 answers until the serving lease ends.
    server.set_user("app", "resetchannels");
    until("it is told", || node.stats().l2_refused).await;
    while events.next().await.unwrap() != (Event::L2Refused { what: Refused::Serving }) {}
    until("L1 has stopped", || !node.is_serving()).await;
    let refused = node.ready().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
    assert!(refused.to_string().contains("channels"), "{refused}");
    let loaded = node.get_or_load("a", || async { Ok::<_, std::io::Error>(7) }).await.unwrap();
    assert_eq!(*loaded, 7, "its lookups are answered");
    server.set_user("app", "allchannels");
    until("it serves again", || node.is_serving() && !node.stats().l2_refused).await;
    node.ready().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_may_not_subscribe_does_not_connect_again_and_again() {
    let fleet = Fleet::on(Arc::new(RedisServer::start()));
    let server = fleet.server();
    server.set_user("app", "~* &* +@all");
    let node = {
        let backend = RedisBackend::connect(server.url_as("app")).await.unwrap();
        let builder = TieredCache::<String, u64>::builder().namespace("rows").l1(MemoryBackend::new(1000));
        builder.l2(backend).build().unwrap()
    };
    node.ready().await.unwrap();
    server.set_user("app", "-subscribe");
    server.cli::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    until("it is told", || node.stats().l2_refused).await;
    let connections = || {
        let info: String = server.cli(&["INFO", "stats"]);
        let line = info.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    let before = connections();
    tokio::time::sleep(ms(3000)).await;
    // Each count opens a connection of the test.
    assert!(connections() - before <= 4, "{} connections in three seconds", connections() - before);
    let refused = node.ready().await.unwrap_err();
    assert!(refused.to_string().contains("+subscribe"), "{refused}");
}
