//! A backend that outlives the runtime on which it was connected, as a static backend does in tests. It
//! connects again on the runtime that uses it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_cache::testing::until;
use async_cache::{ErrorKind, MemoryBackend, RedisBackend, TieredCache};
use integration_tests::fleet::Cache;
use integration_tests::{Data, RedisServer};
use tokio::runtime::Runtime;

const AT_LAST: Duration = Duration::from_secs(30);

fn one_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn many_threads() -> Runtime {
    Runtime::new().expect("a runtime")
}

const RUNTIMES: [fn() -> Runtime; 2] = [one_thread, many_threads];

fn build(redis: &RedisBackend, namespace: &str) -> Cache {
    let builder = TieredCache::builder().namespace(namespace).l1(MemoryBackend::new(100));
    builder.l2(redis.clone()).build().expect("a valid cache")
}

/// Runs work on its own runtime, which then ends.
fn on<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let done = runtime.block_on(async { tokio::time::timeout(AT_LAST, work).await.expect("it hangs") });
    drop(runtime);
    done
}

/// A backend and a cache whose runtime has ended.
fn left_behind(server: &RedisServer, runtime: Runtime) -> (RedisBackend, Cache) {
    on(runtime, async {
        let patient =
            RedisBackend::builder().url(server.url()).command_timeout(AT_LAST).connect_timeout(AT_LAST);
        let redis = patient.connect().await.expect("the server answers");
        let cache = build(&redis, "rows");
        cache.ready().await.expect("the server answers");
        cache.insert("k", 1).await.expect("the server answers");
        (redis, cache)
    })
}

/// Another node of the namespace.
async fn another(server: &RedisServer) -> Cache {
    build(&RedisBackend::connect(server.url()).await.expect("the server answers"), "rows")
}

#[test]
fn a_backend_serves_on_one_runtime_after_the_other() {
    let server = RedisServer::start();
    for runtime in RUNTIMES {
        let (redis, cache) = left_behind(&server, runtime());
        for turn in 0..3 {
            on(runtime(), async {
                cache.ready().await.expect("it is connected again");
                assert!(cache.is_serving());
                cache.insert("k", turn).await.expect("the server answers");
                // It receives messages again.
                let other = another(&server).await;
                other.insert("k", 10 + turn).await.expect("the server answers");
                while cache.get("k").await.expect("the server answers").as_deref() != Some(&(10 + turn)) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                // A second cache on the same backend.
                let second = build(&redis, &format!("second {turn}"));
                second.ready().await.expect("the server answers");
                second.insert("k", turn).await.expect("the server answers");
                // Longer than the serving lease from its last heartbeat.
                tokio::time::sleep(Duration::from_millis(1_200)).await;
                assert!(cache.is_serving() && second.is_serving());
            });
        }
    }
}

/// A test that fails ends its runtime while its thread panics.
#[test]
fn a_backend_serves_after_a_runtime_that_ended_by_a_panic() {
    let server = RedisServer::start();
    let (_redis, cache) = left_behind(&server, one_thread());
    let fails = std::panic::AssertUnwindSafe(|| {
        on(one_thread(), async {
            cache.ready().await.expect("it is connected again");
            panic!("the test fails");
        });
    });
    std::panic::catch_unwind(fails).expect_err("it panics");
    on(one_thread(), async {
        cache.insert("k", 2).await.expect("it is connected again");
        cache.ready().await.expect("it is connected again");
    });
}

/// Every first call waits for the connection. None is refused because of the ended runtime.
#[test]
fn the_first_call_on_another_runtime_succeeds_whichever_it_is() {
    let server = RedisServer::start();
    const CALLS: [&str; 8] = ["get", "get_many", "insert", "invalidate", "tag", "clear", "load", "load_many"];
    for call in CALLS {
        let (_redis, cache) = left_behind(&server, one_thread());
        // The last heartbeat is too old, so L1 does not answer.
        std::thread::sleep(Duration::from_millis(1_100));
        on(many_threads(), async {
            let done = match call {
                "get" => cache.get("k").await.map(|found| assert_eq!(found.as_deref(), Some(&1))),
                "get_many" => cache
                    .get_many(["k", "absent"])
                    .await
                    .map(|found| assert_eq!(found[0].as_deref(), Some(&1))),
                "insert" => cache.insert("k", 2).await.map(drop),
                "invalidate" => cache.invalidate("k").await.map(drop),
                "tag" => cache.invalidate_tag("t").await.map(drop),
                "clear" => cache.invalidate_all().await.map(drop),
                "load" => cache.get_or_load("new", || async { Ok::<_, std::io::Error>(3) }).await.map(drop),
                _ => {
                    let load = |keys: Vec<String>| async move {
                        Ok::<_, std::io::Error>(
                            keys.into_iter().map(|key| (key, 3)).collect::<HashMap<_, _>>(),
                        )
                    };
                    cache.get_many_or_load(["new", "newer"], load).await.map(drop)
                }
            };
            done.unwrap_or_else(|error| panic!("{call}: {error:?}"));
            assert_eq!((cache.stats().l2_errors, cache.stats().pending_invalidations), (0, 0), "{call}");
        });
    }
}

