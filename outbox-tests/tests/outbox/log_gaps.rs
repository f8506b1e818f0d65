//! Changes that the log does not have: the publication did not cover them, or somebody else has moved the slot past them.

use std::sync::Arc;
use std::time::Duration;

use async_cache::testing::until;
use async_cache_outbox::{LogReader, Role};
use integration_tests::Data;
use integration_tests::fleet::{Cache, Fleet};
use outbox_tests::log::{LogScene, at_work, forgotten};
use outbox_tests::postgres::PostgresServer;
use outbox_tests::scene::two_nodes;

/// Longer than a test: the reader looks at the log when it is woken.
const WHEN_WOKEN: Duration = Duration::from_secs(10);

/// Stores values under these keys, and waits until both nodes have them.
async fn store(nodes: &[Cache; 2], keys: &[&str]) {
    for key in keys {
        nodes[0].insert(*key, 0).await.unwrap();
        assert!(nodes[1].contains(*key).await.unwrap());
    }
}

async fn both_forget(nodes: &[Cache; 2], key: &str) {
    forgotten(&nodes[0], key).await;
    forgotten(&nodes[1], key).await;
}

async fn refused(reader: &LogReader, text: &str) {
    until("it is told", || reader.stats().last_error.is_some_and(|error| error.contains(text))).await;
}

/// A reader that looks at the log only when it is woken, and has looked at everything that is there.
async fn sleeping(log: &LogScene, cache: &Cache) -> LogReader {
    let reader = at_work(log.builder(cache).poll_interval(WHEN_WOKEN)).await;
    let end = log.end().await;
    while log.acknowledged().await < end {
        reader.wake_up();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    reader
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_were_not_published_are_invalidated_with_the_namespace() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    let name = log.log.clone();
    let reader = log.reader(&nodes[0]).await;
    let change = "UPDATE items SET version = version + 1 WHERE id = 1";
    let hidden = [
        (format!("ALTER PUBLICATION {name} DROP TABLE items"), format!("ALTER PUBLICATION {name} ADD TABLE items")),
        (
            format!("ALTER PUBLICATION {name} SET (publish = 'insert')"),
            format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate')"),
        ),
        (
            format!("ALTER PUBLICATION {name} SET TABLE items WHERE (id < 0)"),
            format!("ALTER PUBLICATION {name} SET TABLE items"),
        ),
        (
            "CREATE TABLE copy (LIKE items INCLUDING ALL); INSERT INTO copy SELECT * FROM items; DROP TABLE items; \
             ALTER TABLE copy RENAME TO items"
                .to_owned(),
            format!("ALTER PUBLICATION {name} ADD TABLE items"),
        ),
    ];
    for (hide, publish) in &hidden {
        store(&nodes, &["1"]).await;
        // One transaction: the reader sees no moment in between.
        log.write(&format!("{hide}; {change}; {publish}")).await;
        both_forget(&nodes, "1").await;
    }
    assert_eq!(reader.stats().database_failures, 0);
}

/// The reader sees that the table is not published, and its remedy is followed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_while_the_reader_refused_the_publication_are_invalidated() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    let name = log.log.clone();
    let reader = log.reader(&nodes[0]).await;
    log.write(&format!("ALTER PUBLICATION {name} DROP TABLE items")).await;
    refused(&reader, &format!("ALTER PUBLICATION \"{name}\" ADD TABLE \"items\"")).await;
    store(&nodes, &["1"]).await;
    log.write("UPDATE items SET version = 1 WHERE id = 1").await;
    log.write(&format!("ALTER PUBLICATION {name} ADD TABLE items")).await;
    both_forget(&nodes, "1").await;
    store(&nodes, &["7"]).await;
    log.write("UPDATE items SET version = 2 WHERE id = 1").await;
    until("it works", || reader.stats().role == Role::AtWork && reader.stats().changes > 0).await;
}

/// A transaction keeps the publication that it has found at its first change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_began_before_its_table_was_published_is_invalidated_at_its_end() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    let name = log.log.clone();
    let reader = log.reader(&nodes[0]).await;
    log.write(&format!("ALTER PUBLICATION {name} DROP TABLE items")).await;
    let mut late = log.scene.begin().await;
    sqlx::raw_sql("UPDATE items SET version = 1 WHERE id = 1").execute(&mut *late).await.unwrap();
    store(&nodes, &["2"]).await;
    log.write(&format!("ALTER PUBLICATION {name} ADD TABLE items")).await;
    both_forget(&nodes, "2").await;
    until("it works", || reader.stats().role == Role::AtWork).await;
    log.write("UPDATE items SET version = 1 WHERE id = 3").await;
    log.drained().await;
    store(&nodes, &["1"]).await;
    late.commit().await.unwrap();
    both_forget(&nodes, "1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_of_a_partition_that_is_attached_are_invalidated_with_the_namespace() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    let name = log.log.clone();
    log.write(&format!(
        "CREATE TABLE parts (id BIGINT PRIMARY KEY) PARTITION BY RANGE (id); \
         ALTER PUBLICATION {name} ADD TABLE parts; ALTER PUBLICATION {name} SET (publish_via_partition_root = true); \
         CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (1000); \
         CREATE TABLE high (id BIGINT PRIMARY KEY); INSERT INTO high VALUES (1500)"
    ))
    .await;
    let reader = at_work(log.builder(&nodes[0]).table("parts", &nodes[0], |_, _| Ok(()))).await;
    log.drained().await;
    for sql in [
        "ALTER TABLE parts ATTACH PARTITION high FOR VALUES FROM (1000) TO (2000)",
        "TRUNCATE high",
        "ALTER TABLE parts DETACH PARTITION high",
        "DROP TABLE low",
    ] {
        store(&nodes, &["1500"]).await;
        log.write(sql).await;
        both_forget(&nodes, "1500").await;
    }
    assert_eq!(reader.stats().database_failures, 0);
}

