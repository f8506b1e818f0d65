//! Servers that Sentinels watch: which server a connection is made to, and what is said if there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_cache_core::backend::{BusEvent, Check};
use async_cache_core::{Error, ErrorKind};
use async_cache_redis::{Credentials, RedisBackend, RedisBackendBuilder, Tls};
use integration_tests::ports::free_port;
use integration_tests::sentinels::{MASTER, watching};
use integration_tests::stub::{Stub, bulk};
use integration_tests::{Data, RedisServer, eventually};
use parking_lot::Mutex;

use crate::certificates::{Authority, TlsServer, Validity};
use crate::rig::{Node, key};

/// Time enough for a machine that has other things to do.
const TIME: Duration = Duration::from_secs(8);

fn builder(urls: &[&str]) -> RedisBackendBuilder {
    RedisBackend::builder().sentinel(MASTER, urls.iter().copied()).connect_timeout(TIME).command_timeout(TIME)
}

async fn refused(urls: &[&str]) -> Error {
    // All that is waited for is there at once.
    let connecting = builder(urls).connect_timeout(Duration::from_secs(2)).connect();
    connecting.await.expect_err("there is no master")
}

/// The channel of the namespace `ns`.
const BUS: &str = "{ns:0}bus";

/// The node's commands and messages go to this server.
async fn works_on(node: &Node, server: &RedisServer) {
    node.store(&key("k"), b"v").await;
    let seq = node.region.clear(0).await.unwrap();
    node.heard.heard(&BusEvent::Cleared { partition: 0, seq }).await;
    assert_eq!(server.listeners(BUS), 1, "the subscriber of the node");
    assert_eq!(server.cli::<u64>(&["EXISTS", "{ns:0}M"]), 1);
}

/// A Sentinel that a test makes up: it names a server, and tells the number of the configuration.
async fn naming(port: u16, epoch: u64) -> Stub {
    Stub::start(move |words| answer(words, port, epoch)).await
}

