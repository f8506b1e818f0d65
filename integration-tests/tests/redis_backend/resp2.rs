//! Servers without HELLO, so without RESP3; and servers that are reached by a Unix socket.

use async_cache_core::backend::BusEvent;
use async_cache_redis::{RedisBackend, Tls};
use integration_tests::stub::{Stub, bulk};
use integration_tests::{RedisServer, eventually};
use tempfile::TempDir;

use crate::certificates::{Authority, TlsServer, Validity};
use crate::rig::{Node, key};

/// A node stores, reads, is told of changes, and subscribes again when its connection is lost.
async fn works(server: &RedisServer, node: &Node) {
    for _ in 0..2 {
        let (_, stored) = node.store(&key("k"), b"v").await;
        assert_eq!(node.read(&key("k")).await, Some(stored));
        let seq = node.region.clear(0).await.unwrap();
        node.heard.heard(&BusEvent::Cleared { partition: 0, seq }).await;
        node.heard.forget();
        server.cli::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        node.heard.heard(&BusEvent::Lost).await;
        node.heard.heard(&BusEvent::Subscribed).await;
    }
}

fn subscribers(server: &RedisServer, with: &str) -> usize {
    server
        .cli::<String>(&["CLIENT", "LIST", "TYPE", "pubsub"])
        .lines()
        .filter(|line| line.contains(with))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_heard_in_resp2_where_hello_is_unknown() {
    let server = RedisServer::with_arguments(&["--rename-command", "HELLO", ""]);
    let node = Node::on(&server).await;
    works(&server, &node).await;

    // A region that comes and goes leaves the other's subscription alone.
    let other = Node::unsubscribed(node.backend.clone(), "other", crate::rig::RECORD);
    other.heard.heard(&BusEvent::Subscribed).await;
    let channels = || server.cli::<Vec<String>>(&["PUBSUB", "CHANNELS"]).len();
    assert_eq!(channels(), 4);
    drop(other);
    eventually("its channels are gone", || (channels() == 2).then_some(())).await;
    works(&server, &node).await;
}

/// As a proxy does that speaks RESP2 alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_in_resp2_is_made_where_hello_is_refused() {
    for refusal in [
        "-NOPROTO unsupported protocol version\r\n",
        "-ERR unknown command 'HELLO'\r\n",
        "-NOPERM this user has no permissions to run the 'hello' command\r\n",
    ] {
        let stub = Stub::start(move |words| match &*words[0] {
            "HELLO" => Some(refusal.to_owned()),
            "SUBSCRIBE" | "UNSUBSCRIBE" => {
                let kind = words[0].to_ascii_lowercase();
                let answer = |name: &String| format!("*3\r\n{}{}:1\r\n", bulk(&kind), bulk(name));
                Some(words[1..].iter().map(answer).collect())
            }
            _ => None,
        })
        .await;
        let backend = RedisBackend::connect(stub.url()).await;
        Node::of(backend.unwrap_or_else(|error| panic!("{refusal}: {error}"))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_heard_in_resp2_by_tls() {
    let authority = Authority::new();
    let shown = authority.sign("127.0.0.1", Validity::Now);
    let server = TlsServer::start(&authority, &shown, &["--rename-command", "HELLO", ""]);
    let builder = RedisBackend::builder().url(server.url()).tls(Tls::new().ca(authority.pem()));
    works(&server.server, &Node::of(builder.connect().await.unwrap()).await).await;
}

/// A subscription that is refused is told, and taken up when the right is given.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_subscription_is_told_in_resp2_and_taken_up_later() {
    let server = RedisServer::with_arguments(&["--rename-command", "HELLO", ""]);
    server.set_user("app", "~* resetchannels &{other:* +@all");
    let backend = RedisBackend::connect(server.url_as("app")).await.unwrap();
    let node = Node::unsubscribed(backend, "ns", crate::rig::RECORD);
    node.heard.wait("the refusal", |event| matches!(event, BusEvent::Refused { .. }).then_some(())).await;
    server.set_user("app", "&*");
    node.heard.heard(&BusEvent::Subscribed).await;
    works(&server, &node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_in_resp2_is_replaced() {
    let server = RedisServer::with_arguments(&["--rename-command", "HELLO", ""]);
    let proxy = integration_tests::Proxy::start(server.port()).await;
    let node = Node::of(RedisBackend::connect(server.url_at(proxy.port())).await.unwrap()).await;
    proxy.freeze_subscribers();
    node.heard.heard(&BusEvent::Lost).await;
    node.heard.forget();
    node.heard.heard(&BusEvent::Subscribed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_everything_closes_every_connection_in_resp2() {
    let server = RedisServer::with_arguments(&["--rename-command", "HELLO", ""]);
    let node = Node::on(&server).await;
    drop(node);
    eventually("no connection is left", || (server.clients() == 0).then_some(())).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    eventually("no task is left", || (metrics.num_alive_tasks() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_messages_go_through_a_unix_socket() {
    let directory = TempDir::with_prefix("async-cache-").unwrap();
    let path = directory.path().join("redis.sock");
    let path = path.to_str().expect("a path in UTF-8");
    let server = RedisServer::with_arguments(&["--unixsocket", path]);
    server.set_user("app", "~* &* +@all");
    let node =
        Node::of(RedisBackend::connect(format!("unix://{path}?user=app&pass=secret")).await.unwrap()).await;
    works(&server, &node).await;
    let by_socket =
        || server.cli::<String>(&["CLIENT", "LIST"]).lines().filter(|line| line.contains(path)).count();
    eventually("every connection is one of the socket", || {
        ((by_socket(), subscribers(&server, path)) == (3, 1) && server.clients() == 3).then_some(())
    })
    .await;

    let missing = RedisBackend::connect(format!("unix://{path}-missing")).await.unwrap_err();
    assert!(missing.to_string().contains("there is no such socket"), "{missing}");
}
