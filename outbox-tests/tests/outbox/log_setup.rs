//! What a log reader needs of the server: each lack is an error that names the remedy. And slots that are missing or lost.

use std::sync::Arc;
use std::time::Duration;

use async_cache::testing::until;
use async_cache_outbox::{ChangeLog, LogReader, MissingSlot, Role};
use integration_tests::Data;
use integration_tests::fleet::Fleet;
use outbox_tests::Scene;
use outbox_tests::log::{LogScene, at_work, forgotten};
use outbox_tests::postgres::PostgresServer;
use outbox_tests::scene::two_nodes;

/// Waits until a reader has failed with this text.
async fn refused(reader: &LogReader, text: &str) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !reader.stats().last_error.is_some_and(|error| error.contains(text)) {
        assert!(tokio::time::Instant::now() < deadline, "not `{text}`: {:?}", reader.stats());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_ne!(reader.stats().role, Role::AtWork);
}

/// Whatever is missing is told, and the reader goes on when it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_lack_is_told_with_its_remedy_and_noticed_when_it_is_gone() {
    let (scene, (_l2, [here, _])) = (Scene::new().await, two_nodes().await);
    let log = LogScene::without_slot(scene).await;
    let name = log.log.clone();
    log.write(&format!("DROP PUBLICATION {name}")).await;
    let reader = log
        .builder(&here)
        .table("plain", &here, |_, out| {
            out.all();
            Ok(())
        })
        .start()
        .unwrap();
    refused(&reader, &format!("CREATE PUBLICATION \"{name}\" FOR TABLE \"items\", \"plain\"")).await;
    log.write(&format!("CREATE PUBLICATION {name} FOR TABLE items WITH (publish = 'insert')")).await;
    refused(&reader, "SET (publish = 'insert, update, delete, truncate')").await;
    log.write(&format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate')")).await;
    refused(&reader, "there is no table `plain`").await;
    log.write("CREATE TABLE plain (id BIGINT)").await;
    refused(&reader, &format!("ALTER PUBLICATION \"{name}\" ADD TABLE \"plain\"")).await;
    log.write(&format!("ALTER PUBLICATION {name} ADD TABLE plain")).await;
    refused(&reader, "ALTER TABLE \"plain\" REPLICA IDENTITY FULL").await;
    log.write("ALTER TABLE plain REPLICA IDENTITY FULL").await;
    refused(&reader, &format!("pg_create_logical_replication_slot('{name}', 'pgoutput')")).await;
    refused(&reader, "clear the namespaces (`rows`)").await;
    log.write(&format!("SELECT pg_create_physical_replication_slot('{name}')")).await;
    refused(&reader, "the slot has another plugin than `pgoutput`").await;
    log.drop_slot().await;
    log.create_slot().await;
    until("the reader is at work", || reader.stats().role == Role::AtWork).await;
    here.insert("7", 0).await.unwrap();
    log.write("INSERT INTO plain VALUES (1)").await;
    forgotten(&here, "7").await;

    // A table that comes later, for a newer version of the service. This reader lets it not pass.
    log.write(&format!(
        "CREATE TABLE newer (id BIGINT PRIMARY KEY); ALTER PUBLICATION {name} ADD TABLE newer"
    ))
    .await;
    log.write("INSERT INTO newer VALUES (1)").await;
    let committed = log.end().await;
    refused(&reader, "which this reader does not watch").await;
    assert!(log.acknowledged().await < committed);
    let newer = log.builder(&here).table("plain", &here, |_, _| Ok(())).table("newer", &here, |row, out| {
        for [id] in row.values(["id"])? {
            out.key(id);
        }
        Ok(())
    });
    here.insert("1", 0).await.unwrap();
    let _newer = at_work(newer).await;
    forgotten(&here, "1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_logical_log_is_told_what_to_set() {
    let server = Arc::new(PostgresServer::start_with(&["wal_level=replica"]));
    let (scene, (_l2, [here, _])) = (Scene::on(server).await, two_nodes().await);
    let log = LogScene::without_slot(scene).await;
    let reader = log.builder(&here).start().unwrap();
    refused(&reader, "`wal_level` is `replica`: set `wal_level = logical`").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_the_right_is_told_which_one() {
    let (log, (_l2, [here, _])) = (LogScene::new().await, two_nodes().await);
    let user = format!("user_{}", log.log);
    log.scene.run(&format!("CREATE ROLE {user} LOGIN")).await;
    let url = log.scene.url.replace("postgres@", &format!("{user}@"));
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let reader = ChangeLog::new(&log.log).unwrap().reader(&pool).cache(&here);
    let reader = reader.table("items", &here, |_, _| Ok(())).start().unwrap();
    refused(&reader, "ALTER ROLE .. REPLICATION").await;
    // Nothing else: it reads no table.
    log.scene.run(&format!("ALTER ROLE {user} REPLICATION")).await;
    until("the reader is at work", || reader.stats().role == Role::AtWork).await;
    log.write("UPDATE items SET version = 1 WHERE id = 1").await;
    until("it reads", || reader.stats().changes == 1).await;
}

/// A schema in front of the catalog, with tables of the same names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalog_is_read_whatever_the_search_path_of_the_user() {
    let (log, (_l2, [here, _])) = (LogScene::new().await, two_nodes().await);
    log.write(
        "CREATE SCHEMA front; CREATE VIEW front.pg_replication_slots AS SELECT * FROM pg_catalog.pg_replication_slots WHERE false; \
         CREATE TABLE front.pg_publication (a INT); CREATE TABLE front.items (id BIGINT PRIMARY KEY); \
         DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, front, pg_catalog', current_database()); END $$",
    )
    .await;
    let pool = sqlx::PgPool::connect(&log.scene.url).await.unwrap();
    let reader = ChangeLog::new(&log.log).unwrap().reader(&pool).cache(&here);
    let reader = at_work(reader.table("items", &here, |_, _| Ok(()))).await;
    log.write("UPDATE items SET version = 1 WHERE id = 1").await;
    until("it reads", || reader.stats().changes == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_is_older_than_the_publication_is_told() {
    let (log, (_l2, [here, _])) = (LogScene::new().await, two_nodes().await);
    let name = &log.log;
    log.write(&format!("DROP PUBLICATION {name}")).await;
    log.write("UPDATE items SET version = 1 WHERE id = 1").await;
    log.write(&format!("CREATE PUBLICATION {name} FOR TABLE items")).await;
    let reader = log.builder(&here).start().unwrap();
    until("it is told", || {
        reader
            .stats()
            .last_error
            .is_some_and(|error| error.contains("the slot is older than the publication"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_slot_has_its_name_only_after_the_namespaces_were_cleared() {
    let (scene, redis) = (Scene::new().await, Fleet::redis());
    let (log, here, there) = (LogScene::without_slot(scene).await, redis.node().await, redis.node().await);
    for key in ["1", "2"] {
        here.insert(key, 0).await.unwrap();
        assert!(there.contains(key).await.unwrap());
    }
    // Before the slot is there, so no reader will ever see it.
    log.write("UPDATE items SET version = 1 WHERE id = 1").await;
    redis.server().snapshot();
    redis.server().kill();
    let reader = log.builder(&here).missing_slot(MissingSlot::Create).start().unwrap();
    until("it has tried", || reader.stats().cache_failures > 0).await;
    let slots = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", log.log);
    assert_eq!(log.scene.number(&slots).await, 0);
    redis.server().restart(Data::Keep);
    until("the slot is created", || reader.stats().created == 1).await;
    forgotten(&there, "1").await;
    forgotten(&there, "2").await;
    here.insert("3", 0).await.unwrap();
    log.write("UPDATE items SET version = 1 WHERE id = 3").await;
    forgotten(&there, "3").await;
    let temporary =
        "SELECT count(*) FROM pg_replication_slots WHERE temporary AND database = current_database()";
    assert_eq!(log.scene.number(temporary).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_is_created_after_the_end_of_the_transactions_that_run() {
    let server = Arc::new(PostgresServer::start());
    let (scene, (_l2, [here, there])) = (Scene::on(server).await, two_nodes().await);
    let log = LogScene::without_slot(scene).await;
    here.insert("1", 0).await.unwrap();
    let mut running = log.scene.begin().await;
    sqlx::raw_sql("UPDATE items SET version = 1 WHERE id = 1").execute(&mut *running).await.unwrap();
    let reader = log.builder(&here).missing_slot(MissingSlot::Create).start().unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_create_logical_replication_slot%' \
                 AND wait_event_type = 'Lock'";
    while log.scene.number(waits).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until("it says what it waits for", || {
        reader.stats().last_error.is_some_and(|error| error.contains("FROM pg_prepared_xacts"))
    })
    .await;
    assert!(there.contains("1").await.unwrap());
    running.commit().await.unwrap();
    until("the slot is created", || reader.stats().created == 1).await;
    forgotten(&there, "1").await;
}

/// A commit that is in the log before the slot begins, and visible after the clear.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_slot_waits_until_earlier_commits_can_be_seen() {
    let server = Arc::new(PostgresServer::start());
    let (scene, (_l2, [here, there])) = (Scene::on(server).await, two_nodes().await);
    let log = LogScene::without_slot(scene).await;
    here.insert("1", 0).await.unwrap();
    // A slot begins when two generations of transactions have ended.
    let (first, _) = log.running().await;
    let reader = log.builder(&here).missing_slot(MissingSlot::Create).start().unwrap();
    let waits_for = |xid: i64| {
        format!("SELECT count(*) FROM pg_locks WHERE NOT granted AND transactionid::text = '{xid}'")
    };
    let (second, xid) = loop {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'";
        match log.scene.number(waits).await {
            0 => tokio::time::sleep(Duration::from_millis(5)).await,
            _ => break log.running().await,
        }
    };
    first.rollback().await.unwrap();
    while log.scene.number(&waits_for(xid)).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    log.change_unseen(1).await;
    second.rollback().await.unwrap();
    let created =
        "SELECT count(*) FROM pg_replication_slots WHERE temporary AND confirmed_flush_lsn IS NOT NULL";
    while log.scene.number(created).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Time for a clear that comes too early.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(log.scene.number("SELECT version FROM items WHERE id = 1").await, 0);
    assert!(there.contains("1").await.unwrap(), "the namespace is not cleared yet");
    assert_eq!(reader.stats().created, 0);
    log.let_see().await;
    until("the slot is created", || reader.stats().created == 1).await;
    forgotten(&there, "1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_whose_log_was_removed_is_told_or_created_again() {
    let server = Arc::new(PostgresServer::start_with(&["max_slot_wal_keep_size=1MB"]));
    let (log, (_l2, [here, there])) = (LogScene::on(server).await, two_nodes().await);
    here.insert("1", 0).await.unwrap();
    let lost = format!(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}' AND wal_status = 'lost'",
        log.log
    );
    while log.scene.number(&lost).await == 0 {
        log.write("UPDATE items SET version = version + 1 WHERE id = 1; SELECT pg_switch_wal()").await;
        log.write("CHECKPOINT").await;
    }
    let reader = log.builder(&here).start().unwrap();
    refused(&reader, "so changes are lost").await;
    refused(&reader, &format!("pg_drop_replication_slot('{}')", log.log)).await;
    assert!(reader.stats().last_error.unwrap().contains("clear the namespaces (`rows`)"));
    assert!(there.contains("1").await.unwrap());
    reader.shutdown().await;
    let reader = at_work(log.builder(&here).missing_slot(MissingSlot::Create)).await;
    until("the slot is created", || reader.stats().created == 1).await;
    forgotten(&there, "1").await;
    here.insert("1", 0).await.unwrap();
    log.write("UPDATE items SET version = version + 1 WHERE id = 1").await;
    forgotten(&there, "1").await;
}

#[tokio::test]
async fn settings_are_checked() {
    let (_l2, [here, _]) = two_nodes().await;
    let pool = sqlx::PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
    let reader = || ChangeLog::new("log").unwrap().reader(&pool);
    let text = |started: Result<LogReader, async_cache_outbox::Error>| started.unwrap_err().to_string();
    assert!(text(reader().cache(&here).start()).contains("watches no table"));
    let map = |_: &async_cache_outbox::RowChange<'_>, _: &mut async_cache_outbox::Invalidations<'_>| Ok(());
    assert!(text(reader().table("items", "rows", map).start()).contains("add it with `.cache(&cache)`"));
    let reader = || reader().cache(&here).table("items", &here, map);
    let named = text(reader().table("a b", &here, map).start());
    assert!(
        named.contains("`a b` is a table that cannot be watched") && !named.contains("trigger"),
        "{named}"
    );
    assert!(text(reader().batch(0).start()).contains("`batch` is 0"));
    assert!(text(reader().read_timeout(Duration::ZERO).start()).contains("`read_timeout` is 0ns"));
}
