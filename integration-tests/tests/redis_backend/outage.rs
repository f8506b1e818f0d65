//! The breaker, and the return of the server.

use std::time::{Duration, Instant};

use async_cache_core::ErrorKind;
use async_cache_core::backend::{Acquired, Check, NodeId, RegionSpec};
use async_cache_redis::RedisBackend;
use integration_tests::listen::PATIENCE;
use integration_tests::{Conditions, Data, Flow, Proxy, Recorder, RedisServer, Route, eventually};

use crate::rig::{Node, RECORD, TTL, key, open};

/// A node with a short deadline, so that the test can wait for it.
async fn node(server: &RedisServer) -> Node {
    let builder = RedisBackend::builder().url(server.url()).command_timeout(Duration::from_millis(100));
    Node::of(builder.connect().await.unwrap()).await
}

async fn fails_fast(node: &Node) {
    let asked = Instant::now();
    let error = node.region.invalidate(&[key("k")]).await.unwrap_err();
    assert!(asked.elapsed() < Duration::from_millis(50), "{:?}", asked.elapsed());
    assert_eq!(error.kind(), ErrorKind::Backend);
    assert!(error.is_temporary());
    assert!(error.to_string().contains("unreachable for"), "{error}");
    assert!(!error.to_string().contains("µs"), "{error}");
    assert!(std::error::Error::source(&error).is_some(), "the last cause: {error:?}");
}

