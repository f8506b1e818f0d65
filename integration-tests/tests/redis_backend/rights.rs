//! Users who may not do everything.

use std::collections::BTreeMap;

use async_cache_core::backend::Announce;
use async_cache_core::{Error, ErrorKind, Tags};
use async_cache_redis::RedisBackend;
use async_cache_redis::testing::Mutant;
use integration_tests::RedisServer;

use crate::rig::{LIFE, Node, frame, key};

/// Everything that is stored.
fn image(server: &RedisServer) -> BTreeMap<String, Vec<u8>> {
    let mut names: Vec<String> = server.cli(&["KEYS", "*"]);
    names.sort();
    names.into_iter().map(|name| (name.clone(), server.cli(&["DUMP", &name]))).collect()
}

/// A server with a value, a tag, a lease and a node that has lost the right to publish.
async fn silenced(server: &RedisServer, node: RedisBackend) -> (Node, async_cache_core::backend::Lease) {
    let node = Node::of(node).await;
    node.store(&key("k"), b"v").await;
    node.region.invalidate_tags(0, &Tags::new(["old"]).unwrap()).await.unwrap();
    let lease = node.lease(&key("loading")).await;
    server.set_user("app", "resetchannels");
    (node, lease)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_may_not_be_announced_changes_nothing() {
    let server = RedisServer::start();
    server.set_user("app", "~* &* +@all");
    let other = Node::on(&server).await;
    let (node, lease) = silenced(&server, RedisBackend::connect(server.url_as("app")).await.unwrap()).await;
    let later = node.region.state(0).await.unwrap().time_ms + 60_000;
    let before = image(&server);
    other.heard.forget();

    let entry = (key("k"), frame(node.token(), b"new"));
    let fill = frame(lease.token, b"new");
    let refusals: [(&str, Error); 5] = [
        ("invalidate", node.region.invalidate(&[key("k")]).await.unwrap_err()),
        ("put", node.region.put(&[entry], LIFE, later).await.unwrap_err()),
        ("clear", node.region.clear(0).await.unwrap_err()),
        ("tags", node.region.invalidate_tags(0, &Tags::new(["t"]).unwrap()).await.unwrap_err()),
        ("refresh", node.region.fill(&key("loading"), lease, fill, LIFE, Announce::Yes).await.unwrap_err()),
    ];
    for (what, error) in refusals {
        assert_eq!(error.kind(), ErrorKind::Config, "{what}: {error}");
        assert!(error.to_string().contains("&{ns:*"), "{what} names the right: {error}");
    }
    assert_eq!(image(&server), before);
    assert_eq!(other.heard.events(), []);
    assert!(node.read(&key("k")).await.is_some(), "reading goes on");
}

/// What a wake-up's refusal must not prevent: the lease is given back, the value is stored.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_wake_others_stores_and_releases_all_the_same() {
    let server = RedisServer::start();
    server.set_user("app", "~* &* +@all");
    let other = Node::on(&server).await;
    let (node, lease) = silenced(&server, RedisBackend::connect(server.url_as("app")).await.unwrap()).await;
    other.acquire(&key("loading")).await;
    let value = frame(lease.token, b"new");
    node.region.fill(&key("loading"), lease, value, LIFE, Announce::No).await.unwrap();
    assert!(other.read(&key("loading")).await.is_some());

    let lease = node.lease(&key("another")).await;
    other.acquire(&key("another")).await;
    node.region.release(&key("another"), lease).await.unwrap();
    other.lease(&key("another")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proof_objects_to_a_number_that_is_kept() {
    let server = RedisServer::start();
    server.set_user("app", "~* &* +@all");
    let builder = RedisBackend::builder().url(server.url_as("app")).mutant(Mutant::RefusedChangeKeepsNumber);
    let (node, _) = silenced(&server, builder.connect().await.unwrap()).await;
    let before = image(&server);
    node.region.invalidate(&[key("k")]).await.unwrap_err();
    assert_ne!(image(&server), before);
}
