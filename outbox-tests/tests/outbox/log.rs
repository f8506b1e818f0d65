//! Changes that are read from the log of PostgreSQL, whoever made them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_cache::testing::until;
use async_cache_outbox::{Field, Role, RowKind};
use integration_tests::Data;
use integration_tests::fleet::{Cache, Fleet};
use outbox_tests::log::{LogScene, at_work, forgotten};
use outbox_tests::postgres::PostgresServer;
use outbox_tests::scene::two_nodes;
use parking_lot::Mutex;

/// Stores values under these keys, and waits until both nodes have them.
async fn store(nodes: &[Cache; 2], keys: &[&str]) {
    for key in keys {
        nodes[0].insert(*key, 0).tag(format!("tag:{key}")).await.unwrap();
        assert!(nodes[1].contains(*key).await.unwrap());
    }
}

async fn two_redis_nodes() -> (Fleet, [Cache; 2]) {
    let fleet = Fleet::redis();
    let nodes = [fleet.node().await, fleet.node().await];
    (fleet, nodes)
}

async fn both_forget(nodes: &[Cache; 2], key: &str) {
    forgotten(&nodes[0], key).await;
    forgotten(&nodes[1], key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_by_plain_sql_reaches_both_nodes() {
    let (log, (_redis, nodes)) = (LogScene::new().await, two_redis_nodes().await);
    store(&nodes, &["1", "2", "3", "500", "501", "7", "8"]).await;
    let reader = log.reader(&nodes[0]).await;
    log.write("UPDATE items SET version = version + 1 WHERE id = 1").await;
    both_forget(&nodes, "1").await;
    log.write("DELETE FROM items WHERE id = 2").await;
    both_forget(&nodes, "2").await;
    log.write("UPDATE items SET id = 500 WHERE id = 3").await;
    both_forget(&nodes, "3").await;
    both_forget(&nodes, "500").await;
    log.write("INSERT INTO items VALUES (501, 0)").await;
    both_forget(&nodes, "501").await;
    assert!(
        nodes[0].contains("7").await.unwrap() && nodes[1].contains("7").await.unwrap(),
        "the others stay"
    );
    log.drained().await;
    until("the changes are counted", || reader.stats().changes == 4).await;
    assert_eq!((reader.stats().transactions, reader.stats().refused), (4, 0));
    log.write("TRUNCATE items").await;
    both_forget(&nodes, "7").await;
    both_forget(&nodes, "8").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolled_back_change_is_never_invalidated() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    store(&nodes, &["1", "2", "3"]).await;
    let reader = log.reader(&nodes[0]).await;
    log.write("BEGIN; UPDATE items SET version = 9 WHERE id = 1; ROLLBACK").await;
    log.write(
        "BEGIN; SAVEPOINT s; UPDATE items SET version = 9 WHERE id = 1; ROLLBACK TO s; \
         UPDATE items SET version = 9 WHERE id = 2; COMMIT",
    )
    .await;
    both_forget(&nodes, "2").await;
    log.drained().await;
    assert!(nodes[0].contains("1").await.unwrap() && nodes[1].contains("1").await.unwrap());
    until("the change is counted", || reader.stats().changes == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_invalidated_before_others_can_see_it() {
    let server = Arc::new(PostgresServer::start());
    let (log, (_l2, nodes)) = (LogScene::on(server).await, two_nodes().await);
    store(&nodes, &["1"]).await;
    let reader = log.reader(&nodes[0]).await;
    log.change_unseen(1).await;
    until("the reader has seen it", || {
        reader.stats().last_error.is_some_and(|error| error.contains("nobody can see it yet"))
    })
    .await;
    assert_eq!(log.scene.number("SELECT version FROM items WHERE id = 1").await, 0, "it is not visible");
    assert!(nodes[1].contains("1").await.unwrap(), "so it is not invalidated");
    assert_eq!(reader.stats().transactions, 0);
    log.let_see().await;
    both_forget(&nodes, "1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_before_it_has_landed() {
    let (log, (redis, nodes)) = (LogScene::new().await, two_redis_nodes().await);
    store(&nodes, &["1", "2"]).await;
    let reader = log.reader(&nodes[0]).await;
    log.drained().await;
    redis.server().snapshot();
    redis.server().kill();
    log.write("UPDATE items SET version = version + 1 WHERE id < 20").await;
    // PostgreSQL writes to the log by itself, too, and that is acknowledged.
    let committed = log.end().await;
    until("the reader has tried", || reader.stats().cache_failures > 2).await;
    assert!(log.acknowledged().await < committed);
    assert!(reader.stats().last_error.unwrap().contains("namespace `rows`"));
    until("it tells the age", || !reader.stats().oldest.is_zero() && reader.stats().lag_bytes > 0).await;
    redis.server().restart(Data::Keep);
    both_forget(&nodes, "1").await;
    both_forget(&nodes, "2").await;
    log.drained().await;
    until("it has caught up", || reader.stats().oldest.is_zero() && reader.stats().changes == 20).await;
    assert_eq!(reader.stats().role, Role::AtWork, "it was at work all the time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_larger_than_a_batch_is_acknowledged_after_its_last_batch() {
    let (log, (redis, nodes)) = (LogScene::new().await, two_redis_nodes().await);
    let redis = Arc::new(redis);
    let (failed, killer) = (Arc::new(AtomicBool::new(false)), Arc::clone(&redis));
    let builder = log.bare(&nodes[0]).batch(50).table("items", &nodes[0], move |row, out| {
        for [id] in row.values(["id"])? {
            if id == "1400" && !failed.swap(true, Ordering::Relaxed) {
                killer.server().kill();
            }
            out.key(id);
        }
        Ok(())
    });
    let reader = at_work(builder).await;
    log.drained().await;
    // One transaction before it, which is acknowledged alone.
    log.write("BEGIN; INSERT INTO items VALUES (900, 0); COMMIT").await;
    log.write("INSERT INTO items SELECT id, 0 FROM generate_series(1000, 1999) AS id").await;
    let committed = log.end().await;
    until("Redis is gone in the middle", || reader.stats().cache_failures > 0).await;
    assert!(reader.stats().changes >= 301, "batches before it have landed: {:?}", reader.stats());
    assert!(log.acknowledged().await < committed);
    assert_eq!(reader.stats().transactions, 1);
    redis.server().restart(Data::Drop);
    log.drained().await;
    until("it is counted whole", || reader.stats().transactions == 2).await;
    assert!(reader.stats().changes > 1_301, "the batches of the first attempt are repeated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_larger_than_a_pass_is_read_whole() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    store(&nodes, &["130000", "1"]).await;
    log.write("INSERT INTO items SELECT id, 0 FROM generate_series(1000, 130000) AS id").await;
    log.write("UPDATE items SET version = 1 WHERE id = 1").await;
    let builder = log.bare(&nodes[0]).table("items", &nodes[0], |row, out| {
        for [id] in row.values(["id"])?.into_iter().filter(|[id]| *id == "1" || id.ends_with("0000")) {
            out.key(id);
        }
        Ok(())
    });
    let reader = at_work(builder).await;
    both_forget(&nodes, "130000").await;
    both_forget(&nodes, "1").await;
    log.drained().await;
    until("all are counted", || reader.stats().changes == 129_002).await;
    assert_eq!(reader.stats().transactions, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_row_is_told_as_far_as_the_log_has_it_and_a_long_value_is_never_null() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    // Random text that cannot be compressed, so it is stored outside of the row.
    log.scene
        .run(
            "ALTER TABLE items ADD team TEXT, ADD about TEXT; \
             UPDATE items SET team = 'a', about = (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 200) n) WHERE id = 1",
        )
        .await;
    log.drop_slot().await;
    log.create_slot().await;
    let seen: Arc<Mutex<Vec<[Field<'static>; 4]>>> = Arc::default();
    let note = |field: Field<'_>| match field {
        Field::Value(text) if text.len() > 1_000 => Field::Value("long"),
        Field::Value("a") => Field::Value("a"),
        Field::Value("b") => Field::Value("b"),
        Field::Value(_) => Field::Value("other"),
        Field::Null => Field::Null,
        Field::Unchanged => Field::Unchanged,
        Field::NoRow => Field::NoRow,
        _ => Field::Unknown,
    };
    let notes = Arc::clone(&seen);
    let builder = log.bare(&nodes[0]).table("items", &nodes[0], move |row, _| {
        assert_eq!(row.kind(), RowKind::Update);
        let fields = [row.before("team")?, row.after("team")?, row.before("about")?, row.after("about")?];
        notes.lock().push(fields.map(note));
        Ok(())
    });
    let reader = at_work(builder).await;
    log.write("UPDATE items SET team = 'b' WHERE id = 1").await;
    log.drained().await;
    let (a, b) = (Field::Value("a"), Field::Value("b"));
    assert_eq!(
        seen.lock().drain(..).collect::<Vec<_>>(),
        [[Field::Unknown, b, Field::Unknown, Field::Unchanged]]
    );
    log.write("ALTER TABLE items REPLICA IDENTITY FULL").await;
    log.write("UPDATE items SET team = 'a' WHERE id = 1").await;
    log.write("UPDATE items SET about = NULL WHERE id = 1").await;
    log.drained().await;
    let long = Field::Value("long");
    let whole = [[b, a, long, long], [a, a, long, Field::Null]];
    assert_eq!(seen.lock().drain(..).collect::<Vec<_>>(), whole);
    assert_eq!(reader.stats().refused, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_of_an_old_row_that_the_log_does_not_have_invalidates_the_namespace() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    store(&nodes, &["7"]).await;
    nodes[0].insert("1", 0).tag("version:0").await.unwrap();
    let builder = log.bare(&nodes[0]).table("items", &nodes[0], |row, out| {
        for [version] in row.values(["version"])? {
            out.tag(format!("version:{version}"));
        }
        Ok(())
    });
    let reader = at_work(builder).await;
    log.write("UPDATE items SET version = 5 WHERE id = 1").await;
    both_forget(&nodes, "1").await;
    both_forget(&nodes, "7").await;
    until("it is counted", || reader.stats().refused == 1).await;
    let error = reader.stats().last_error.unwrap();
    assert!(error.contains("`version`") && error.contains("REPLICA IDENTITY FULL"), "{error}");

    log.write("ALTER TABLE items REPLICA IDENTITY FULL").await;
    store(&nodes, &["7"]).await;
    nodes[0].insert("1", 0).tag("version:5").await.unwrap();
    log.write("UPDATE items SET version = 6 WHERE id = 1").await;
    both_forget(&nodes, "1").await;
    log.drained().await;
    assert!(nodes[1].contains("7").await.unwrap());
    assert_eq!(reader.stats().refused, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_readers_one_is_at_work_and_the_other_takes_over() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    let first = log.reader(&nodes[0]).await;
    let second = log.builder(&nodes[1]).start().unwrap();
    until("the second stands by", || second.stats().role == Role::Standby).await;
    log.write("UPDATE items SET version = 1 WHERE id = 1").await;
    log.drained().await;
    until("the change is counted", || first.stats().changes == 1).await;
    assert_eq!((second.stats().changes, second.stats().role), (0, Role::Standby));
    assert_eq!(first.shutdown().await.role, Role::Ended);
    until("the second is at work", || second.stats().role == Role::AtWork).await;
    log.write("UPDATE items SET version = 2 WHERE id = 1").await;
    log.drained().await;
    until("the change is counted", || second.stats().changes == 1).await;
    assert_eq!((second.stats().takeovers, second.stats().database_failures), (1, 0));
}

/// The one worker of the runtime is blocked. This test has a thread of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_shutdown_keeps_its_limit_while_the_function_blocks() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    let (entered, is_blocked) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Mutex::new(released);
    let builder = log.bare(&nodes[0]).table("items", &nodes[0], move |_, _| {
        let _ = entered.send(());
        let _ = released.lock().recv_timeout(Duration::from_secs(20));
        Ok(())
    });
    let reader = at_work(builder.shutdown_limit(Duration::from_millis(100))).await;
    log.write("UPDATE items SET version = 1 WHERE id = 1").await;
    is_blocked.recv().unwrap();
    let begun = Instant::now();
    reader.shutdown().await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    drop(release);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reader_goes_on_when_the_database_is_back() {
    let server = Arc::new(PostgresServer::start());
    let (log, (_l2, nodes)) = (LogScene::on(Arc::clone(&server)).await, two_nodes().await);
    store(&nodes, &["1", "2"]).await;
    let reader = log.reader(&nodes[0]).await;
    log.write("UPDATE items SET version = 1 WHERE id = 1").await;
    server.kill();
    until("the reader has noticed", || reader.stats().database_failures > 0).await;
    server.restart();
    until("the reader is at work again", || reader.stats().role == Role::AtWork).await;
    both_forget(&nodes, "1").await;
    log.write("UPDATE items SET version = 1 WHERE id = 2").await;
    both_forget(&nodes, "2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_other_tables_is_acknowledged_too() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    let calls = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&calls);
    let builder = log.bare(&nodes[0]).table("items", &nodes[0], move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let _reader = at_work(builder).await;
    log.write("CREATE TABLE others AS SELECT generate_series(1, 1000) AS id").await;
    log.drained().await;
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_partitions_of_a_table_are_read_as_the_table() {
    // No other transactions run here, so the changes of the publication are over when the reader is at work.
    let server = Arc::new(PostgresServer::start());
    let (log, (_l2, nodes)) = (LogScene::on(server).await, two_nodes().await);
    log.write(
        "CREATE TABLE parts (id BIGINT PRIMARY KEY, team TEXT) PARTITION BY RANGE (id); \
         CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (1000); \
         CREATE TABLE high PARTITION OF parts FOR VALUES FROM (1000) TO (2000)",
    )
    .await;
    let name = &log.log;
    log.write(&format!("ALTER PUBLICATION {name} ADD TABLE parts; ALTER TABLE low REPLICA IDENTITY FULL"))
        .await;
    let builder = log.builder(&nodes[0]).table("parts", &nodes[0], |row, out| {
        for [id] in row.values(["id"])? {
            out.key(&format!("part:{id}"));
        }
        Ok(())
    });
    let reader = builder.start().unwrap();
    let told = |text: &'static str| {
        let reader = &reader;
        until(text, move || reader.stats().last_error.is_some_and(|error| error.contains(text)))
    };
    told("publish_via_partition_root = true").await;
    log.write(&format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = true)")).await;
    told("the partitions of the table `parts` have different replica identities").await;
    log.write("ALTER TABLE low REPLICA IDENTITY DEFAULT").await;
    until("the reader is at work", || reader.stats().role == Role::AtWork).await;
    store(&nodes, &["part:1", "part:1500", "part:2"]).await;
    log.write("INSERT INTO parts VALUES (1, 'a')").await;
    log.drained().await;
    both_forget(&nodes, "part:1").await;
    store(&nodes, &["part:1"]).await;
    // The row moves to the other partition.
    log.write("UPDATE parts SET id = 1500 WHERE id = 1").await;
    both_forget(&nodes, "part:1").await;
    both_forget(&nodes, "part:1500").await;
    assert!(nodes[1].contains("part:2").await.unwrap());
}
