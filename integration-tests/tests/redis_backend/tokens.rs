//! Nodes that know the server by a token in their scripts: without INFO, and behind a proxy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_cache_core::backend::{Backend, BusEvent, Check, Read, State};
use async_cache_core::testing::conformance::{self, Hook, Subject};
use async_cache_core::{Error, ErrorKind, Tags};
use async_cache_redis::{IdentifyBy, RedisBackend, RedisBackendBuilder};
use integration_tests::listen::PATIENCE;
use integration_tests::stub::{Stub, bulk, info};
use integration_tests::switch::Switch;
use integration_tests::{Data, RedisServer, eventually};

use crate::rig::{Node, key};

fn builder(url: &str) -> RedisBackendBuilder {
    let builder = RedisBackend::builder().url(url).identify_server_by(IdentifyBy::Scripts);
    builder.command_timeout(Duration::from_secs(5)).connect_timeout(Duration::from_secs(5))
}

async fn node_at(url: &str) -> Node {
    Node::of(builder(url).connect().await.unwrap()).await
}

/// The state, as soon as the connections have been made again.
async fn state(node: &Node) -> State {
    let start = Instant::now();
    loop {
        match node.region.state(0).await {
            Ok(state) => return state,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(60), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The value of `k` that a node without knowledge of its own may use, as soon as the connections have been made again.
async fn valid(node: &Node) -> Read {
    let start = Instant::now();
    loop {
        match node.region.read_one(&key("k"), Check::Valid).await {
            Ok(read) => return read,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(60), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What `M` has in place of a run id.
fn token(server: &RedisServer) -> String {
    server.cli(&["HGET", "{ns:0}M", "r"])
}

async fn replicated(master: &RedisServer, replica: &RedisServer) {
    replica.cli::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    eventually("the replica has the token and the value", || {
        let has = |name: &str| replica.cli::<bool>(&["EXISTS", name]);
        (has("{ns:0}M") && has("{ns:0}V:k") && token(replica) == token(master)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_and_is_promoted_behind_a_proxy_serves_nothing_old() {
    let (master, replica) = (RedisServer::start(), RedisServer::start());
    replica.cli::<()>(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
    master.cli::<()>(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
    let proxy = Switch::start(master.port()).await;
    let node = node_at(&proxy.url()).await;
    node.store(&key("k"), b"old").await;
    assert!(node.read(&key("k")).await.is_some());
    replicated(&master, &replica).await;
    replica.cli::<()>(&["REPLICAOF", "NO", "ONE"]);
    node.region.invalidate(&[key("k")]).await.unwrap();
    let before = state(&node).await;

    // Every connection stays open, and INFO would not be asked again.
    proxy.lead_to(replica.port());
    assert!(replica.cli::<bool>(&["EXISTS", "{ns:0}V:k"]), "the new master has the old value");
    if let Ok(plain) = node.region.read_one(&key("k"), Check::Plain).await {
        assert_ne!(plain.run, before.run, "a plain read, too, tells who answers");
    }
    let read = valid(&node).await;
    assert_eq!(read.value, None, "the invalidation was lost on the way to the replica");
    assert_ne!(read.run, before.run);
    let after = state(&node).await;
    assert!(after.floor > before.seq && after.run == read.run, "{before:?} {after:?}");
    assert_eq!(node.region.read_one(&key("k"), Check::Plain).await.unwrap().run, after.run);

    // A node that has just come finds the same token.
    let other = node_at(&proxy.url()).await;
    assert_eq!(state(&other).await.run, after.run);
    assert_eq!(state(&node).await.floor, after.floor, "one epoch");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_together_agree_on_one_token() {
    let server = RedisServer::start();
    let url = server.url();
    let nodes = futures_util::future::join_all((0..6).map(|_| node_at(&url))).await;
    let states = futures_util::future::join_all(nodes.iter().map(state)).await;
    let first = states[0];
    for node in &nodes {
        let again = state(node).await;
        assert_eq!((again.run, again.floor), (first.run, first.floor), "no epoch follows another");
    }
    let seq = nodes[0].region.invalidate(&[key("k")]).await.unwrap()[0];
    for node in &nodes {
        node.heard.heard(&BusEvent::Invalidated { partition: 0, seq, key: "k".into() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_scripts_begin_one_epoch_and_everything_goes_on() {
    let server = RedisServer::start();
    let nodes = [node_at(&server.url()).await, node_at(&server.url()).await];
    nodes[0].store(&key("k"), b"v").await;
    let (before, old) = (state(&nodes[1]).await, token(&server));
    server.cli::<()>(&["SCRIPT", "FLUSH"]);
    let after = state(&nodes[0]).await;
    assert!(after.floor > before.seq && after.run != before.run, "the memory may be another one");
    assert_ne!(token(&server), old);
    let other = state(&nodes[1]).await;
    assert_eq!((other.run, other.floor), (after.run, after.floor), "the other node adopts the token");
    assert_eq!(valid(&nodes[1]).await.value, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_and_flushed_data_begin_an_epoch() {
    let server = RedisServer::start();
    let node = node_at(&server.url()).await;
    node.store(&key("k"), b"v").await;
    let before = state(&node).await;
    server.cli::<()>(&["FLUSHALL"]);
    let flushed = state(&node).await;
    assert!(flushed.floor > before.seq && flushed.run == before.run, "{before:?} {flushed:?}");

    node.store(&key("k"), b"v").await;
    server.snapshot();
    node.region.invalidate(&[key("k")]).await.unwrap();
    let before = state(&node).await;
    server.restart(Data::Keep);
    assert!(server.cli::<bool>(&["EXISTS", "{ns:0}V:k"]), "the deleted value is back");
    let after = state(&node).await;
    assert!(after.floor > before.seq && after.run != before.run, "{before:?} {after:?}");
    assert_eq!(valid(&node).await.value, None);
}

/// Both servers live on, so the old connection gives no sign.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_server_that_was_replaced_are_left() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let proxy = integration_tests::Proxy::start(old.port()).await;
    let node = node_at(&old.url_at(proxy.port())).await;
    let normal = |server: &RedisServer| {
        let list = server.cli::<String>(&["CLIENT", "LIST", "TYPE", "normal"]);
        let id = |line: &str| line.split(' ').find_map(|field| field.strip_prefix("id=")).map(str::to_owned);
        list.lines().filter(|line| !line.contains("cmd=client")).filter_map(id).collect::<Vec<String>>()
    };
    let both =
        eventually("two connections for commands", || Some(normal(&old)).filter(|ids| ids.len() == 2)).await;
    let before = state(&node).await;
    state(&node).await;
    proxy.lead_new_to(new.port());
    old.cli::<()>(&["CLIENT", "KILL", "ID", &both[0]]);
    // Commands use the connections in turn.
    let start = Instant::now();
    while !normal(&old).is_empty() || normal(&new).len() < 2 {
        let _ = node.region.state(0).await;
        assert!(start.elapsed() < Duration::from_secs(60), "a connection leads to the old server");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_ne!(state(&node).await.run, before.run);
}

/// The rights of docs/operations.md, without those in a dangerous category.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_dangerous_commands_needs_no_info() {
    let server = RedisServer::start();
    let manual = include_str!("../../../docs/operations.md");
    let (_, rest) = manual.split_once("ACL SETUSER app on >secret ").expect("the rights");
    let (rights, _) = rest.split_once("```").expect("their end");
    let rights = rights.split_whitespace().collect::<Vec<_>>().join(" ").replace("users", "ns");
    server.set_user("app", &rights.replace("+info ", "+script|exists "));
    server.cli::<()>(&["ACL", "SETUSER", "app", "-@dangerous"]);

    let url = server.url_as("app");
    let error = RedisBackend::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains("+info") && error.to_string().contains("IdentifyBy::Scripts"),
        "{error}"
    );

    let node = node_at(&url).await;
    let (_, value) = node.store(&key("k"), b"v").await;
    assert_eq!(node.read(&key("k")).await, Some(value));
    let lease = node.lease(&key("lease")).await;
    node.region.release_one(&key("lease"), lease).await.unwrap();
    node.region.invalidate_tags(0, &Tags::new(["t"]).unwrap()).await.unwrap();
    node.region.baseline(0, None).await.unwrap();
    node.region.heartbeat(0, 1).await.unwrap();
    node.region.clear(0).await.unwrap();
    assert_eq!(valid(&node).await.value, None);

    server.cli::<()>(&["ACL", "SETUSER", "app", "-script|exists"]);
    let error = builder(&url).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("+script|exists"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_know_the_server_in_two_ways_do_not_share_a_namespace() {
    let server = RedisServer::start();
    let by_info = Node::on(&server).await;
    by_info.store(&key("k"), b"v").await;
    let by_scripts = node_at(&server.url()).await;
    let before = state(&by_scripts).await;
    let error: Error = by_info.region.state(0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("IdentifyBy::Scripts"), "{error}");
    assert!(by_info.region.invalidate(&[key("k")]).await.is_err());
    assert_eq!(state(&by_scripts).await.floor, before.floor, "no epoch follows another");
}

/// A greeting in the form of RESP2.
fn greeting(fields: &[(&str, &str)]) -> String {
    let texts: String = fields.iter().flat_map(|(name, text)| [bulk(name), bulk(text)]).collect();
    format!("*{}\r\n{texts}", 2 * fields.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_whose_scripts_prove_nothing_are_refused() {
    for (fields, part) in [
        ([("server", "redis"), ("version", "6.2.14"), ("mode", "standalone"), ("role", "master")], "6.2.14"),
        ([("server", "redis"), ("version", "7.2.4"), ("mode", "cluster"), ("role", "master")], "`+info`"),
        ([("server", "redis"), ("version", "7.2.4"), ("mode", "sentinel"), ("role", "master")], "Sentinel"),
        ([("server", "redis"), ("version", "7.2.4"), ("mode", "standalone"), ("role", "replica")], "replica"),
        ([("server", "other"), ("version", "7.2.4"), ("mode", "standalone"), ("role", "master")], "`other`"),
    ] {
        let stub = Stub::start(move |words| (words[0] == "HELLO").then(|| greeting(&fields))).await;
        let error = builder(&stub.url()).connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    // What INFO tells counts, too, where it may be asked.
    let stub = Stub::start(|words| {
        (words[0] == "INFO").then(|| info("redis_mode:standalone\r\ndragonfly_version:df-v1.40.1"))
    })
    .await;
    let error = builder(&stub.url()).connect().await.unwrap_err();
    assert!(error.to_string().contains("Dragonfly"), "{error}");

    let cluster =
        RedisBackend::builder().cluster(["redis://127.0.0.1"]).identify_server_by(IdentifyBy::Scripts);
    let error = cluster.connect_lazy().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains("IdentifyBy::Info") && error.to_string().contains("`+info`"),
        "{error}"
    );
    let error = builder("redis://127.0.0.1").partitions(2).connect_lazy().await.unwrap_err();
    assert!(error.to_string().contains("one partition"), "{error}");
}

struct Server(RedisServer);

#[async_trait::async_trait]
impl Subject for Server {
    async fn handle(&self) -> Arc<dyn Backend> {
        // The answer with a full tag table is long.
        Arc::new(
            builder(&self.0.url()).command_timeout(2 * PATIENCE).connect().await.expect("the server answers"),
        )
    }

    async fn lose_memory(&self) -> Hook {
        self.0.restart(Data::Drop);
        Hook::Done
    }

    async fn stop(&self) -> Hook {
        self.0.pause();
        Hook::Done
    }

    async fn go_on(&self) {
        self.0.resume();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_of_a_backend_holds() {
    conformance::run(&Server(RedisServer::start())).await;
}
