//! A node that Redis refuses when it connects again. It was permitted before.

use std::time::Duration;

use async_cache::testing::{ms, until};
use async_cache::{Error, ErrorKind, Event, MemoryBackend, OutagePolicy, RedisBackend, Refused, TieredCache};
use futures_util::StreamExt;
use integration_tests::fleet::Cache;
use integration_tests::{RedisServer, eventually, eventually_is};

/// A change of the user `app`, the change back, and what the errors say meanwhile.
struct Revocation {
    revoke: &'static str,
    restore: &'static str,
    remedy: &'static str,
}

const REVOCATIONS: [Revocation; 3] = [
    Revocation { revoke: "-evalsha", restore: "+evalsha", remedy: "`+evalsha`" },
    Revocation { revoke: "resetpass >other", restore: "resetpass >secret", remedy: "password" },
    Revocation { revoke: "off", restore: "on", remedy: "password" },
];

#[derive(Clone, Copy, Debug)]
enum Connected {
    Eagerly,
    Lazily,
}

fn set(server: &RedisServer, change: &str) {
    let words: Vec<&str> = ["ACL", "SETUSER", "app"].into_iter().chain(change.split(' ')).collect();
    server.cli::<()>(&words);
}

fn build(backend: RedisBackend, outage: OutagePolicy) -> Cache {
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(1000));
    builder.l2(backend).outage(outage).build().unwrap()
}

/// A node of the user `app` that has served.
async fn node(server: &RedisServer, connected: Connected, outage: OutagePolicy) -> Cache {
    let url = server.url_as("app");
    let backend = match connected {
        Connected::Eagerly => RedisBackend::connect(url).await,
        Connected::Lazily => RedisBackend::connect_lazy(url).await,
    };
    let cache = build(backend.unwrap(), outage);
    cache.ready().await.unwrap();
    cache
}

/// Changes the user, and closes its connections.
fn revoke(server: &RedisServer, change: &str) {
    set(server, change);
    server.cli::<()>(&["CLIENT", "KILL", "USER", "app"]);
}

fn refused(error: &Error, remedy: &str) {
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(error.to_string().contains(remedy), "{error:?}");
}

async fn reports_the_refusal_and_recovers(connected: Connected, case: &Revocation) {
    let server = RedisServer::start();
    server.set_user("app", "~* &* +@all");
    let healthy = build(RedisBackend::connect(server.url()).await.unwrap(), OutagePolicy::ServeL1);
    let node = node(&server, connected, OutagePolicy::ServeL1).await;
    healthy.insert("k", 1).await.unwrap();
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1));
    let mut events = node.subscribe();

    revoke(&server, case.revoke);
    until("the refusal is counted", || node.stats().l2_refused).await;
    while events.next().await.unwrap() != (Event::L2Refused { what: Refused::Serving }) {}
    until("L1 has stopped", || !node.is_serving()).await;
    let ready = tokio::time::timeout(Duration::from_secs(30), node.ready()).await;
    refused(&ready.expect("it does not wait").unwrap_err(), case.remedy);
    refused(&eventually_refused(&node).await, case.remedy);
    refused(&node.invalidate("k").await.unwrap_err(), case.remedy);
    assert_eq!(node.stats().pending_invalidations, 1);
    assert_eq!(healthy.get("k").await.unwrap().as_deref(), Some(&1), "nothing has changed in Redis");
    let loaded = node.get_or_load("k", || async { Ok::<_, std::io::Error>(2) }).await.unwrap();
    assert_eq!(*loaded, 2, "lookups are answered");

    set(&server, case.restore);
    eventually("the invalidation lands", || (node.stats().pending_invalidations == 0).then_some(())).await;
    eventually_is("the old value is gone", async || healthy.get("k").await.unwrap().is_none()).await;
    eventually("it serves again", || (node.is_serving() && !node.stats().l2_refused).then_some(())).await;
    node.ready().await.unwrap();
    node.insert("k", 3).await.unwrap();
}

/// The error of a lookup that needs L2, once a command connection has been refused.
async fn eventually_refused(node: &Cache) -> Error {
    loop {
        let error = node.get("absent").await.unwrap_err();
        if error.kind() == ErrorKind::Config {
            return error;
        }
        tokio::time::sleep(ms(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_when_connecting_again_is_reported_and_ends_by_itself() {
    for case in &REVOCATIONS {
        reports_the_refusal_and_recovers(Connected::Eagerly, case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lazy_backend_reports_a_refusal_when_connecting_again() {
    for case in &REVOCATIONS {
        reports_the_refusal_and_recovers(Connected::Lazily, case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_refuses_this_node_the_outage_policy_decides() {
    let server = RedisServer::start();
    server.set_user("app", "~* &* +@all");
    for outage in [OutagePolicy::ServeL1, OutagePolicy::Load, OutagePolicy::Fail] {
        let node = node(&server, Connected::Eagerly, outage).await;
        node.insert("k", 1).await.unwrap();
        revoke(&server, "off");
        until("the refusal is counted", || node.stats().l2_refused).await;
        until("L1 has stopped", || !node.is_serving()).await;
        eventually_refused(&node).await;
        let found = node.get_or_load("k", || async { Ok::<_, std::io::Error>(2) }).await;
        match outage {
            OutagePolicy::ServeL1 => assert_eq!(*found.unwrap(), 1),
            OutagePolicy::Load => assert_eq!(*found.unwrap(), 2),
            _ => refused(&found.unwrap_err(), "password"),
        }
        set(&server, "on");
        eventually("it serves again", || node.is_serving().then_some(())).await;
        node.shutdown().await;
    }
}

/// A failover may lead a node to the old master, which is a replica by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_at_an_address_that_was_right_is_an_outage() {
    let server = RedisServer::start();
    server.set_user("app", "~* &* +@all");
    let node = node(&server, Connected::Eagerly, OutagePolicy::ServeL1).await;
    server.cli::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    revoke(&server, "on");
    let told = async {
        loop {
            let error = node.get("absent").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Backend, "{error:?}");
            if format!("{error:?}").contains("replica") {
                break;
            }
            tokio::time::sleep(ms(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.expect("the cause is told");
    assert!(!node.stats().l2_refused);
    server.cli::<()>(&["REPLICAOF", "NO", "ONE"]);
    node.ready().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_refused_does_not_connect_again_and_again() {
    let server = RedisServer::start();
    server.set_user("app", "~* &* +@all");
    let node = node(&server, Connected::Eagerly, OutagePolicy::ServeL1).await;
    revoke(&server, "off");
    until("the refusal is counted", || node.stats().l2_refused).await;
    let attempts = || {
        let info: String = server.cli(&["INFO", "stats"]);
        let line = info.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    tokio::time::sleep(ms(4000)).await;
    let before = attempts();
    tokio::time::sleep(ms(4000)).await;
    let more = attempts() - before;
    // In an outage there are about twenty. The count itself opens a connection.
    assert!(more <= 12, "{more} connections in four seconds");
}
