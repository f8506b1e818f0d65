//! Servers that cannot be used, or not yet.

use async_cache::backend::Check;
use async_cache_core::{Error, ErrorKind};
use async_cache_redis::RedisBackend;
use integration_tests::RedisServer;
use integration_tests::stub::{Stub, info};

use crate::rig::{Node, key};

async fn refused(stub: &Stub) -> Error {
    RedisBackend::connect(stub.url()).await.unwrap_err()
}

/// The error for a server with these lines in its `INFO`.
async fn refused_for(said: &'static str) -> String {
    let stub = Stub::start(move |words| (words[0] == "INFO").then(|| info(said))).await;
    let error = refused(&stub).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_cannot_be_used_are_refused_by_name() {
    assert!(refused_for("server_name:garnet\r\nrun_id:x").await.contains("Garnet"));
    assert!(refused_for("redis_mode:sentinel\r\nrun_id:x").await.contains("Sentinel"));
    assert!(refused_for("server_name:valkey\r\nserver_mode:cluster\r\nrun_id:x").await.contains("Cluster"));
    assert!(refused_for("redis_mode:standalone").await.contains("run id"));
    let usable =
        Stub::start(|words| (words[0] == "INFO").then(|| info("server_mode:standalone\r\nrun_id:x"))).await;
    RedisBackend::connect(usable.url()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_refused() {
    let server = RedisServer::with_arguments(&["--cluster-enabled", "yes"]);
    let error = RedisBackend::connect(server.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("Cluster"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_there_is_not_is_a_configuration_error() {
    let server = RedisServer::start();
    let error = RedisBackend::connect(format!("{}/99", server.url())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("database"), "{error}");
}

/// The server answers INFO and scripts, but has loaded only a part of its data.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_still_loads_its_memory_is_not_taken() {
    let loading = "-LOADING Redis is loading the dataset in memory\r\n";
    let stub = Stub::start(move |words| (words[0] == "PING").then(|| loading.to_owned())).await;
    let error = refused(&stub).await;
    assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
    assert!(
        format!("{error:?}").contains("LOADING") || format!("{error:?}").contains("loading"),
        "{error:?}"
    );
}

/// A proxy between the node and the server may quote the command in its error.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_quotes_the_password_is_shown_without_it() {
    let stub = Stub::start(|words| {
        let quoted = words[0] == "GET" && words[1].contains("secret-key");
        quoted.then(|| "-ERR backend of user default with hunter2 is gone\r\n".to_owned())
    })
    .await;
    let backend = RedisBackend::connect(stub.url_with("hunter2")).await.unwrap();
    let node = Node::unsubscribed(backend, "ns", crate::rig::RECORD);
    let error = node.region.read_one(&key("secret-key"), Check::Plain).await.unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("***") && !text.contains("hunter2"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_which_nothing_was_tested_is_refused_by_name_unless_it_is_allowed() {
    let keydb = "redis_mode:standalone\r\nrun_id:stub\r\nexecutable:/opt/keydb-server";
    let stub = Stub::start(move |words| (words[0] == "INFO").then(|| info(keydb))).await;
    let error = RedisBackend::connect(stub.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(error.to_string().contains("KeyDB"), "{error}");
    let refused = RedisBackend::builder().url(stub.url()).allow_unknown_server(false);
    refused.connect().await.unwrap_err();
    let allowed = RedisBackend::builder().url(stub.url()).allow_unknown_server(true);
    allowed.connect().await.unwrap();
    let mut config = async_cache_redis::RedisConfig::new(stub.url());
    config.allow_unknown_server = Some(true);
    RedisBackend::from_config(config).await.unwrap();
}
