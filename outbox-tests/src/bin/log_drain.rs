//! How fast a log reader drains a backlog: rows with different keys, of transactions with a hundred each, into a real Redis.
//!
//! ```sh
//! cargo run --release -p outbox-tests --bin log_drain -- --rows 200000
//! ```

use std::time::{Duration, Instant};

use async_cache::testing::until;
use async_cache::{MemoryBackend, RedisBackend, TieredCache};
use clap::Parser;
use integration_tests::RedisServer;
use integration_tests::fleet::Cache;
use outbox_tests::log::LogScene;

/// How fast a log reader drains a backlog.
#[derive(Parser)]
struct Arguments {
    /// The backlog.
    #[arg(long, default_value_t = 200_000)]
    rows: u64,
    /// Rows of one transaction.
    #[arg(long, default_value_t = 100)]
    transaction: u64,
    /// Messages that are applied together.
    #[arg(long, default_value_t = 2_000)]
    batch: u32,
}

#[tokio::main]
async fn main() {
    let Arguments { rows, transaction, batch } = Arguments::parse();
    let (redis, log) = (RedisServer::start(), LogScene::new().await);
    let backend = RedisBackend::connect(redis.url()).await.expect("Redis answers");
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(10_000)).l2(backend);
    let cache: Cache = builder.build().expect("a valid cache");
    until("the node serves", || cache.is_serving()).await;

    let begun = Instant::now();
    for first in (1_000..1_000 + rows).step_by(usize::try_from(transaction).expect("a small number")) {
        let last = first + transaction - 1;
        log.scene
            .run(&format!("INSERT INTO items SELECT id, 0 FROM generate_series({first}, {last}) AS id"))
            .await;
    }
    println!("written   {rows} rows in {:.1} s", begun.elapsed().as_secs_f64());

    let begun = Instant::now();
    let reader = log.builder(&cache).batch(batch).start().expect("a valid reader");
    while reader.stats().changes < rows {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = begun.elapsed().as_secs_f64();
    println!("drained   {rows} rows in {took:.1} s: {:.0} rows/s", rows as f64 / took);
    log.drained().await;
}