/// The reader that has seen the publication change is gone before the transaction ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_older_than_the_publication_is_invalidated_by_a_reader_that_starts_later() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    let name = log.log.clone();
    log.write(&format!("ALTER PUBLICATION {name} DROP TABLE items")).await;
    let mut late = log.scene.begin().await;
    sqlx::raw_sql("UPDATE items SET version = 1 WHERE id = 1").execute(&mut *late).await.unwrap();
    log.write(&format!("ALTER PUBLICATION {name} ADD TABLE items")).await;
    store(&nodes, &["2"]).await;
    let reader = log.reader(&nodes[0]).await;
    both_forget(&nodes, "2").await;
    refused(&reader, "a transaction is open that is older").await;
    log.drained().await;
    store(&nodes, &["1"]).await;
    late.commit().await.unwrap();
    both_forget(&nodes, "1").await;
}

/// 1. The reader looks at the slot; 2. somebody else moves it; 3. the reader reads the log behind that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_is_moved_before_the_reader_reads_is_noticed() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    let reader = sleeping(&log, &nodes[0]).await;
    store(&nodes, &["1"]).await;
    log.write("UPDATE items SET version = 1 WHERE id = 1").await;
    let end = log.end().await;
    let mut stops = log.scene.begin().await;
    sqlx::raw_sql("LOCK TABLE pg_inherits IN ACCESS EXCLUSIVE MODE").execute(&mut *stops).await.unwrap();
    let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'pg_inherits'::regclass AND NOT granted \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while log.scene.number(waits).await == 0 {
        reader.wake_up();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    log.write(&format!("SELECT pg_replication_slot_advance('{}', '0/0'::pg_lsn + {end})", log.log)).await;
    stops.rollback().await.unwrap();
    both_forget(&nodes, "1").await;
    assert_eq!(reader.stats().changes, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_that_cannot_be_invalidated_has_an_age() {
    let redis = Fleet::redis();
    let (log, node) = (LogScene::new().await, redis.node().await);
    let name = log.log.clone();
    let reader = log.reader(&node).await;
    log.drained().await;
    redis.server().kill();
    log.write(&format!(
        "ALTER PUBLICATION {name} DROP TABLE items; ALTER PUBLICATION {name} ADD TABLE items"
    ))
    .await;
    until("the reader has tried", || reader.stats().cache_failures > 2).await;
    assert!(!reader.stats().oldest.is_zero(), "{:?}", reader.stats());
    redis.server().restart(Data::Keep);
    until("the gap is closed", || reader.stats().oldest.is_zero()).await;
}

/// A partition, or the whole table, is locked as by VACUUM FULL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_table_holds_no_invalidation_up() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    let name = log.log.clone();
    log.write(&format!(
        "CREATE TABLE parts (id BIGINT PRIMARY KEY) PARTITION BY RANGE (id); \
         ALTER PUBLICATION {name} ADD TABLE parts; ALTER PUBLICATION {name} SET (publish_via_partition_root = true); \
         CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (1000)"
    ))
    .await;
    let watched = || log.builder(&nodes[0]).table("parts", &nodes[0], |_, _| Ok(()));
    for table in ["low", "parts"] {
        let reader = at_work(watched()).await;
        log.drained().await;
        store(&nodes, &["1"]).await;
        let mut locks = log.scene.begin().await;
        let lock = format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut *locks).await.unwrap();
        log.write("UPDATE items SET version = version + 1 WHERE id = 1").await;
        both_forget(&nodes, "1").await;
        // Another reader looks at the publication first.
        reader.shutdown().await;
        store(&nodes, &["2"]).await;
        log.write("UPDATE items SET version = version + 1 WHERE id = 2").await;
        let other = at_work(watched()).await;
        both_forget(&nodes, "2").await;
        other.shutdown().await;
        locks.rollback().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_somebody_else_has_taken_from_the_slot_are_invalidated_with_the_namespace() {
    // No other transactions run here, so the namespace is invalidated once.
    let server = Arc::new(PostgresServer::start());
    let (log, (_l2, nodes)) = (LogScene::on(server).await, two_nodes().await);
    let reader = sleeping(&log, &nodes[0]).await;
    store(&nodes, &["1"]).await;
    log.write("UPDATE items SET version = 1 WHERE id = 1").await;
    log.write(&format!("SELECT pg_replication_slot_advance('{}', pg_current_wal_flush_lsn())", log.log))
        .await;
    reader.wake_up();
    both_forget(&nodes, "1").await;
    log.drained().await;
    store(&nodes, &["1", "7"]).await;
    log.write("UPDATE items SET version = 2 WHERE id = 1").await;
    reader.wake_up();
    both_forget(&nodes, "1").await;
    assert!(nodes[1].contains("7").await.unwrap(), "its own position is no surprise");
    assert_eq!(reader.stats().changes, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_was_created_again_under_the_reader_is_noticed() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    let reader = sleeping(&log, &nodes[0]).await;
    store(&nodes, &["1"]).await;
    log.drop_slot().await;
    log.write("UPDATE items SET version = 1 WHERE id = 1").await;
    log.create_slot().await;
    reader.wake_up();
    both_forget(&nodes, "1").await;
}

/// The same, and the reader has seen that the slot is missing, and has connected again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_was_created_again_after_an_error_is_noticed() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    let reader = sleeping(&log, &nodes[0]).await;
    store(&nodes, &["1"]).await;
    log.drop_slot().await;
    reader.wake_up();
    refused(&reader, "there is no slot").await;
    log.write("UPDATE items SET version = 1 WHERE id = 1").await;
    log.create_slot().await;
    both_forget(&nodes, "1").await;
}
