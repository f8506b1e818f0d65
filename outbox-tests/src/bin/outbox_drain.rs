//! How fast a relay drains a backlog: rows with different keys, of transactions with a hundred each, into a real Redis.
//!
//! ```sh
//! cargo run --release -p outbox-tests --bin outbox_drain -- --database postgres --rows 200000
//! ```

use std::time::{Duration, Instant};

use async_cache::testing::until;
use async_cache::{MemoryBackend, RedisBackend, TieredCache};
use clap::Parser;
use integration_tests::RedisServer;
use integration_tests::fleet::Cache;
use outbox_tests::crash::Kind;
use outbox_tests::{Scene, TestDatabase};
use sqlx::{MySql, Postgres, Sqlite};

/// How fast a relay drains a backlog.
#[derive(Parser)]
struct Arguments {
    /// The database.
    #[arg(long, default_value = "postgres")]
    database: Kind,
    /// The backlog.
    #[arg(long, default_value_t = 200_000)]
    rows: u64,
    /// Rows that are applied together.
    #[arg(long, default_value_t = 2_000)]
    batch: u32,
}

/// Rows of one transaction.
const TRANSACTION: u64 = 100;

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    match arguments.database {
        Kind::Postgres => drain::<Postgres>(&arguments).await,
        Kind::Mysql => drain::<MySql>(&arguments).await,
        Kind::Sqlite => drain::<Sqlite>(&arguments).await,
    }
}

async fn drain<DB: TestDatabase>(arguments: &Arguments) {
    let (redis, scene) = (RedisServer::start(), Scene::<DB>::new().await);
    let backend = RedisBackend::connect(redis.url()).await.expect("Redis answers");
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(10_000)).l2(backend);
    let cache: Cache = builder.build().expect("a valid cache");
    until("the node serves", || cache.is_serving()).await;

    let begun = Instant::now();
    for first in (0..arguments.rows).step_by(TRANSACTION as usize) {
        let keys: Vec<String> = (first..first + TRANSACTION).map(|key| format!("user:{key}")).collect();
        let mut tx = scene.begin().await;
        let keys = keys.iter().map(String::as_str);
        scene.outbox.invalidate_many(&mut tx, &cache, keys).await.expect("rows");
        tx.commit().await.expect("a commit");
    }
    let rows = scene.rows().await as u64;
    println!("written   {rows} rows in {:.1} s", begun.elapsed().as_secs_f64());

    let begun = Instant::now();
    let relay = scene.builder(&cache).batch(arguments.batch).start().expect("a valid relay");
    while relay.stats().applied < rows {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = begun.elapsed().as_secs_f64();
    println!("drained   {rows} rows in {took:.1} s: {:.0} rows/s", rows as f64 / took);
    assert_eq!(scene.rows().await, 0);
}
