//! The data behind the connection is replaced.

use async_cache_core::backend::{Acquired, Announce, Check, Fill, Filled, Lease, Renewed};
use bytes::Bytes;
use integration_tests::{Data, RedisServer};

use crate::rig::{LIFE, Node, TTL, frame, key};

/// The state, a value and a lease of a node before the replacement.
struct Before {
    seq: u64,
    lease: Lease,
    value: Bytes,
}

async fn before(node: &Node) -> Before {
    let (_, value) = node.store(&key("value"), b"old").await;
    let lease = node.lease(&key("lease")).await;
    Before { seq: node.region.state(0).await.unwrap().seq, lease, value }
}

/// Checks that everything from before is void.
async fn fenced(node: &Node, before: &Before) {
    // The fill comes first, because the epoch must move without another operation.
    let (k, lease) = (key("lease"), before.lease);
    let filled = node
        .region
        .fill_one(Fill {
            key: k.clone(),
            lease,
            frame: frame(lease.token, b"old"),
            life: LIFE,
            announce: Announce::No,
        })
        .await
        .unwrap();
    assert_eq!(filled, Filled::Refused);
    assert_eq!(node.region.renew_one(&k, lease, TTL).await.unwrap(), Renewed::Lost);
    let state = node.region.state(0).await.unwrap();
    assert!(state.seq > before.seq, "{} then {}", before.seq, state.seq);
    assert!(state.floor > before.seq);
    assert!(matches!(node.acquire(&key("value")).await, Acquired::Granted(_)), "the old value is void");
    node.lease(&k).await;
    // It stays so, because a replacement moves the epoch only once.
    assert_eq!(node.region.state(0).await.unwrap().floor, state.floor);
}

/// Waits until commands succeed again.
async fn restored(node: &Node) {
    let start = std::time::Instant::now();
    while node.region.read_one(&key("probe"), Check::Plain).await.is_err() {
        assert!(start.elapsed() < integration_tests::listen::PATIENCE, "not restored");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flushall() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let before = before(&node).await;
    server.cli::<()>(&["FLUSHALL"]);
    // Another client restores a value from before, with a valid seal.
    server.cli_raw::<()>(&[b"SET", b"{ns:0}V:value", &before.value]);
    fenced(&node, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_meta_key_is_evicted() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let before = before(&node).await;
    server.cli::<i64>(&["DEL", "{ns:0}M"]);
    fenced(&node, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_from_a_snapshot() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let run = node.region.state(0).await.unwrap().run;
    let before = before(&node).await;
    server.snapshot();
    // The snapshot does not contain these changes.
    node.region.invalidate(&[key("value")]).await.unwrap();
    let newer = node.region.state(0).await.unwrap().seq;
    server.restart(Data::Keep);
    assert!(server.cli::<bool>(&["EXISTS", "{ns:0}V:value"]), "the deleted value is back");
    restored(&node).await;
    fenced(&node, &Before { seq: newer, ..before }).await;
    assert_ne!(node.region.state(0).await.unwrap().run, run);
    assert_ne!(node.region.read_one(&key("value"), Check::Plain).await.unwrap().run, run);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_restart() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let before = before(&node).await;
    server.restart(Data::Drop);
    restored(&node).await;
    fenced(&node, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_does_not_lower_the_sequence() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let ahead = node.region.state(0).await.unwrap().seq + 10_000_000_000_000;
    server.cli::<i64>(&["HSET", "{ns:0}M", "s", &ahead.to_string(), "r", "another run"]);
    assert_eq!(node.region.state(0).await.unwrap().seq, ahead + (1 << 17));
}
