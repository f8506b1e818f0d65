//! What the processes do until they are killed.

use std::time::Duration;

use async_cache::{MemoryBackend, RedisBackend, TieredCache};
use async_cache_outbox::{Change, ChangeLog, Outbox};
use integration_tests::fleet::Cache;
use sqlx::{Pool, Postgres};

use crate::crash::{LOG, Means, mark};
use crate::database::TestDatabase;
use crate::scene::{ITEMS, POLL};

/// Transactions that a writer has open at once.
const TASKS: usize = 4;

/// Writes transactions: each changes an item, notes itself in the ledger, and with an outbox writes its invalidations. One of five
/// is rolled back.
///
/// # Panics
///
/// If the database cannot be reached at the start.
pub async fn write<DB: TestDatabase>(url: &str, means: Means) {
    let pool = DB::pool(url).await.expect("the database answers");
    let tasks = (0..TASKS).map(|_| tokio::spawn(write_one_after_the_other::<DB>(pool.clone(), means)));
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no panic");
    }
}

async fn write_one_after_the_other<DB: TestDatabase>(pool: Pool<DB>, means: Means) {
    loop {
        // Deadlocks and full queues of the database are no failure of the outbox.
        if transaction::<DB>(&pool, means).await.is_err() {
            pause(20).await;
        }
    }
}

async fn transaction<DB: TestDatabase>(
    pool: &Pool<DB>,
    means: Means,
) -> Result<(), async_cache_outbox::Error> {
    let failed = |source| async_cache_outbox::Error::Database { doing: "a transaction".to_owned(), source };
    let (id, item) = (fastrand::i64(1..), fastrand::i64(0..ITEMS));
    let mut tx = DB::begin(pool).await.map_err(failed)?;
    let update = format!("UPDATE items SET version = version + 1 WHERE id = {item}");
    DB::run(&mut tx, update).await.map_err(failed)?;
    DB::run(&mut tx, format!("INSERT INTO ledger VALUES ({id})")).await.map_err(failed)?;
    if means == Means::Outbox {
        let own = match fastrand::bool() {
            true => Change::key("rows", mark(id).as_str())?,
            false => Change::tag("rows", mark(id))?,
        };
        let changes = [Change::key("rows", item.to_string().as_str())?, own];
        Outbox::<DB>::new().write(&mut tx, changes).await?;
    }
    // Time for the relay to see what it must not see, and for a kill.
    pause(8).await;
    match fastrand::u8(0..5) {
        0 => tx.rollback().await.map_err(failed),
        _ => tx.commit().await.map_err(failed),
    }
}

async fn pause(most_ms: u64) {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=most_ms))).await;
}

/// Runs a relay.
///
/// # Panics
///
/// If the database or Redis cannot be reached at the start.
pub async fn relay<DB: TestDatabase>(url: &str, redis: &str) {
    let (pool, cache) = (DB::pool(url).await.expect("the database answers"), node(redis).await);
    let relay = Outbox::<DB>::new().relay(&pool).cache(&cache).poll_interval(POLL).takeover_interval(POLL);
    // Small pages, so that kills hit many of them.
    let relay = relay.batch(20).session_timeout(Duration::from_secs(2));
    let _relay = relay.start().expect("a valid relay");
    std::future::pending::<()>().await;
}

async fn node(redis: &str) -> Cache {
    let redis = RedisBackend::connect(redis).await.expect("Redis answers");
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(10_000)).l2(redis);
    builder.build().expect("a valid cache")
}

/// Runs a reader of the log.
///
/// # Panics
///
/// If the database or Redis cannot be reached at the start.
pub async fn read(url: &str, redis: &str) {
    let (pool, cache) = (Postgres::pool(url).await.expect("the database answers"), node(redis).await);
    let log = ChangeLog::new(LOG).expect("a valid name");
    let reader = log.reader(&pool).cache(&cache).poll_interval(POLL).takeover_interval(POLL);
    let reader = reader.table("items", &cache, |row, out| {
        for [item] in row.values(["id"])? {
            out.key(item);
        }
        Ok(())
    });
    let reader = reader.table("ledger", &cache, |row, out| {
        for [id] in row.values(["tx"])? {
            match id.parse::<i64>()? {
                tx if tx % 2 == 0 => out.key(mark(tx).as_str()),
                tx => out.tag(mark(tx)),
            }
        }
        Ok(())
    });
    // Small batches, so that kills hit many of them.
    let reader = reader.batch(20).session_timeout(Duration::from_secs(2));
    let _reader = reader.start().expect("a valid reader");
    std::future::pending::<()>().await;
}
