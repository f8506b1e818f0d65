//! Users with limited rights.

use std::collections::BTreeMap;

use async_cache_core::backend::{Announce, Check, Fill};
use async_cache_core::{Error, ErrorKind, Tags};
use async_cache_redis::RedisBackend;
use async_cache_redis::testing::Mutant;
use integration_tests::RedisServer;

use crate::rig::{LIFE, Node, frame, key};

/// All stored data.
fn image(server: &RedisServer) -> BTreeMap<String, Vec<u8>> {
    let mut names: Vec<String> = server.cli(&["KEYS", "*"]);
    names.sort();
    names.into_iter().map(|name| (name.clone(), server.cli(&["DUMP", &name]))).collect()
}

/// A server with a value, a tag and a lease, and a node that has lost the right to publish.
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
        (
            "refresh",
            node.region
                .fill_one(Fill {
                    key: key("loading"),
                    lease,
                    frame: fill,
                    life: LIFE,
                    announce: Announce::Yes,
                })
                .await
                .unwrap_err(),
        ),
    ];
    for (what, error) in refusals {
        assert_eq!(error.kind(), ErrorKind::Config, "{what}: {error}");
        assert!(error.to_string().contains("&{ns:*"), "{what} names the right: {error}");
    }
    assert_eq!(image(&server), before);
    assert_eq!(other.heard.events(), []);
    assert!(node.read(&key("k")).await.is_some(), "reading goes on");
}

/// If a wake-up is refused, the lease is still released and the value is still stored.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_wake_others_stores_and_releases_all_the_same() {
    let server = RedisServer::start();
    server.set_user("app", "~* &* +@all");
    let other = Node::on(&server).await;
    let (node, lease) = silenced(&server, RedisBackend::connect(server.url_as("app")).await.unwrap()).await;
    other.acquire(&key("loading")).await;
    let value = frame(lease.token, b"new");
    node.region
        .fill_one(Fill { key: key("loading"), lease, frame: value, life: LIFE, announce: Announce::No })
        .await
        .unwrap();
    assert!(other.read(&key("loading")).await.is_some());

    let lease = node.lease(&key("another")).await;
    other.acquire(&key("another")).await;
    node.region.release_one(&key("another"), lease).await.unwrap();
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

/// The rights in `docs/operations.md`, without the names.
fn documented() -> Vec<&'static str> {
    let manual = include_str!("../../../docs/operations.md");
    let words =
        manual.lines().skip_while(|line| !line.starts_with("ACL SETUSER")).take_while(|line| *line != "```");
    let rights: Vec<&str> =
        words.flat_map(str::split_whitespace).filter(|word| word.starts_with('+')).collect();
    assert!(rights.len() > 20, "{rights:?}");
    rights
}

/// Makes a user with exactly these rights and names.
fn user(server: &RedisServer, names: &str, rights: &[&str]) {
    server.cli::<()>(&["ACL", "DELUSER", "app"]);
    server.set_user("app", &format!("resetchannels {names} -@all {}", rights.join(" ")));
}

const NAMES: &str = "~{ns:* &{ns:*";

/// The error of a connection that is refused because of a missing right.
async fn refused(server: &RedisServer, right: &str) -> String {
    let error = RedisBackend::connect(server.url_as("app")).await.expect_err(right);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rights_are_enough() {
    let server = RedisServer::start();
    user(&server, NAMES, &documented());
    let node = Node::of(RedisBackend::connect(server.url_as("app")).await.unwrap()).await;
    node.store(&key("k"), b"v").await;
    let lease = node.lease(&key("lease")).await;
    node.acquire(&key("lease")).await;
    node.region.renew_one(&key("lease"), lease, LIFE).await.unwrap();
    let frame = frame(lease.token, b"v");
    node.region
        .fill_one(Fill { key: key("lease"), lease, frame, life: LIFE, announce: Announce::Yes })
        .await
        .unwrap();
    node.region.read(&[key("k"), key("lease")], Check::Plain).await.unwrap();
    node.region.read_one(&key("k"), Check::Valid).await.unwrap();
    node.region.invalidate(&[key("k")]).await.unwrap();
    node.region.invalidate_tags(0, &Tags::new(["t"]).unwrap()).await.unwrap();
    node.region.baseline(0, None).await.unwrap();
    node.region.heartbeat(0, 1).await.unwrap();
    node.region.clear(0).await.unwrap();
    let lease = node.lease(&key("k")).await;
    node.region.release_one(&key("k"), lease).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_that_is_missing_is_named_when_connecting() {
    let server = RedisServer::start();
    let all = documented();
    // Left out are the commands that every client may run before its login, and the right that is optional.
    for right in all.iter().filter(|right| !["+auth", "+hello", "+mget"].contains(right)) {
        let others: Vec<&str> = all.iter().filter(|other| *other != right).copied().collect();
        user(&server, NAMES, &others);
        let message = refused(&server, right).await;
        assert!(message.contains(&format!("`{right}`")), "{right}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_no_namespace_is_refused_when_connecting() {
    let server = RedisServer::start();
    for (names, remedy) in [
        ("~* resetchannels", "&{<namespace>:*"),
        ("~* &news", "&{<namespace>:*"),
        ("&* resetkeys", "~{<namespace>:*"),
        ("&* ~app:*", "~{<namespace>:*"),
    ] {
        user(&server, names, &["+@all"]);
        let message = refused(&server, names).await;
        assert!(message.contains(remedy), "{names}: {message}");
    }
}

/// The names of a user cannot be queried, so the first operation finds the fault.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_another_namespace_is_refused_with_the_remedy() {
    let server = RedisServer::start();
    for (names, remedy) in [("~{other:* &{ns:*", "~{ns:*"), ("~{ns:* &{other:*", "&{ns:*")] {
        user(&server, names, &documented());
        let backend = RedisBackend::connect(server.url_as("app")).await.unwrap();
        let node = Node::unsubscribed(backend, "ns", crate::rig::RECORD);
        let error = node.region.heartbeat(0, 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(remedy), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_that_is_renamed_is_named_when_connecting() {
    for command in ["EVALSHA", "SCRIPT", "SUBSCRIBE", "PUBLISH", "UNLINK"] {
        let server = RedisServer::with_arguments(&["--rename-command", command, "hidden"]);
        let error = RedisBackend::connect(server.url()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{command}: {error}");
        assert!(
            error.to_string().contains(command) && error.to_string().contains("rename"),
            "{command}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_do_without_mget() {
    let server = RedisServer::start();
    let others: Vec<&str> = documented().into_iter().filter(|right| *right != "+mget").collect();
    user(&server, NAMES, &others);
    let node = Node::of(RedisBackend::connect(server.url_as("app")).await.unwrap()).await;
    node.store(&key("k"), b"v").await;
    let keys = [key("k"), key("absent")];
    let read = node.region.read(&keys, Check::Plain).await.unwrap();
    assert_eq!(read.values.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    let (found, absent) = tokio::join!(
        node.region.read_one(&keys[0], Check::Plain),
        node.region.read_one(&keys[1], Check::Plain)
    );
    assert!(found.unwrap().value.is_some() && absent.unwrap().value.is_none());
}
