//! Connecting, opening and closing.

use std::time::{Duration, Instant};

use async_cache_core::backend::{Backend, NodeId, RegionSpec};
use async_cache_core::{Error, ErrorKind};
use async_cache_redis::RedisBackend;
use integration_tests::ports::free_port;
use integration_tests::{Recorder, RedisServer, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::rig::{Node, RECORD, key, open};

/// The error of a connection attempt that must fail in time, with all its causes in the text.
async fn refused(url: &str) -> (Error, String) {
    let start = Instant::now();
    let error = RedisBackend::connect(url).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(2), "{url}: {:?}", start.elapsed());
    let text = format!("{error} {error:?}");
    (error, text)
}

#[tokio::test]
async fn wrong_urls_are_configuration_errors() {
    for url in
        ["", "127.0.0.1:6379", "http://127.0.0.1", "redis://", "redis://127.0.0.1:99999", "redis://h/x"]
    {
        let (error, text) = refused(url).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{text}");
        assert!(text.contains("wrong Redis URL"), "{text}");
    }
    let error = RedisBackend::builder().connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

/// Such a character ends the password, and the rest is taken for a host, a database or settings.
#[tokio::test]
async fn a_password_that_is_not_percent_encoded_is_an_error_that_says_how_to_write_it() {
    for scheme in ["redis", "rediss"] {
        for character in ['/', '#', '?'] {
            let (error, text) = refused(&format!("{scheme}://:hunter2{character}x@127.0.0.1")).await;
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(error.to_string().contains("percent-encode"), "{character}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_unix_socket_that_does_not_exist_is_not_a_refused_connection() {
    let (error, text) = refused("unix:///nonexistent/redis.sock").await;
    assert_eq!(error.kind(), ErrorKind::Backend, "{text}");
    assert!(text.contains("no such socket") && !text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_refused_connection_says_so() {
    let (error, text) = refused(&format!("redis://:hunter2@127.0.0.1:{}", free_port())).await;
    assert_eq!(error.kind(), ErrorKind::Backend);
    assert!(text.contains("connection refused") && !text.contains("hunter2"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_checked_and_never_shown() {
    let server = RedisServer::with_password("right-horse");
    let port = server.port();
    for url in [format!("redis://127.0.0.1:{port}"), format!("redis://:wrong-horse@127.0.0.1:{port}")] {
        let (error, text) = refused(&url).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{text}");
        assert!(text.contains("password") && !text.contains("horse"), "{text}");
    }
    let node = Node::on(&server).await;
    node.store(&key("k"), b"v").await;
    assert!(!format!("{:?} {:?}", node.backend, node.region).contains("horse"));
    assert!(!format!("{:?}", RedisBackend::builder().url(server.url())).contains("horse"));
}

#[tokio::test]
async fn what_is_not_redis_is_told_apart() {
    // A server that is silent, one that talks another protocol, and one that closes. Each serves any number of
    // clients.
    for manner in ["silent", "http", "closing"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let stranger = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut buffer = [0; 512];
                match manner {
                    "silent" => held.push(socket),
                    "http" => {
                        let _ = socket.read(&mut buffer).await;
                        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                        held.push(socket);
                    }
                    _ => drop(socket.read(&mut buffer).await),
                }
            }
        });
        let (error, text) = refused(&url).await;
        assert_eq!(error.kind(), ErrorKind::Backend, "{manner}: {text}");
        assert!(text.contains("does not speak Redis"), "{manner}: {text}");
        stranger.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_refused() {
    let master = RedisServer::start();
    let replica = RedisServer::start();
    replica.cli::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    let (error, text) = refused(&replica.url()).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(text.contains("replica"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_out_of_range_are_refused() {
    let server = RedisServer::start();
    let start = || RedisBackend::builder().url(server.url());
    for builder in [
        start().connections(0),
        start().connections(65),
        start().partitions(0),
        start().partitions(1025),
        start().command_timeout(Duration::ZERO),
        start().read_timeout(Duration::ZERO),
        start().write_timeout(Duration::ZERO),
    ] {
        assert_eq!(builder.connect().await.unwrap_err().kind(), ErrorKind::Config);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_open_once_on_the_clones_of_a_handle() {
    let server = RedisServer::start();
    let backend = RedisBackend::connect(server.url()).await.unwrap();
    let heard = Recorder::new();
    let spec = || RegionSpec::new("users", NodeId::random(), RECORD);
    let region = open(&backend, spec(), &heard).unwrap();

    let error = open(&backend.clone(), spec(), &heard).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.namespace(), Some("users"));
    open(&backend, RegionSpec::new("teams", NodeId::random(), RECORD), &heard).unwrap();
    let other = RedisBackend::connect(server.url()).await.unwrap();
    let _second_node = open(&other, spec(), &heard).unwrap();

    drop(region);
    open(&backend, spec(), &heard).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_namespaces_are_refused() {
    let server = RedisServer::start();
    let backend = RedisBackend::connect(server.url()).await.unwrap();
    for namespace in ["", "a{b", "a}b", "a\nb", &"x".repeat(129)] {
        let spec = RegionSpec::new(namespace, NodeId::random(), RECORD);
        assert_eq!(open(&backend, spec, &Recorder::new()).unwrap_err().kind(), ErrorKind::Config);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_pool_serves_and_keeps_its_size() {
    let server = RedisServer::start();
    let config = deadpool_redis::Config::from_url(server.url());
    let pool =
        config.builder().unwrap().max_size(1).runtime(deadpool_redis::Runtime::Tokio1).build().unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let backend = RedisBackend::from_pool(pool.clone(), client).await.unwrap();
    let node = Node::of(backend).await;
    let (_, value) = node.store(&key("k"), b"v").await;
    assert_eq!(node.read(&key("k")).await, Some(value));
    // The only connection of the pool is free for its owner.
    let mut connection = pool.get().await.unwrap();
    redis::cmd("PING").exec_async(&mut connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_everything_closes_every_connection() {
    let server = RedisServer::start();
    // The server still lists the test's own closed connections for a moment.
    eventually("an idle server", || (server.clients() == 0).then_some(())).await;
    let node = Node::on(&server).await;
    eventually("two connections for commands and one for the bus", || (server.clients() == 3).then_some(()))
        .await;
    let Node { region, backend, heard, .. } = node;
    drop(backend);
    // The region keeps what it needs.
    region.state(0).await.unwrap();
    assert_eq!(server.subscribers(), 1);
    drop((region, heard));
    eventually("no connection is left", || (server.clients() == 0).then_some(())).await;
    // Only internal parts of the runtime may be left, and no task of the backend.
    let metrics = tokio::runtime::Handle::current().metrics();
    eventually("no task is left", || (metrics.num_alive_tasks() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_region_unsubscribes_on_the_living_connection() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let channels = || server.cli::<Vec<String>>(&["PUBSUB", "CHANNELS"]).len();
    assert_eq!(channels(), 2);
    let other = Node::unsubscribed(node.backend.clone(), "other", RECORD);
    other.heard.heard(&async_cache_core::backend::BusEvent::Subscribed).await;
    assert_eq!((channels(), server.subscribers()), (4, 1));
    drop(other);
    eventually("its channels are gone", || (channels() == 2).then_some(())).await;
    // The other node still receives messages.
    let seq = node.region.clear(0).await.unwrap();
    node.heard.heard(&async_cache_core::backend::BusEvent::Cleared { partition: 0, seq }).await;

    // It is opened again at once, before the subscriber has closed the old region.
    let Node { region, backend, heard, .. } = node;
    drop(region);
    let again = Node::unsubscribed(backend, "ns", RECORD);
    again.heard.heard(&async_cache_core::backend::BusEvent::Subscribed).await;
    heard.forget();
    let seq = again.region.clear(0).await.unwrap();
    again.heard.heard(&async_cache_core::backend::BusEvent::Cleared { partition: 0, seq }).await;
    assert_eq!(heard.events(), [], "a region that is gone hears nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_sends_nothing_and_needs_no_server() {
    let server = RedisServer::start();
    let backend = RedisBackend::connect(server.url()).await.unwrap();
    server.kill();
    let spec = RegionSpec::new("users", NodeId::random(), RECORD);
    let start = Instant::now();
    let heard = Recorder::new();
    let listener: std::sync::Arc<dyn async_cache_core::backend::Listener> = heard.clone();
    let region = backend.open(spec, std::sync::Arc::downgrade(&listener)).unwrap();
    assert!(start.elapsed() < Duration::from_millis(50));
    assert_eq!(region.state(0).await.unwrap_err().kind(), ErrorKind::Backend);
}
