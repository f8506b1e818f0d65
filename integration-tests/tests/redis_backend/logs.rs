//! The log of a node that does not serve: it names the server and the cause.

use std::sync::{Arc, Mutex};
use std::{fmt, io};

use async_cache_core::TieredCache;
use async_cache_core::testing::until;
use async_cache_memory::MemoryBackend;
use async_cache_redis::RedisBackend;
use integration_tests::cluster::RedisCluster;
use integration_tests::{RedisServer, eventually};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Collects what this thread logs, but no details.
    fn collect(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .with_writer(self.clone())
            .with_max_level(tracing::Level::INFO)
            .with_ansi(false)
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    /// Waits for the first line with this text.
    async fn line(&self, what: &'static str) -> String {
        self.line_of("rows", what).await
    }

    /// Waits for the first line about a namespace with this text.
    async fn line_of(&self, namespace: &str, what: &'static str) -> String {
        let namespace = format!("namespace=\"{namespace}\"");
        eventually(what, || {
            let text = self.to_string();
            let mut lines = text.lines().filter(|line| line.contains(&namespace));
            lines.find(|line| line.contains(what)).map(ToOwned::to_owned)
        })
        .await
    }
}

impl Log {
    /// The number of lines with this text.
    fn count(&self, what: &str) -> usize {
        self.to_string().lines().filter(|line| line.contains(what)).count()
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0.lock().unwrap()).unwrap())
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn cache(backend: RedisBackend) -> TieredCache<u64, u64> {
    TieredCache::builder().namespace("rows").l1(MemoryBackend::new(10)).l2(backend).build().unwrap()
}

#[tokio::test]
async fn of_a_refusal() {
    let log = Log::default();
    let _guard = log.collect();
    let server = RedisServer::with_password("right");
    let url = format!("redis://:hunter2@127.0.0.1:{}", server.port());
    let _cache = cache(RedisBackend::connect_lazy(&*url).await.unwrap());
    let line = log.line("L2 does not permit this node what it needs").await;
    for part in ["namespace=\"rows\"", "wrong user name or password", &format!("127.0.0.1:{}", server.port())]
    {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!line.contains("hunter2"), "{line}");
}

/// One line, however often the change is tried again. Heartbeats need no such right, so the node serves.
#[tokio::test]
async fn of_refused_changes() {
    let log = Log::default();
    let _guard = log.collect();
    let server = RedisServer::start();
    server.set_user("app", "~* &* +@all");
    let cache = cache(RedisBackend::connect(server.url_as("app")).await.unwrap());
    cache.ready().await.unwrap();
    server.set_user("app", "-hset");
    cache.invalidate(&1).await.unwrap_err();
    let line = log.line("L2 does not permit this node what it needs").await;
    for part in ["what=changes", "docs/operations.md lists", &format!("127.0.0.1:{}", server.port())] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    until("it is tried again", || cache.stats().l2_errors >= 4).await;
    assert_eq!(log.count("L2 does not permit this node what it needs"), 1);
    server.set_user("app", "+hset");
    log.line("retried invalidations have landed").await;
}

/// A change of a tag is made in every partition. Their failures are one line, and so are their ends.
#[tokio::test]
async fn of_a_change_that_fails_in_every_partition() {
    let log = Log::default();
    let _guard = log.collect();
    let cluster = RedisCluster::start(2);
    let set = |rights: &str| cluster.nodes().iter().for_each(|node| node.set_user("app", rights));
    set("~* &* +@all");
    let urls = cluster.nodes().iter().map(|node| node.url_as("app"));
    let cache = cache(RedisBackend::builder().cluster(urls).connect().await.unwrap());
    cache.ready().await.unwrap();
    set("-hset");
    cache.invalidate_tag("t").await.unwrap_err();
    let line = log.line("an operation on L2 failed").await;
    assert!(line.contains("partitions=64"), "{line}");
    until("each is tried again", || cache.stats().l2_errors >= 3 * 64).await;
    let texts = ["an operation on L2 failed", "an invalidation could not be sent", "L2 does not permit"];
    let counts = texts.map(|text| log.count(text));
    assert_eq!(counts, [1, 1, 1], "the failure, what is pending, and the refusal:\n{log}");
    let line = log.line("an invalidation could not be sent").await;
    assert!(line.contains("pending=64"), "{line}");

    set("+hset");
    let line = log.line("retried invalidations have landed").await;
    assert!(line.contains("landed=64"), "{line}");
    assert_eq!(cache.stats().pending_invalidations, 0);
    assert_eq!(log.count("retried invalidations have landed"), 1, "{log}");
}