/// The runtime of the connections ends while the cache is used on another runtime, on which it was built.
#[test]
fn a_cache_in_a_living_runtime_goes_on_when_that_of_its_backend_ends() {
    let server = RedisServer::start();
    let first = many_threads();
    let redis = first.block_on(async { RedisBackend::connect(server.url()).await.expect("it answers") });
    on(many_threads(), async {
        let cache = build(&redis, "rows");
        cache.ready().await.expect("the server answers");
        drop(tokio::task::spawn_blocking(move || drop(first)).await);
        // Longer than the serving lease from its last heartbeat.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        cache.ready().await.expect("it is connected again");
        until("changes are heard", || cache.is_serving()).await;
        cache.insert("k", 1).await.expect("the server answers");
        let second = build(&redis, "second");
        second.ready().await.expect("the server answers");
    });
}

/// While the server is away there is nothing to wait for. Calls return errors, and the cache recovers when the
/// server is back.
#[test]
fn a_server_that_is_away_when_the_runtime_changes_is_an_outage() {
    let server = Arc::new(RedisServer::start());
    let (_redis, cache) = left_behind(&server, one_thread());
    server.kill();
    on(many_threads(), async {
        let error = cache.get("absent").await.expect_err("it is away");
        assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
        let loaded = cache.get_or_load("new", || async { Ok::<_, std::io::Error>(3) }).await;
        assert_eq!(*loaded.expect("what L2 cannot answer is loaded"), 3);
        server.restart(Data::Drop);
        cache.ready().await.expect("it is back");
        cache.insert("k", 2).await.expect("it is back");
        cache.shutdown().await;
    });
}

/// Begins a load that never ends, on this runtime.
fn load_for_ever(runtime: Runtime, cache: &Cache) -> Runtime {
    let (cache, (begun, begins)) = (cache.clone(), std::sync::mpsc::channel());
    runtime.spawn(async move {
        let load = move || {
            begun.send(()).expect("the test waits for it");
            std::future::pending::<Result<u64, std::io::Error>>()
        };
        cache.get_or_load("k", load).await
    });
    // A runtime of one thread runs its tasks in `block_on` alone.
    while begins.try_recv().is_err() {
        runtime.block_on(tokio::time::sleep(Duration::from_millis(1)));
    }
    runtime
}

/// A cache whose lease lasts long.
fn patient(redis: RedisBackend) -> Cache {
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(100)).l2(redis);
    builder.lease_ttl(Duration::from_secs(60)).build().expect("a valid cache")
}

async fn loaded(cache: Cache) -> u64 {
    *cache.get_or_load("k", || async { Ok::<_, std::io::Error>(2) }).await.expect("it loads")
}

/// The runtime of a leader ends. Its lease lasts long, but the node knows that the load is gone.
#[test]
fn a_load_that_ends_with_its_runtime_keeps_nobody_waiting() {
    let server = RedisServer::start();
    // The tasks of the cache end with the runtime on which it was built, too.
    for (runtime, builds) in [(RUNTIMES[0], false), (RUNTIMES[1], false), (RUNTIMES[1], true)] {
        on(many_threads(), async {
            let redis = RedisBackend::connect(server.url()).await.expect("the server answers");
            let first = runtime();
            let cache = if builds {
                first.spawn(async { patient(redis) }).await.expect("it is built")
            } else {
                patient(redis)
            };
            cache.ready().await.expect("the server answers");
            let other = another(&server).await;
            let leads = cache.clone();
            let begins = tokio::task::spawn_blocking(move || load_for_ever(first, &leads));
            let first = begins.await.expect("it begins");
            let mut joined = Box::pin(loaded(cache.clone()));
            assert!(futures_util::poll!(&mut joined).is_pending(), "it joins the load");
            let waiting = tokio::spawn(loaded(other.clone()));
            until("it waits for the lease", || other.stats().in_flight > 0).await;
            tokio::task::spawn_blocking(move || drop(first)).await.expect("it ends");
            let ended = std::time::Instant::now();
            assert_eq!((joined.await, waiting.await.expect("no panic")), (2, 2));
            assert!(ended.elapsed() < Duration::from_secs(8), "the lease was kept for {:?}", ended.elapsed());
            cache.invalidate("k").await.expect("the server answers");
            cache.shutdown().await;
            other.shutdown().await;
        });
    }
}
