//! Reads and changes have separate deadlines.

use std::time::{Duration, Instant};

use async_cache::{MemoryBackend, TieredCache};
use async_cache_core::backend::{Announce, Check, Fill, Lease};
use async_cache_core::{Result, Tags};
use async_cache_redis::RedisBackend;
use integration_tests::proxy::{Conditions, Flow, Proxy, Route};
use integration_tests::{RedisServer, eventually};

use crate::rig::{LIFE, Node, TTL, frame, key};

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(30);
/// The delay in each direction. Two of them are longer than the short deadline.
const DELAY: Duration = Duration::from_millis(80);

/// A node with one connection, so that an answer in time resets the count of late answers.
async fn node(server: &RedisServer, proxy: &Proxy, read: Duration, write: Duration) -> Node {
    let builder = RedisBackend::builder().url(server.url_at(proxy.port())).connections(1);
    let node = Node::of(builder.read_timeout(read).write_timeout(write).connect().await.unwrap()).await;
    proxy.set(Route::Commands, Conditions { delay: DELAY, ..Conditions::default() });
    node
}

const READS: [&str; 8] =
    ["get", "get_many", "get_valid", "get_many_valid", "baseline", "heartbeat", "acquire", "acquire_many"];
const CHANGES: [&str; 10] = [
    "fill",
    "fill_many",
    "renew",
    "renew_many",
    "release",
    "release_many",
    "put",
    "invalidate",
    "clear",
    "invalidate_tags",
];

async fn run(node: &Node, operation: &str) -> Result<()> {
    let (region, k) = (&node.region, key("k"));
    let (token, life) = (node.token(), LIFE);
    let (lease, frame) = (Lease { token, seq: 1 }, frame(token, b"v"));
    let (two, held) = ([k.clone(), key("k2")], [(k.clone(), lease), (key("k2"), lease)]);
    match operation {
        "get" => region.read_one(&k, Check::Plain).await.map(drop),
        "get_many" => region.read(&two, Check::Plain).await.map(drop),
        "get_valid" => region.read_one(&k, Check::Valid).await.map(drop),
        "get_many_valid" => region.read(&two, Check::Valid).await.map(drop),
        "baseline" => region.baseline(0, None).await.map(drop),
        "heartbeat" => region.heartbeat(0, 1).await.map(drop),
        "acquire" => region.acquire_one(&key("other"), node.ask()).await.map(drop),
        "acquire_many" => {
            let asks = ["third", "fourth"].map(|name| (key(name), node.ask()));
            region.acquire(&asks).await.into_iter().collect::<Result<Vec<_>>>().map(drop)
        }
        "fill" => region
            .fill_one(Fill { key: k.clone(), lease, frame, life, announce: Announce::No })
            .await
            .map(drop),
        "fill_many" => {
            let fill = |key| Fill { key, lease, frame: frame.clone(), life, announce: Announce::No };
            region.fill(&two.map(fill)).await.into_iter().collect::<Result<Vec<_>>>().map(drop)
        }
        "renew" => region.renew_one(&k, lease, TTL).await.map(drop),
        "renew_many" => region.renew(&held, TTL).await.map(drop),
        "release" => region.release_one(&k, lease).await,
        "release_many" => region.release(&held).await,
        "put" => region.put(&[(k, frame)], life, u64::MAX >> 12).await.map(drop),
        "invalidate" => region.invalidate(&[k]).await.map(drop),
        "clear" => region.clear(0).await.map(drop),
        "invalidate_tags" => region.invalidate_tags(0, &Tags::new(["t"]).unwrap()).await.map(drop),
        other => unreachable!("{other}"),
    }
}

async fn in_time(node: &Node, operation: &str) {
    run(node, operation).await.unwrap_or_else(|error| panic!("{operation}: {error}"));
}

async fn out_of_time(node: &Node, operation: &str) {
    let asked = Instant::now();
    let error = run(node, operation).await.expect_err(operation);
    assert!(error.to_string().contains("did not answer within 100ms"), "{operation}: {error}");
    assert!(asked.elapsed() < LONG / 4, "{operation}: {:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_have_a_deadline_of_their_own() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let node = node(&server, &proxy, SHORT, LONG).await;
    for (read, change) in READS.into_iter().cycle().zip(CHANGES) {
        out_of_time(&node, read).await;
        in_time(&node, change).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_have_a_deadline_of_their_own() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let node = node(&server, &proxy, LONG, SHORT).await;
    assert_eq!(node.region.info().deadline, SHORT);
    for (read, change) in READS.into_iter().cycle().zip(CHANGES) {
        out_of_time(&node, change).await;
        in_time(&node, read).await;
    }
}

/// 1. An insert is delayed on its way.
/// 2. Its deadline passes, and its caller gets an error.
/// 3. The insert arrives. It is too late to be executed, even if the deadline for reads is longer.
#[tokio::test(flavor = "multi_thread")]
async fn an_insert_that_was_given_up_is_not_executed() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let builder = RedisBackend::builder().url(server.url_at(proxy.port())).read_timeout(LONG);
    let cache: TieredCache<u64, u64> = TieredCache::builder()
        .namespace("rows")
        .l1(MemoryBackend::new(10))
        .l2(builder.write_timeout(SHORT).connect().await.unwrap())
        .build()
        .unwrap();
    eventually("the node serves", || cache.is_serving().then_some(())).await;
    proxy.set(Route::Commands, Conditions { flow: Flow::Stalled, ..Conditions::default() });
    let error = cache.insert(&1, 1).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    proxy.clear();
    let refused = || server.cli::<String>(&["INFO", "errorstats"]).contains("errorstat_LATE").then_some(());
    eventually("it is refused as too late", refused).await;
}
