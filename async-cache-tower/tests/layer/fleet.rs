//! Two nodes, on an in-process L2 and on Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_cache::{MemoryBackend, RedisBackend, TieredCache};
use async_cache_tower::{CacheLayer, CacheTags, CachedResponse};
use axum::Extension;
use futures_util::future::join_all;
use integration_tests::RedisServer;

use crate::site::{Site, node, numbered};

const HEADERS: &[(&str, &str)] = &[
    ("cache-control", "max-age=600"),
    ("vary", "accept"),
    ("link", "</a>"),
    ("link", "</b>"),
    ("x-bytes", "a\u{e9}"),
];

/// Two instances of a site, whose handlers count their runs together.
fn instances(a: TieredCache<String, CachedResponse>, b: TieredCache<String, CachedResponse>) -> [Site; 2] {
    let runs = Arc::new(AtomicUsize::new(0));
    [a, b].map(|cache| {
        let runs = Arc::clone(&runs);
        Site::new(CacheLayer::new(cache).cache_status("test"), move |_, request| {
            let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
            (Extension(CacheTags::new([request.uri().path()])), numbered(run, HEADERS))
        })
    })
}

async fn share_responses_and_invalidations([a, b]: [Site; 2]) {
    let (here, there) =
        tokio::join!(join_all((0..50).map(|_| a.get("/page"))), join_all((0..50).map(|_| b.get("/page"))));
    assert!(here.iter().chain(&there).all(|answer| answer.text() == "1"), "one run in the fleet");
    for (name, count) in [("link", 2), ("x-bytes", 1), ("etag", 1), ("date", 1)] {
        let lines =
            |site: &crate::site::Answer| site.headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        assert_eq!(lines(&here[0]), lines(&there[0]), "{name} survives L2");
        assert_eq!(lines(&here[0]).len(), count);
    }

    // A stamp makes sure that the other node has heard.
    let stamp = a.layer.cache().invalidate_tag("/page").await.expect("the fleet answers");
    let key = "p0 example.org /page".to_owned();
    assert!(b.layer.cache().get(&key).at_least(&stamp).await.expect("L2 answers").is_none());
    assert_eq!(b.get("/page").await.text(), "2");
    assert_eq!(a.get("/page").await.text(), "2");

    // An unsafe method on one node drops the page on the other.
    assert_eq!(b.ask("POST", "/page", &[]).await.text(), "3");
    assert_eq!(b.get("/page").await.text(), "4", "the node that wrote sees its write");
    async_cache::testing::until("the other node hears", || {
        a.layer.cache().stats().invalidations_received > 1
    })
    .await;
    for _ in 0..3_000 {
        if a.get("/page").await.text() == "4" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the other node keeps the old page");
}

#[tokio::test]
async fn nodes_on_one_l2_share_responses_and_invalidations() {
    let l2 = MemoryBackend::new(1_000);
    share_responses_and_invalidations(instances(node(&l2), node(&l2))).await;
}

#[tokio::test]
async fn nodes_on_redis_share_responses_and_invalidations() {
    let server = RedisServer::start();
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let redis = RedisBackend::connect(server.url()).await.expect("a connection");
        let builder = TieredCache::builder().namespace("pages").l1(MemoryBackend::new(1_000));
        let node = builder.l2(redis).build().expect("a cache");
        node.ready().await.expect("Redis answers");
        nodes.push(node);
    }
    let [a, b] = <[_; 2]>::try_from(nodes).expect("two nodes");
    share_responses_and_invalidations(instances(a, b)).await;
}

/// All that a Redis stores, as bytes.
fn all_of(server: &RedisServer) -> Vec<u8> {
    let mut all = Vec::new();
    for key in server.cli::<Vec<String>>(&["KEYS", "*"]) {
        let read: &[&str] = match &*server.cli::<String>(&["TYPE", &key]) {
            "hash" => &["HGETALL", &key],
            "string" => &["MGET", &key],
            "zset" => &["ZRANGE", &key, "0", "-1"],
            "list" => &["LRANGE", &key, "0", "-1"],
            "set" => &["SMEMBERS", &key],
            other => panic!("{key} is a {other}"),
        };
        all.extend_from_slice(key.as_bytes());
        all.extend(server.cli::<Vec<Vec<u8>>>(read).concat());
    }
    all
}

#[tokio::test]
async fn the_headers_that_select_a_variant_are_not_readable_in_redis() {
    let server = RedisServer::start();
    let redis = RedisBackend::connect(server.url()).await.expect("a connection");
    let cache = TieredCache::builder().namespace("pages").l1(MemoryBackend::new(1_000)).l2(redis);
    let site = Site::with_headers(
        CacheLayer::new(cache.build().expect("a cache")).cache_status("test"),
        &[
            ("cache-control", "public, max-age=600"),
            ("vary", "cookie, authorization, proxy-authorization, x-api-key"),
            ("x-seen", "as-it-is"),
        ],
    );
    // Before it serves, L1 may refuse the response, and then it is not told as stored.
    site.layer.cache().ready().await.expect("Redis answers");
    let names = ["cookie", "authorization", "proxy-authorization", "x-api-key"];
    let headers = names.map(|name| (name, "secret-of-the-client"));
    for outcome in ["fwd=miss; stored", "hit"] {
        assert_eq!(site.ask("GET", "/", &headers).await.outcome(), outcome);
    }
    let all = all_of(&server);
    let has = |text: &str| all.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("as-it-is"), "the response is stored readably");
    assert!(!has("secret-of-the-client"));
}

#[tokio::test]
async fn a_redis_that_goes_away_fails_no_request() {
    let server = RedisServer::start();
    let redis = RedisBackend::connect(server.url()).await.expect("a connection");
    let cache = TieredCache::builder().namespace("pages").l1(MemoryBackend::new(1_000)).l2(redis);
    let cache = cache.build().expect("a cache");
    let site =
        Site::with_headers(CacheLayer::new(cache).cache_status("test"), &[("cache-control", "max-age=600")]);
    let cache = site.layer.cache();
    cache.ready().await.expect("Redis answers");
    async_cache::testing::until("L1 serves", || cache.is_serving()).await;
    assert_eq!(site.get("/").await.text(), "1");
    drop(server);
    assert_eq!(site.get("/").await.text(), "1", "L1 answers");
    assert_eq!(site.get("/new").await.text(), "2", "the handler answers");
    assert_eq!(site.ask("POST", "/", &[]).await.text(), "3");
    assert_eq!(site.get("/").await.text(), "4", "the write is seen here");
}