/// Waits until commands succeed again.
pub(crate) async fn restored(node: &Node) {
    let start = Instant::now();
    while node.region.read_one(&key("probe"), Check::Plain).await.is_err() {
        assert!(start.elapsed() < PATIENCE, "not restored");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_noticed_and_found_again() {
    let server = RedisServer::start();
    let node = node(&server).await;
    node.store(&key("k"), b"v").await;
    server.kill();
    // No command is sent. The loss is still noticed.
    eventually("the breaker opens", || (!node.region.info().available).then_some(())).await;
    fails_fast(&node).await;
    server.restart(Data::Drop);
    eventually("the breaker closes", || node.region.info().available.then_some(())).await;
    // Both connections work, because they are used in turn.
    eventually("all are back", || (server.clients() >= 3).then_some(())).await;
    for _ in 0..4 {
        assert_eq!(node.read(&key("k")).await, None);
    }
    node.store(&key("k"), b"v").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_opens_the_breaker() {
    let server = RedisServer::start();
    let node = node(&server).await;
    let (_, value) = node.store(&key("k"), b"v").await;
    server.pause();
    let first = Instant::now();
    let error = node.region.read_one(&key("k"), Check::Plain).await.unwrap_err();
    let waited = first.elapsed();
    assert!(waited >= Duration::from_millis(100) && waited < Duration::from_millis(300), "{waited:?}");
    assert!(error.to_string().contains("did not answer within 100ms"), "{error}");
    let start = Instant::now();
    while node.region.info().available {
        assert!(start.elapsed() < PATIENCE);
        let _ = node.region.read_one(&key("k"), Check::Plain).await;
    }
    fails_fast(&node).await;
    fails_fast(&node).await;
    server.resume();
    restored(&node).await;
    assert_eq!(node.read(&key("k")).await, Some(value), "the same memory: nothing is void");
    assert!(matches!(node.acquire(&key("k")).await, Acquired::Value(_)));
}

/// The identities of the command connections, without the test's own.
fn clients(server: &RedisServer) -> Vec<String> {
    let list: String = server.cli(&["CLIENT", "LIST", "TYPE", "normal"]);
    let others = list.lines().filter(|line| !line.contains(" cmd=client"));
    others.filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_answer_opens_nothing() {
    let server = RedisServer::start();
    let node = node(&server).await;
    let first = eventually("both connections", || Some(clients(&server)).filter(|ids| ids.len() == 2)).await;
    for _ in 0..4 {
        server.pause();
        node.region.read_one(&key("k"), Check::Plain).await.unwrap_err();
        server.resume();
        restored(&node).await;
        // One success on each connection, because only failures in a row count.
        for _ in 0..2 {
            restored(&node).await;
        }
        assert!(node.region.info().available);
    }
    assert_eq!(clients(&server), first, "the connections are still the first ones");
}

/// The number of probes does not depend on the number of connections and calls. Afterwards all connections come
/// back.
#[tokio::test(flavor = "multi_thread")]
async fn one_probe_at_a_time_tests_a_server_that_is_away() {
    const CONNECTIONS: usize = 16;
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let builder = RedisBackend::builder().url(server.url_at(proxy.port())).connections(CONNECTIONS);
    let backend = builder.connect().await.unwrap();
    eventually("all are there", || (server.clients() == CONNECTIONS).then_some(())).await;
    let region = open(&backend, RegionSpec::new("ns", NodeId::random(), RECORD), &Recorder::new()).unwrap();
    eventually("and the subscriber", || (server.subscribers() == 1).then_some(())).await;
    // The subscriber keeps its connection, so only command connections are counted.
    let before = proxy.asked();
    proxy.set(Route::Commands, Conditions { flow: Flow::Refused, ..Conditions::default() });
    proxy.cut(Route::Commands);
    let away = Instant::now();
    while away.elapsed() < Duration::from_secs(2) {
        let _ = region.read_one(&key("k"), Check::Plain).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(!region.info().available);
    // The shortest possible pauses are 10, 20, 40, 80 and 160 ms, then 200 ms.
    let probes = proxy.asked() - before;
    assert!((2..=14).contains(&probes), "{probes} probes");
    proxy.clear();
    eventually("all are back", || (server.clients() == CONNECTIONS + 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_connections_are_replaced() {
    let server = RedisServer::start();
    let node = node(&server).await;
    for _ in 0..3 {
        server.cli::<i64>(&["CLIENT", "KILL", "TYPE", "normal"]);
        let start = Instant::now();
        restored(&node).await;
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acquire_nobody_waits_for_leaves_no_lease() {
    let server = RedisServer::start();
    let node = node(&server).await;
    let k = key("k");
    for given_up in ["timed out", "cancelled"] {
        server.pause();
        let acquire = node.region.acquire_one(&k, node.ask());
        if given_up == "cancelled" {
            let cut = tokio::time::timeout(Duration::from_millis(30), acquire).await;
            assert!(cut.is_err());
        } else {
            acquire.await.unwrap_err();
        }
        server.resume();
        restored(&node).await;
        let start = Instant::now();
        loop {
            match node.acquire(&k).await {
                Acquired::Granted(lease) => break node.region.release_one(&k, lease).await.unwrap(),
                _ => assert!(start.elapsed() < TTL / 2, "{given_up}: the lease of nobody blocks the key"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_server_is_left() {
    let server = RedisServer::start();
    let node = node(&server).await;
    server.cli::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    // A replica refuses writes. It is not the server that the node needs.
    let start = Instant::now();
    while node.region.info().available {
        assert!(start.elapsed() < PATIENCE);
        let _ = node.region.invalidate(&[key("k")]).await;
    }
    fails_fast(&node).await;
    server.cli::<()>(&["REPLICAOF", "NO", "ONE"]);
    restored(&node).await;
    node.region.invalidate(&[key("k")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_lives_through_it_and_nothing_is_left() {
    let server = RedisServer::start();
    let node = node(&server).await;
    server.kill();
    eventually("the breaker opens", || (!node.region.info().available).then_some(())).await;
    // The node is dropped while its connections are being restored.
    drop(node);
    let metrics = tokio::runtime::Handle::current().metrics();
    eventually("no task is left", || (metrics.num_alive_tasks() == 0).then_some(())).await;
    server.restart(Data::Drop);
    eventually("no connection is left", || (server.clients() == 0).then_some(())).await;
    // A new node starts without any effect of the outage.
    let again = Node::on(&server).await;
    again.store(&key("k"), RECORD.as_bytes()).await;
}