#[tokio::test]
async fn of_an_outage() {
    let log = Log::default();
    let _guard = log.collect();
    let server = RedisServer::start();
    let port = server.port();
    let cache = cache(RedisBackend::connect(server.url()).await.unwrap());
    cache.ready().await.unwrap();
    drop(server);
    let line = log.line("L2 cannot be reached").await;
    for part in ["namespace=\"rows\"", "cause=", &format!("127.0.0.1:{port}")] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

/// The first heartbeat finds the outage before any command has failed.
#[tokio::test]
async fn of_an_outage_at_the_start() {
    let log = Log::default();
    let _guard = log.collect();
    let server = RedisServer::start();
    let port = server.port();
    drop(server);
    let url = format!("redis://app:hunter2@127.0.0.1:{port}/3");
    let _cache = cache(RedisBackend::connect_lazy(&*url).await.unwrap());
    let line = log.line("L2 cannot be reached").await;
    for part in ["namespace=\"rows\"", "cause=", &format!("127.0.0.1:{port}"), "refused"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!line.contains("hunter2") && !line.contains("app"), "{line}");
}

/// Messages name the Sentinels that were asked, or the nodes of the cluster.
#[tokio::test]
async fn of_several_servers_that_are_away_at_the_start() {
    let log = Log::default();
    let _guard = log.collect();
    let ports = [RedisServer::start().port(), RedisServer::start().port()];
    let urls = ports.map(|port| format!("redis://app:hunter2@127.0.0.1:{port}"));
    for (namespace, builder) in [
        ("sentinels", RedisBackend::builder().sentinel("mymaster", urls.clone())),
        ("cluster", RedisBackend::builder().cluster(urls.clone())),
    ] {
        let backend = builder.connect_lazy().await.unwrap();
        let cache: TieredCache<u64, u64> = TieredCache::builder()
            .namespace(namespace)
            .l1(MemoryBackend::new(10))
            .l2(backend)
            .build()
            .unwrap();
        let line = log.line_of(namespace, "L2 cannot be reached").await;
        let named = ports.iter().filter(|port| line.contains(&format!("127.0.0.1:{port}"))).count();
        // Of a cluster, the node that was asked last.
        assert!(line.contains("cause=") && named >= if namespace == "cluster" { 1 } else { 2 }, "{line}");
        assert!(!line.contains("hunter2") && !line.contains("app"), "{line}");
        cache.shutdown().await;
    }
}

/// Only the second time there was something to hold.
#[tokio::test]
async fn of_a_start_and_of_the_end_of_a_fault() {
    let log = Log::default();
    let _guard = log.collect();
    let server = RedisServer::start();
    let _cache = cache(RedisBackend::connect(server.url()).await.unwrap());
    let started = log.line("L1 answers").await;
    assert!(!started.contains("again") && !started.contains("held"), "{started}");
    server.cli::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    let suspended = log.line("L1 may have missed changes").await;
    assert!(
        suspended.contains("cause=the connection for messages was lost outage_policy=\"ServeL1\""),
        "{suspended}"
    );
    assert!(!suspended.contains("suppressed"), "none was: {suspended}");
    assert!(log.line("L1 answers again").await.contains("held="));
}
