//! Several addresses, of which one leads to the master.

use std::time::Duration;

use async_cache_core::backend::BusEvent;
use async_cache_core::{Error, ErrorKind};
use async_cache_redis::{IdentifyBy, RedisBackend, RedisBackendBuilder, RedisConfig, SubscribeOn};
use integration_tests::ports::free_port;
use integration_tests::{RedisServer, eventually};

use crate::rig::{Node, key};

/// Time enough for a machine that has other things to do.
const TIME: Duration = Duration::from_secs(8);
/// The channel of the namespace `ns`.
const BUS: &str = "{ns:0}bus";

fn builder(urls: &[String]) -> RedisBackendBuilder {
    RedisBackend::builder().urls(urls).connect_timeout(TIME).command_timeout(TIME)
}

async fn refused(urls: &[String]) -> Error {
    let error = builder(urls).connect().await.expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error
}

fn dead() -> String {
    format!("redis://127.0.0.1:{}", free_port())
}

/// A server that follows another one.
async fn replica_of(master: &RedisServer) -> RedisServer {
    let replica = RedisServer::start();
    master.cli::<()>(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
    replica.cli::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    eventually("it follows", || {
        let info: String = replica.cli(&["INFO", "replication"]);
        info.contains("master_link_status:up").then_some(())
    })
    .await;
    replica
}

/// The node's commands and messages go to this server.
async fn works_on(node: &Node, server: &RedisServer) {
    node.store(&key("k"), b"v").await;
    let seq = node.region.clear(0).await.unwrap();
    node.heard.heard(&BusEvent::Cleared { partition: 0, seq }).await;
    assert_eq!(server.listeners(BUS), 1, "the subscriber of the node");
    assert_eq!(server.cli::<u64>(&["EXISTS", "{ns:0}M"]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_the_master_is_used_whatever_its_place() {
    let master = RedisServer::start();
    let replica = replica_of(&master).await;
    let node = Node::of(builder(&[dead(), replica.url(), master.url()]).connect().await.unwrap()).await;
    works_on(&node, &master).await;
    assert_eq!(replica.listeners(BUS), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_addresses_of_one_server_are_one_server() {
    let server = RedisServer::start();
    let by_name = format!("redis://localhost:{}", server.port());
    let node = Node::of(builder(&[by_name, server.url()]).connect().await.unwrap()).await;
    works_on(&node, &server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_is_found_when_the_connections_are_made_again() {
    let old = RedisServer::start();
    let new = replica_of(&old).await;
    let urls = [old.url(), new.url()];
    let node = Node::of(RedisBackend::builder().urls(urls).connect().await.unwrap()).await;
    works_on(&node, &old).await;
    old.kill();
    eventually("the node notices", || (!node.region.info().available).then_some(())).await;
    new.cli::<()>(&["REPLICAOF", "NO", "ONE"]);
    eventually("it has subscribed at the new master", || (new.listeners(BUS) == 1).then_some(())).await;
    eventually("its commands go there", || node.region.info().available.then_some(())).await;
    node.region.clear(0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_masters_are_refused_and_named() {
    let servers = [RedisServer::start(), RedisServer::start()];
    let urls = [servers[0].url(), servers[1].url()];
    let error = refused(&urls).await.to_string();
    for server in &servers {
        assert!(error.contains(&format!("127.0.0.1:{}", server.port())), "{error}");
    }
    assert!(error.contains("both say that they are the master"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_alone_are_refused_and_a_master_that_is_away_is_waited_for() {
    let master = RedisServer::start();
    let replica = replica_of(&master).await;
    let error = refused(&[replica.url(), replica.url()]).await.to_string();
    assert!(error.contains("none of them is the master") && error.contains("add its address"), "{error}");
    let away = dead();
    let error = builder(&[replica.url(), away.clone()]).connect().await.expect_err("the master is away");
    assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
    let text = format!("{error:#}");
    assert!(text.contains(away.trim_start_matches("redis://")) && text.contains("a replica"), "{text}");
}

#[tokio::test]
async fn lists_that_mean_nothing_are_refused_without_their_secrets() {
    for (urls, what) in [
        (vec![], "1 to 16"),
        (vec![dead(); 17], "1 to 16"),
        (vec!["redis://:hunter2@h1".into(), "redis://:hunter3@h2".into()], "must be the same"),
        (vec!["redis://h1/1".into(), "redis://h2/2".into()], "must be the same"),
    ] {
        let error = refused(&urls).await;
        let text = format!("{error} {error:?}");
        assert!(text.contains(what) && !text.contains("hunter"), "{text}");
    }
    let scripts = builder(&[dead(), dead()]).identify_server_by(IdentifyBy::Scripts).connect().await;
    assert!(scripts.expect_err("it is refused").to_string().contains("IdentifyBy::Info"));
}

#[tokio::test]
async fn a_configuration_file_has_the_addresses_and_hides_their_passwords() {
    let server = RedisServer::with_password("hunter2");
    let url = server.url();
    let text = format!("urls = [\"{url}\", \"{url}\"]\nsubscribe_on = \"master\"");
    let config: RedisConfig = toml::from_str(&text).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    RedisBackend::from_config(config).await.unwrap();
    let both = format!("url = \"{url}\"\nurls = [\"{url}\"]");
    let error = RedisBackend::from_config(toml::from_str(&both).unwrap()).await.expect_err("it is refused");
    assert!(error.to_string().contains("`url`, `urls`"), "{error}");
}

#[tokio::test]
async fn replicas_are_subscribed_to_only_where_they_can_be_found() {
    let on_replicas = |builder: RedisBackendBuilder| builder.subscribe_on(SubscribeOn::Replicas);
    for (builder, what) in [
        (RedisBackend::builder().cluster([dead()]), "Redis Cluster"),
        (RedisBackend::builder().url(dead()).identify_server_by(IdentifyBy::Scripts), "IdentifyBy::Info"),
    ] {
        let error = on_replicas(builder).connect().await.expect_err("it is refused");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(what), "{error}");
    }
}
