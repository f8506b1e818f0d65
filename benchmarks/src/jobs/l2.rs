//! L2: single hits, many hits at once, and misses of all tiers.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_cache::{Bincode, Codec, MemoryBackend, RedisBackend, TieredCache};
use bytes::Bytes;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde_json::json;
use tokio::runtime::Runtime;

use super::{Row, percentile, runtime, settled};
use crate::Context;
use crate::contest::{Side, contest};
use crate::distant::Distant;
use crate::report::Table;

const KEYS: u64 = 1000;
/// Factor for the number of rounds in jobs with short rounds. With one lookup after another, a round depends
/// on whether its threads share a core.
const SHORT: usize = 3;

/// A cache without an L1: every hit comes from L2.
fn shared(runtime: &Runtime, url: &str, bytes: usize) -> TieredCache<u64, Row> {
    runtime.block_on(async {
        let redis = RedisBackend::connect(url).await.expect("Redis");
        let cache: TieredCache<u64, Row> =
            TieredCache::builder().namespace(format!("l2-{bytes}")).l2(redis).build().expect("a cache");
        cache.insert_many((0..KEYS).map(|i| (i, Row::new(i, bytes)))).await.expect("an insert");
        settled(&cache).await;
        cache
    })
}

fn bare(runtime: &Runtime, url: &str, bytes: usize) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("a client");
    runtime.block_on(async {
        // Nagle's algorithm is off, as on every side.
        let config = redis::AsyncConnectionConfig::new();
        let info = client.get_connection_info().clone();
        let info = info.clone().set_tcp_settings(info.tcp_settings().clone().set_nodelay(true));
        let client = redis::Client::open(info).expect("a client");
        let mut connection =
            client.get_multiplexed_async_connection_with_config(&config).await.expect("a connection");
        for i in 0..KEYS {
            let mut encoded = Vec::new();
            Bincode.encode(&Row::new(i, bytes), &mut encoded).expect("an encoding");
            let _: () = connection.set(format!("bare-{bytes}:{i}"), encoded).await.expect("SET");
        }
        connection
    })
}

fn decode(bytes: &[u8]) -> Arc<Row> {
    Arc::new(Bincode.decode(bytes).expect("what was encoded"))
}

/// Runs `operations` in `tasks` tasks. Returns operations per second.
fn rate<F>(runtime: &Runtime, tasks: u64, operations: u64, operate: impl Fn(u64) -> F) -> f64
where
    F: Future<Output = ()> + Send + 'static,
{
    let each = (operations / tasks).max(1);
    runtime.block_on(async {
        let start = Instant::now();
        let running: Vec<_> = (0..tasks).map(|task| tokio::spawn(operate(task * each))).collect();
        for task in running {
            task.await.expect("a task");
        }
        (tasks * each) as f64 / start.elapsed().as_secs_f64()
    })
}

pub(crate) fn throughput(context: &Context) -> Table {
    let mut table = Table::new("L2 hit, throughput", "lookups per second").more_is_better();
    let (runtime, url) = (runtime(), context.redis.url());
    for (bytes, name) in [(100, "100 B"), (1024, "1 KiB"), (65_536, "64 KiB")] {
        let (cache, connection) = (shared(&runtime, &url, bytes), bare(&runtime, &url, bytes));
        let pool = deadpool_redis::Config::from_url(&url)
            .create_pool(Some(deadpool_redis::Runtime::Tokio1))
            .expect("a pool");
        for tasks in [64, 256] {
            let operations = if bytes > 10_000 { 4_096 } else { 32_768 };
            let each = operations / tasks;
            let runtime = &runtime;
            let mut sides = vec![
                Side::new("async-cache", || {
                    rate(runtime, tasks, operations, |from| {
                        let cache = cache.clone();
                        async move {
                            for i in from..from + each {
                                black_box(cache.get(&(i % KEYS)).await.expect("L2").expect("a hit"));
                            }
                        }
                    })
                }),
                Side::new("bare GET", || {
                    rate(runtime, tasks, operations, |from| {
                        let mut connection = connection.clone();
                        async move {
                            for i in from..from + each {
                                let key = format!("bare-{bytes}:{}", i % KEYS);
                                let value: Bytes = connection.get(key).await.expect("GET");
                                black_box(decode(&value));
                            }
                        }
                    })
                }),
                Side::new("connection held per command", || {
                    rate(runtime, tasks, operations, |from| {
                        let pool = pool.clone();
                        async move {
                            for i in from..from + each {
                                let key = format!("bare-{bytes}:{}", i % KEYS);
                                let mut connection = pool.get().await.expect("a connection");
                                let value: Bytes = connection.get(key).await.expect("GET");
                                drop(connection);
                                black_box(decode(&value));
                            }
                        }
                    })
                }),
            ];
            let ask = json!({
                "redis": url, "tasks": tasks, "bytes": bytes, "operations": operations, "unit": "lookups/s",
            });
            sides.extend(context.peers.sides("l2", &ask));
            table.row(format!("{tasks} tasks, {name}"), Some("bare GET"), contest(context.rounds, sides));
        }
    }
    many(context, &runtime, &mut table);
    table
}

