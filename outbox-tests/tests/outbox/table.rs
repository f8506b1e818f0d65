//! The table: its creation, and other names.

use std::io::Write;
use std::sync::Arc;

use async_cache::testing::until;
use async_cache_outbox::Outbox;
use outbox_tests::scene::two_nodes;
use outbox_tests::{Scene, TestDatabase};
use parking_lot::Mutex;
use sqlx::Postgres;
use sqlx::postgres::PgPoolOptions;

async fn many_instances_may_create_the_table_at_once<DB: TestDatabase>() {
    let scene = Scene::<DB>::new().await;
    let outbox = Outbox::<DB>::in_table("another_outbox").unwrap();
    let all = (0..8).map(|_| {
        let (outbox, pool) = (outbox.clone(), scene.pool.clone());
        tokio::spawn(async move { outbox.migrate(&pool).await })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    outbox.migrate(&scene.pool).await.unwrap();
}

async fn the_statements_create_the_table_that_the_outbox_uses<DB: TestDatabase>() {
    let (scene, (_l2, [here, _])) = (Scene::<DB>::new().await, two_nodes().await);
    let longest = "t".repeat(async_cache_outbox::MAX_NAME_BYTES);
    let outbox = Outbox::<DB>::in_table(&longest).unwrap();
    for _ in 0..2 {
        scene.run(&outbox.create_table_sql()).await;
    }
    let relay = outbox.relay(&scene.pool).cache(&here).start().unwrap();
    let mut tx = scene.begin().await;
    outbox.invalidate(&mut tx, &here, "1").await.unwrap();
    tx.commit().await.unwrap();
    relay.wake_up();
    until("the row is applied", || relay.stats().applied == 1).await;
    assert_eq!(relay.stats().database_failures, 0);
}

async fn a_missing_table_is_named_with_its_remedy<DB: TestDatabase>() {
    let (scene, (_l2, [here, _])) = (Scene::<DB>::new().await, two_nodes().await);
    let outbox = Outbox::<DB>::in_table("missing").unwrap();
    let relay = outbox.relay(&scene.pool).cache(&here).start().unwrap();
    until("the relay says so", || relay.stats().last_error.is_some()).await;
    let said = relay.stats().last_error.unwrap();
    assert!(said.contains("`missing`") && said.contains("Outbox::migrate"), "{said}");
    let mut tx = scene.begin().await;
    let error = outbox.invalidate(&mut tx, &here, "1").await.unwrap_err().to_string();
    assert!(error.contains("writing 1 invalidations to the outbox table `missing`"), "{error}");
    drop(tx);
    // It goes on by itself when the table is there.
    outbox.migrate(&scene.pool).await.unwrap();
    let mut tx = scene.begin().await;
    outbox.invalidate(&mut tx, &here, "1").await.unwrap();
    tx.commit().await.unwrap();
    until("the row is applied", || relay.stats().applied == 1).await;
}

outbox_tests::on_every_database!(
    many_instances_may_create_the_table_at_once,
    the_statements_create_the_table_that_the_outbox_uses,
    a_missing_table_is_named_with_its_remedy,
);

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_table_that_exists_is_not_logged_at_a_later_start() {
    let scene = Scene::<Postgres>::new().await;
    let pool = PgPoolOptions::new().max_connections(1).connect(&scene.url).await.unwrap();
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    scene.outbox.migrate(&pool).await.unwrap();
    let lines = || String::from_utf8(std::mem::take(&mut *log.0.lock())).unwrap();
    let said = lines();
    assert!(!said.contains("skipping"), "{said}");
    // The setting of the session is as before, so the caller's statements are logged.
    sqlx::query("CREATE TABLE IF NOT EXISTS items (id BIGINT)").execute(&pool).await.unwrap();
    let said = lines();
    assert!(said.contains("already exists, skipping"), "{said}");
}

#[tokio::test]
async fn two_schemas_have_relays_of_their_own() {
    let (scene, (_l2, [here, _])) = (Scene::<Postgres>::new().await, two_nodes().await);
    scene.run("CREATE SCHEMA shop").await;
    let shop = Outbox::<Postgres>::in_table("shop.async_cache_outbox").unwrap();
    shop.migrate(&scene.pool).await.unwrap();
    let (_relay, relay) = (scene.relay(&here).await, shop.relay(&scene.pool).cache(&here).start().unwrap());
    let mut tx = scene.begin().await;
    shop.invalidate(&mut *tx, &here, "1").await.unwrap();
    tx.commit().await.unwrap();
    until("the row is applied", || relay.stats().applied == 1).await;
}

#[tokio::test]
async fn the_trigger_of_the_documentation_invalidates_what_changes() {
    let (scene, (_l2, [here, there])) = (Scene::<Postgres>::new().await, two_nodes().await);
    let page = include_str!("../../../docs/outbox.md");
    let (_, rest) = page.split_once("```sql\n").expect("a block of SQL");
    let (trigger, _) = rest.split_once("```").expect("its end");
    scene.run("CREATE TABLE users (id BIGINT PRIMARY KEY, name TEXT)").await;
    scene.run(&trigger.replace("'users', 'key'", "'rows', 'key'")).await;
    let relay = scene.relay(&there).await;
    let steps = [
        ("INSERT INTO users VALUES (1, 'Ada')", 1),
        ("UPDATE users SET name = 'Ada Lovelace'", 2),
        ("UPDATE users SET id = 2", 4),
        ("DELETE FROM users", 5),
    ];
    for (change, applied) in steps {
        here.insert("1", 0).await.unwrap();
        here.insert("2", 0).await.unwrap();
        scene.run(change).await;
        until(change, || relay.stats().applied == applied).await;
        let cached = (there.contains("1").await.unwrap(), there.contains("2").await.unwrap());
        assert_eq!(cached, (applied == 5, applied < 4), "{change}");
    }
}