fn answer(words: &[String], port: u16, epoch: u64) -> Option<String> {
    if words[0] != "SENTINEL" {
        return None;
    }
    let fields = match words[1].as_str() {
        "GET-MASTER-ADDR-BY-NAME" => vec!["127.0.0.1".to_owned(), port.to_string()],
        _ => vec!["config-epoch".to_owned(), epoch.to_string()],
    };
    let texts: String = fields.iter().map(|field| bulk(field)).collect();
    Some(format!("*{}\r\n{texts}", fields.len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_go_to_the_master_that_a_sentinel_names() {
    let server = RedisServer::start();
    let sentinel = RedisServer::sentinel(&watching(server.port(), 1));
    let node = Node::of(builder(&[&sentinel.url()]).connect().await.unwrap()).await;
    works_on(&node, &server).await;
    assert!(format!("{:?}", node.backend).contains(MASTER), "{:?}", node.backend);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_of_the_url_is_the_servers() {
    let server = RedisServer::start();
    let sentinel = RedisServer::sentinel(&watching(server.port(), 1));
    let node = Node::of(builder(&[&format!("{}/3", sentinel.url())]).connect().await.unwrap()).await;
    node.store(&key("k"), b"v").await;
    assert!(server.cli::<String>(&["INFO", "keyspace"]).contains("db3:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_that_is_down_or_hangs_is_passed_over() {
    let server = RedisServer::start();
    let lines = watching(server.port(), 1);
    let (sentinel, hangs) = (RedisServer::sentinel(&lines), RedisServer::sentinel(&lines));
    hangs.pause();
    let down = format!("redis://127.0.0.1:{}", free_port());
    let connecting = builder(&[&down, &hangs.url(), &sentinel.url()]).connect();
    works_on(&Node::of(connecting.await.unwrap()).await, &server).await;
    hangs.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_that_names_a_replica_is_not_believed() {
    let (master, replica) = (RedisServer::start(), RedisServer::start());
    replica.cli::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    // It even has the newest configuration, as a Sentinel has whose failover is just being made.
    let (liar, other) = (naming(replica.port(), 9).await, naming(master.port(), 8).await);
    let node = Node::of(builder(&[&liar.url(), &other.url()]).connect().await.unwrap()).await;
    works_on(&node, &master).await;

    let error = refused(&[&liar.url()]).await;
    assert_eq!(error.kind(), ErrorKind::Backend, "a failover may end: {error}");
    let text = format!("{error} {error:?}");
    for part in ["replica", &replica.port().to_string(), &liar.port().to_string(), MASTER] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_taken_as_soon_as_it_has_been_promoted() {
    let (master, replica) = (RedisServer::start(), RedisServer::start());
    replica.cli::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    let asked = Arc::new(AtomicUsize::new(0));
    let (port, count) = (replica.port(), Arc::clone(&asked));
    let sentinel = Stub::start(move |words| {
        count.fetch_add(1, Ordering::Relaxed);
        answer(words, port, 1)
    })
    .await;
    let connecting = tokio::spawn(builder(&[&sentinel.url()]).connect().into_future());
    eventually("it is asked more than once", || (asked.load(Ordering::Relaxed) > 8).then_some(())).await;
    replica.cli::<()>(&["REPLICAOF", "NO", "ONE"]);
    works_on(&Node::of(connecting.await.unwrap().unwrap()).await, &replica).await;
}

/// A Sentinel that was cut off goes on naming the old master, which has come back and says that it is one.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_masters_the_one_with_the_newer_configuration_is_used() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let (behind, current) = (naming(old.port(), 1).await, naming(new.port(), 2).await);
    for urls in [[behind.url(), current.url()], [current.url(), behind.url()]] {
        let node = Node::of(builder(&[&urls[0], &urls[1]]).connect().await.unwrap()).await;
        works_on(&node, &new).await;
        assert_eq!(old.listeners(BUS), 0);
        drop(node);
        eventually("it is closed", || (new.listeners(BUS) == 0).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_sentinel_connections_live_and_new_ones_wait() {
    let server = RedisServer::start();
    let sentinel = RedisServer::sentinel(&watching(server.port(), 1));
    let node = Node::of(builder(&[&sentinel.url()]).connect().await.unwrap()).await;
    sentinel.kill();
    works_on(&node, &server).await;

    let error = refused(&[&sentinel.url()]).await;
    assert_eq!(error.kind(), ErrorKind::Backend);
    let text = error.to_string();
    assert!(text.contains("refused") && text.contains(&sentinel.port().to_string()), "{text}");
    assert_eq!(text.matches("finding the master").count(), 1, "{text}");

    node.heard.forget();
    server.cli::<()>(&["CLIENT", "KILL", "TYPE", "normal"]);
    server.cli::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    node.heard.heard(&BusEvent::Lost).await;
    while node.region.read_one(&key("k"), Check::Plain).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sentinel.restart(Data::Keep);
    node.heard.heard(&BusEvent::Subscribed).await;
    while node.region.state(0).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    works_on(&node, &server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_can_be_built_before_the_sentinels_run() {
    let server = RedisServer::start();
    let sentinel = RedisServer::sentinel(&watching(server.port(), 1));
    sentinel.kill();
    let lazy =
        builder(&[&sentinel.url()]).connect_timeout(Duration::from_secs(2)).connect_lazy().await.unwrap();
    sentinel.restart(Data::Keep);
    let node = Node::of(lazy).await;
    while node.region.state(0).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    works_on(&node, &server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_change_of_settings_mends_is_told_at_once() {
    let server = RedisServer::start();
    let sentinel = RedisServer::sentinel(&watching(server.port(), 1));
    let config = async |builder: RedisBackendBuilder| {
        let error = builder.connect().await.expect_err("it is refused");
        assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
        format!("{error} {error:?}")
    };
    let unknown = RedisBackend::builder().sentinel("another", [sentinel.url()]).connect_timeout(TIME);
    let text = config(unknown).await;
    assert!(text.contains("`another`") && text.contains(&sentinel.port().to_string()), "{text}");
    // A Sentinel that is down cannot make it right, because it is outvoted.
    let (second, down) = (RedisServer::sentinel(&watching(server.port(), 1)), RedisServer::sentinel(""));
    down.kill();
    let urls = [sentinel.url(), down.url(), second.url()];
    let text = config(RedisBackend::builder().sentinel("another", urls).connect_timeout(TIME)).await;
    assert!(text.contains("`another`") && text.contains(&down.port().to_string()), "{text}");
    let urls = [sentinel.url(), down.url()];
    let halves = RedisBackend::builder().sentinel("another", urls).connect_timeout(Duration::from_secs(2));
    let error = halves.connect().await.expect_err("nobody knows it");
    assert_eq!(error.kind(), ErrorKind::Backend, "the other one may know it: {error}");
    let text = config(builder(&[&server.url()])).await;
    assert!(text.contains("no Sentinel"), "{text}");

    for (urls, part) in [
        (&[][..], "1 to 32"),
        (&["http://h"], "wrong Redis URL"),
        (&["unix:///s"], "a host and a port"),
        (&["redis://:hunter2@a", "redis://:hunter3@b"], "differ"),
        (&["redis://a/1", "redis://b"], "differ"),
        (&["redis://a", "rediss://b"], "differ"),
    ] {
        let text = config(builder(urls)).await;
        assert!(text.contains(part) && !text.contains("hunter"), "{part}: {text}");
    }
    let text = config(RedisBackend::builder().sentinel("", ["redis://a"])).await;
    assert!(text.contains("name"), "{text}");
    let text = config(builder(&["redis://a"]).sentinel_tls(Tls::new())).await;
    assert!(text.contains("rediss://"), "{text}");
    let own = || async { Ok(Credentials::new("", "x")) };
    let text = config(RedisBackend::builder().url(server.url()).sentinel_credentials(own)).await;
    assert!(text.contains("`sentinel`"), "{text}");
}

/// Without a port in its URL, a Sentinel is asked at the port that Sentinels have.
#[tokio::test]
async fn the_port_of_a_sentinel_may_be_left_out() {
    for url in ["redis://127.0.0.1", "rediss://127.0.0.1/2", "redis://:x@127.0.0.1/"] {
        let lazy = builder(&[url]).connect_timeout(Duration::from_millis(50)).connect_lazy().await.unwrap();
        assert!(format!("{lazy:?}").contains("127.0.0.1:26379"), "{lazy:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_is_told_the_servers_password_if_it_asks_for_one() {
    let server = RedisServer::with_password("horse");
    let lines = format!("{}sentinel auth-pass {MASTER} horse\n", watching(server.port(), 1));
    let sentinel = RedisServer::sentinel_with_password(&lines, "horse");
    let node = Node::of(builder(&[&sentinel.url()]).connect().await.unwrap()).await;
    works_on(&node, &server).await;

    // One that asks for none is told none.
    let (port, heard) = (server.port(), Arc::new(Mutex::new(Vec::new())));
    let words_heard = Arc::clone(&heard);
    let open = Stub::start(move |words| {
        words_heard.lock().extend(words.iter().cloned());
        answer(words, port, 1)
    })
    .await;
    let provider = || async { Ok(Credentials::new("", "horse")) };
    let node = Node::of(builder(&[&open.url()]).credentials(provider).connect().await.unwrap()).await;
    node.store(&key("k"), b"v").await;
    let heard = heard.lock().clone();
    assert!(heard.contains(&"SENTINEL".to_owned()) && !heard.contains(&"horse".to_owned()), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_may_have_a_password_of_their_own() {
    let server = RedisServer::with_password("horse");
    let lines = format!("{}sentinel auth-pass {MASTER} horse\n", watching(server.port(), 1));
    let sentinel = RedisServer::sentinel_with_password(&lines, "cow");
    let url = format!("redis://:horse@127.0.0.1:{}", sentinel.port());
    let error = builder(&[&url]).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    let text = format!("{error} {error:?}");
    assert!(
        text.contains("the Sentinel at") && text.contains("password") && !text.contains("horse"),
        "{text}"
    );

    let own = || async { Ok(Credentials::new("", "cow")) };
    let node = Node::of(builder(&[&url]).sentinel_credentials(own).connect().await.unwrap()).await;
    works_on(&node, &server).await;
    assert!(!format!("{:?}", node.backend).contains("horse"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_servers_are_reached_by_tls_each_with_its_own_settings() {
    let (authority, other) = (Authority::new(), Authority::named("of the Sentinels"));
    let server = TlsServer::of(&authority);
    let files = tempfile::TempDir::with_prefix("async-cache-tls-").unwrap();
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let shown = other.sign("127.0.0.1", Validity::Now);
    let tls_port = free_port();
    let lines = format!(
        "tls-port {tls_port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients no\n{}",
        file("s.pem", &shown.certificate),
        file("s.key", &shown.key),
        file("ca.pem", &other.pem()),
        watching(server.port, 1),
    );
    let sentinel = RedisServer::sentinel(&lines);
    let url = format!("rediss://127.0.0.1:{tls_port}");
    let of_servers = || Tls::new().ca(authority.pem());
    let by_tls = builder(&[&url]).tls(of_servers()).sentinel_tls(Tls::new().ca(other.pem()));
    works_on(&Node::of(by_tls.connect().await.unwrap()).await, &server.server).await;

    let error = builder(&[&url]).tls(of_servers()).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(error.to_string().contains("the Sentinel at"), "{error}");

    // The servers alone.
    let plain = builder(&[&sentinel.url()]).tls(of_servers()).connect().await.unwrap();
    let node = Node::of(plain).await;
    works_on(&node, &server.server).await;
}
