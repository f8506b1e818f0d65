//! A log that cannot be followed as it stands: it has changes of a table that is no longer watched, or that cannot be sent.

use std::sync::Arc;

use async_cache::testing::until;
use async_cache_outbox::{LogReader, MissingSlot, Outbox, Role};
use integration_tests::fleet::Cache;
use outbox_tests::Scene;
use outbox_tests::log::{LogScene, at_work, forgotten};
use outbox_tests::postgres::PostgresServer;
use outbox_tests::scene::two_nodes;

async fn store(nodes: &[Cache; 2], keys: &[&str]) {
    for key in keys {
        nodes[0].insert(*key, 0).await.unwrap();
        assert!(nodes[1].contains(*key).await.unwrap());
    }
}

async fn told(reader: &LogReader, text: &str) {
    until(text, || reader.stats().last_error.is_some_and(|error| error.contains(text))).await;
}

/// Whether the reader works: it makes the invalidation of one change, and of no more.
async fn works(log: &LogScene, nodes: &[Cache; 2]) {
    store(nodes, &["1", "7"]).await;
    log.write("UPDATE items SET version = version + 1 WHERE id = 1").await;
    forgotten(&nodes[1], "1").await;
    assert!(nodes[1].contains("7").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_published_by_mistake_is_taken_out_and_the_reader_goes_on() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    let name = log.log.clone();
    let reader = log.reader(&nodes[0]).await;
    log.write(&format!(
        "CREATE TABLE orders (id BIGINT PRIMARY KEY); ALTER PUBLICATION {name} ADD TABLE orders; \
         INSERT INTO orders VALUES (1)"
    ))
    .await;
    told(&reader, "which this reader does not watch").await;
    until("it tells what waits", || {
        let stats = reader.stats();
        stats.role != Role::AtWork && !stats.oldest.is_zero() && stats.lag_bytes > 0 && stats.kept_bytes > 0
    })
    .await;
    store(&nodes, &["2"]).await;
    log.write(&format!("ALTER PUBLICATION {name} DROP TABLE orders")).await;
    // Nobody can tell what the change means.
    forgotten(&nodes[1], "2").await;
    told(&reader, "\"public\".\"orders\"").await;
    log.drained().await;
    works(&log, &nodes).await;
    assert_eq!((reader.stats().created, reader.stats().refused), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_may_stop_watching_a_table() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    let name = log.log.clone();
    log.write(&format!(
        "CREATE TABLE orders (id BIGINT PRIMARY KEY); ALTER PUBLICATION {name} ADD TABLE orders"
    ))
    .await;
    log.write("INSERT INTO orders VALUES (1)").await;
    log.write(&format!("ALTER PUBLICATION {name} DROP TABLE orders")).await;
    let reader = log.builder(&nodes[0]).start().unwrap();
    until("the reader is at work", || reader.stats().role == Role::AtWork).await;
    log.drained().await;
    works(&log, &nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_with_a_new_name_is_still_the_table() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    log.write("UPDATE items SET version = 1 WHERE id = 2").await;
    log.write("ALTER TABLE items RENAME TO accounts").await;
    store(&nodes, &["2", "7"]).await;
    let builder = log.bare(&nodes[0]).table("accounts", &nodes[0], |row, out| {
        for [id] in row.values(["id"])? {
            out.key(id);
        }
        Ok(())
    });
    let reader = at_work(builder).await;
    forgotten(&nodes[1], "2").await;
    log.drained().await;
    assert!(nodes[1].contains("7").await.unwrap(), "nothing else is invalidated");
    assert_eq!((reader.stats().database_failures, reader.stats().refused), (0, 0));
}

/// A database that keeps bytes without an encoding, with a table `items` that has a name.
async fn bytes_scene() -> LogScene {
    let server = Arc::new(PostgresServer::start());
    let plain: Scene<sqlx::Postgres> = Scene::on(Arc::clone(&server)).await;
    plain
        .run("CREATE DATABASE bytes ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        .await;
    let url = format!("{}/bytes", plain.url.rsplit_once('/').unwrap().0);
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let scene = Scene { pool, outbox: Outbox::new(), url, site: server };
    scene.run("CREATE TABLE items (id BIGINT PRIMARY KEY, version BIGINT, name TEXT); INSERT INTO items VALUES (1), (2)").await;
    let log = LogScene::without_slot(scene).await;
    log.create_slot().await;
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_sent_renews_the_slot_or_is_told() {
    let (log, (_l2, nodes)) = (bytes_scene().await, two_nodes().await);
    let reader = log.reader(&nodes[0]).await;
    store(&nodes, &["2"]).await;
    log.write(r"UPDATE items SET name = E'\xff' WHERE id = 2").await;
    told(&reader, &format!("pg_drop_replication_slot('{}')", log.log)).await;
    told(&reader, "clear the namespaces (`rows`)").await;
    assert!(nodes[1].contains("2").await.unwrap());
    reader.shutdown().await;
    let reader = log.builder(&nodes[0]).missing_slot(MissingSlot::Create).start().unwrap();
    forgotten(&nodes[1], "2").await;
    until("the slot is created", || reader.stats().created == 1).await;
    works(&log, &nodes).await;
    assert_eq!(reader.stats().created, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_is_older_than_the_publication_is_renewed() {
    let (log, (_l2, nodes)) = (LogScene::new().await, two_nodes().await);
    let name = &log.log;
    store(&nodes, &["2"]).await;
    log.write(&format!("DROP PUBLICATION {name}")).await;
    log.write("UPDATE items SET version = 1 WHERE id = 2").await;
    log.write(&format!("CREATE PUBLICATION {name} FOR TABLE items")).await;
    let reader = log.builder(&nodes[0]).missing_slot(MissingSlot::Create).start().unwrap();
    forgotten(&nodes[1], "2").await;
    until("the slot is created", || reader.stats().created == 1).await;
    works(&log, &nodes).await;
}
