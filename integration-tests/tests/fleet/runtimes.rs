//! A backend whose runtime has ended: every call says so, and none hangs.

use std::time::Duration;

use async_cache::testing::until;
use async_cache::{Error, ErrorKind, MemoryBackend, RedisBackend, TieredCache};
use integration_tests::RedisServer;
use integration_tests::fleet::Cache;
use tokio::runtime::Runtime;

const AT_LAST: Duration = Duration::from_secs(30);

fn runtimes() -> [Runtime; 2] {
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build();
    [one.expect("a runtime"), Runtime::new().expect("a runtime")]
}

fn build(redis: &RedisBackend) -> async_cache::Result<Cache> {
    TieredCache::builder().namespace("rows").l1(MemoryBackend::new(100)).l2(redis.clone()).build()
}

async fn says_so<T>(what: &str, call: impl Future<Output = Result<T, Error>>) {
    let outcome = tokio::time::timeout(AT_LAST, call).await.unwrap_or_else(|_| panic!("{what} hangs"));
    let Err(error) = outcome else { panic!("{what} succeeded") };
    assert_eq!(error.kind(), ErrorKind::Shutdown, "{what}: {error}");
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    assert!(text.contains("runtime") && text.contains("has ended"), "{what}: {text}");
    assert!(!text.to_lowercase().contains("broken pipe"), "{what}: {text}");
}

#[test]
fn every_call_says_that_the_runtime_of_the_backend_has_ended() {
    let server = RedisServer::start();
    for first in runtimes() {
        let (redis, cache) = first.block_on(async {
            let redis = RedisBackend::connect(server.url()).await.expect("the server answers");
            let cache = build(&redis).expect("a valid cache");
            until("it serves", || cache.is_serving()).await;
            cache.insert("k", 1).await.expect("the server answers");
            (redis, cache)
        });
        drop(first);
        let [second, _] = runtimes();
        second.block_on(async {
            says_so("build", async { build(&redis).map(drop) }).await;
            until("its last heartbeat is too old", || !cache.is_serving()).await;
            says_so("ready", cache.ready()).await;
            says_so("get", async { cache.get("absent").await }).await;
            says_so("get_many", async { cache.get_many(["absent", "k2"]).await }).await;
            says_so("insert", async { cache.insert("k", 2).await }).await;
            says_so("invalidate", async { cache.invalidate("k").await }).await;
            says_so("invalidate_tag", async { cache.invalidate_tag("t").await }).await;
            says_so("invalidate_all", async { cache.invalidate_all().await }).await;
            let loaded = async { cache.get_or_load("new", || async { Ok::<_, Error>(3) }).await };
            let loaded = tokio::time::timeout(AT_LAST, loaded).await.expect("a lookup hangs");
            assert_eq!(*loaded.expect("what L2 cannot answer is loaded"), 3);
            tokio::time::timeout(AT_LAST, cache.shutdown()).await.expect("shutdown hangs");
            // What to do: connect again.
            let again = RedisBackend::connect(server.url()).await.expect("the server answers");
            let cache = build(&again).expect("a valid cache");
            cache.ready().await.expect("the server answers");
        });
    }
}
