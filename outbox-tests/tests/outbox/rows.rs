//! Rows that a relay cannot apply are kept, counted and reported, and hold up no others.

use async_cache::testing::until;
use async_cache::{MemoryBackend, TieredCache};
use async_cache_outbox::{Change, MAX_ATTEMPTS};
use integration_tests::fleet::Cache;
use outbox_tests::scene::two_nodes;
use outbox_tests::{Scene, TestDatabase};

fn cache_named(namespace: &str) -> Cache {
    let builder = TieredCache::builder().namespace(namespace).l1(MemoryBackend::new(100));
    builder.l2(MemoryBackend::new(100)).build().expect("a valid cache")
}

async fn rows_of_an_unknown_namespace_wait_for_a_relay_that_knows_it<DB: TestDatabase>() {
    let (scene, (_l2, [here, _])) = (Scene::<DB>::new().await, two_nodes().await);
    let mut tx = scene.begin().await;
    let changes = (0..20).map(|id| Change::key("elsewhere", &id).unwrap());
    scene.outbox.write(&mut tx, changes).await.unwrap();
    tx.commit().await.unwrap();
    // Pages smaller than the number of unknown rows.
    let relay = scene.builder(&here).batch(5).start().unwrap();
    for id in 0..20 {
        scene.commit(&here, id).await;
    }
    scene.rows_are(20).await;
    until("the rows are reported", || relay.stats().unknown == 20).await;
    let stats = relay.shutdown().await;
    assert_eq!((stats.applied, stats.unreadable), (20, 0));
    let tried = "SELECT COUNT(*) FROM async_cache_outbox WHERE attempts > 0";
    assert_eq!(scene.number(tried).await, 0, "they cost no attempt");

    let elsewhere = cache_named("elsewhere");
    elsewhere.insert("7", 0).await.unwrap();
    let relay = scene.builder(&here).cache(&elsewhere).start().unwrap();
    scene.drained().await;
    assert!(!elsewhere.contains("7").await.unwrap());
    until("nothing is unknown", || relay.stats().unknown == 0).await;
}

async fn the_names_of_unknown_namespaces_are_reported<DB: TestDatabase>() {
    let (scene, (_l2, [here, _])) = (Scene::<DB>::new().await, two_nodes().await);
    let relay = scene.relay(&here).await;
    let mut tx = scene.begin().await;
    scene.outbox.invalidate_all(&mut tx, "Rows").await.unwrap();
    scene.outbox.invalidate_all(&mut tx, "rows ").await.unwrap();
    tx.commit().await.unwrap();
    until("the names are reported", || {
        let mut names = relay.stats().unknown_namespaces;
        names.sort();
        names == ["Rows", "rows "]
    })
    .await;
}

async fn a_row_that_cannot_be_read_is_tried_a_limited_number_of_times_and_kept<DB: TestDatabase>() {
    let (scene, (_l2, [here, _])) = (Scene::<DB>::new().await, two_nodes().await);
    here.insert("1", 0).await.unwrap();
    scene.run("INSERT INTO async_cache_outbox (namespace, kind, data) VALUES ('rows', 'prefix', '1')").await;
    let relay = scene.builder(&here).batch(1).start().unwrap();
    scene.commit(&here, 2).await;
    scene.rows_are(1).await;
    until("the row is given up", || relay.stats().unreadable == 1).await;
    let tried = format!("SELECT COUNT(*) FROM async_cache_outbox WHERE attempts = {MAX_ATTEMPTS}");
    assert_eq!(scene.number(&tried).await, 1);
    let named = "SELECT COUNT(*) FROM async_cache_outbox WHERE error LIKE 'unknown kind%'";
    assert_eq!(scene.number(named).await, 1, "the reason is in the row");
    let stats = relay.shutdown().await;
    assert!(stats.last_error.unwrap().contains("1 rows, the first with id 1: unknown kind"));
    assert_eq!(stats.applied, 1);

    // As if a newer version knew the kind: a relay that comes to be at work tries the row again.
    scene.run("UPDATE async_cache_outbox SET kind = 'key'").await;
    let _relay = scene.relay(&here).await;
    scene.drained().await;
    assert!(!here.contains("1").await.unwrap());
}

async fn rows_written_by_other_programs_are_applied<DB: TestDatabase>() {
    let (scene, (_l2, [here, there])) = (Scene::<DB>::new().await, two_nodes().await);
    for id in ["1", "2"] {
        here.insert(id, 0).tag("team:9").await.unwrap();
    }
    scene.run("INSERT INTO async_cache_outbox (namespace, kind, data) VALUES ('rows', 'key', '1')").await;
    let _relay = scene.relay(&there).await;
    scene.drained().await;
    assert!(!there.contains("1").await.unwrap() && there.contains("2").await.unwrap());
    scene
        .run("INSERT INTO async_cache_outbox (namespace, kind, data) VALUES ('rows', 'tag', 'team:9')")
        .await;
    scene.drained().await;
    assert!(!there.contains("2").await.unwrap());
}

async fn a_key_of_many_rows_is_invalidated_once<DB: TestDatabase>() {
    let (scene, (_l2, [here, _])) = (Scene::<DB>::new().await, two_nodes().await);
    let mut tx = scene.begin().await;
    scene.outbox.invalidate_many(&mut tx, &here, ["1"; 50]).await.unwrap();
    tx.commit().await.unwrap();
    let relay = scene.relay(&here).await;
    scene.drained().await;
    until("the rows are counted", || relay.stats().applied == 50).await;
    assert_eq!(here.stats().invalidations_sent, 1);
}

async fn many_rows_are_written_and_applied<DB: TestDatabase>() {
    let (scene, (_l2, [here, _])) = (Scene::<DB>::new().await, two_nodes().await);
    let keys: Vec<String> = (0..12_000).map(|id| format!("key:{id}")).collect();
    let mut tx = scene.begin().await;
    scene.outbox.invalidate_many(&mut tx, &here, keys.iter().map(String::as_str)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(scene.rows().await, 12_000);
    let relay = scene.relay(&here).await;
    scene.drained().await;
    until("the rows are counted", || relay.stats().applied == 12_000).await;
}

outbox_tests::on_every_database!(
    rows_of_an_unknown_namespace_wait_for_a_relay_that_knows_it,
    the_names_of_unknown_namespaces_are_reported,
    a_row_that_cannot_be_read_is_tried_a_limited_number_of_times_and_kept,
    rows_written_by_other_programs_are_applied,
    a_key_of_many_rows_is_invalidated_once,
    many_rows_are_written_and_applied,
);