fn many(context: &Context, runtime: &Runtime, table: &mut Table) {
    let url = context.redis.url();
    let (cache, connection) = (shared(runtime, &url, 100), bare(runtime, &url, 100));
    let keys: Vec<u64> = (0..100).collect();
    let sides = vec![
        Side::new("async-cache", || {
            runtime.block_on(async {
                let start = Instant::now();
                for _ in 0..500 {
                    black_box(cache.get_many(&keys).await.expect("L2"));
                }
                50_000.0 / start.elapsed().as_secs_f64()
            })
        }),
        Side::new("bare GET", || {
            runtime.block_on(async {
                let mut connection = connection.clone();
                let start = Instant::now();
                for _ in 0..500 {
                    let names: Vec<String> = keys.iter().map(|i| format!("bare-100:{i}")).collect();
                    let values: Vec<Bytes> = connection.mget(names).await.expect("MGET");
                    let rows: Vec<Arc<Row>> = values.iter().map(|value| decode(value)).collect();
                    black_box(rows);
                }
                50_000.0 / start.elapsed().as_secs_f64()
            })
        }),
    ];
    table.row("`get_many` of 100 (bare: MGET)", Some("bare GET"), contest(context.rounds, sides));
}

/// The median time of sequential operations, in µs. They run in a task, as in a service, and not on
/// the thread that waits for the runtime.
fn median<F>(runtime: &Runtime, times: u64, mut operate: impl FnMut(u64) -> F + Send + 'static) -> f64
where
    F: Future + Send,
{
    let task = async move {
        let mut samples = Vec::new();
        for i in 0..times {
            let start = Instant::now();
            operate(i).await;
            samples.push(start.elapsed().as_nanos() as f64 / 1000.0);
        }
        percentile(&mut samples, 0.5)
    };
    runtime.block_on(runtime.spawn(task)).expect("a task")
}

fn bare_get(runtime: &Runtime, connection: MultiplexedConnection, times: u64) -> Side<'_> {
    Side::new("bare GET", move || {
        let connection = connection.clone();
        median(runtime, times, move |i| {
            let mut connection = connection.clone();
            async move {
                let value: Bytes = connection.get(format!("bare-100:{}", i % KEYS)).await.expect("GET");
                black_box(decode(&value));
            }
        })
    })
}

pub(crate) fn latency(context: &Context) -> Table {
    let mut table = Table::new("L2 hit, latency", "µs, median of 1,000");
    let (runtime, url) = (runtime(), context.redis.url());
    let (cache, connection) = (shared(&runtime, &url, 100), bare(&runtime, &url, 100));
    let ours = Side::new("async-cache", || {
        let cache = cache.clone();
        median(&runtime, 1000, move |i| {
            let cache = cache.clone();
            async move { drop(black_box(cache.get(&(i % KEYS)).await.expect("L2").expect("a hit"))) }
        })
    });
    let mut sides = vec![ours, bare_get(&runtime, connection, 1000)];
    let ask = json!({ "redis": url, "tasks": 1, "bytes": 100, "operations": 1000, "unit": "µs" });
    sides.extend(context.peers.sides("l2", &ask));
    table.row("1 task, 100 B", Some("bare GET"), contest(context.rounds * SHORT, sides));
    table
}

/// The latency to the distant server, in each direction.
const AWAY: Duration = Duration::from_millis(1);

pub(crate) fn cold(context: &Context) -> Table {
    let mut table = Table::new("Cold miss with a loader that is ready at once", "µs, median");
    let (runtime, url) = (runtime(), context.redis.url());
    let distant = Distant::from(context.redis.port(), AWAY);
    let here = ("Redis on loopback", url, 1000, context.rounds * SHORT);
    let away = ("Redis 1 ms away, each way", distant.url(), 100, context.rounds);
    for (case, url, times, rounds) in [here, away] {
        let mut sides = missing(&runtime, &url, times);
        let ask = json!({ "redis": url, "operations": times, "bytes": 100 });
        sides.extend(context.peers.sides("cold", &ask));
        table.row(case, Some("bare GET"), contest(rounds, sides));
    }
    table.note("A bare GET is one round trip. A miss takes two commands, which are scripts: on loopback what they take in Redis, 9 µs each, and the tasks of the client count for more than the way.");
    table
}

fn missing<'a>(runtime: &'a Runtime, url: &str, times: u64) -> Vec<Side<'a>> {
    let connection = bare(runtime, url, 100);
    let cache = runtime.block_on(async {
        let redis = RedisBackend::connect(url).await.expect("Redis");
        let l1 = MemoryBackend::new(10_000);
        let cache: TieredCache<u64, Row> = TieredCache::builder()
            .namespace(format!("cold-{times}"))
            .l1(l1)
            .l2(redis)
            .build()
            .expect("a cache");
        settled(&cache).await;
        // Repeats misses until the cache skips the plain read.
        for key in 0..100 {
            drop(cache.get_or_load(&key, || std::future::ready(Ok::<_, Infallible>(Row::new(0, 100)))).await);
        }
        cache
    });
    let mut round = 0;
    let ours = Side::new("async-cache", move || {
        round += 1;
        let (cache, from) = (cache.clone(), round * 1000);
        median(runtime, times, move |i| {
            let (cache, key) = (cache.clone(), from + i);
            async move {
                let load = move || std::future::ready(Ok::<_, Infallible>(Row::new(key, 100)));
                drop(black_box(cache.get_or_load(&key, load).await.expect("a load")));
            }
        })
    });
    vec![ours, bare_get(runtime, connection, times)]
}
