//! Wrong settings and inputs, and secrets.

use std::time::Duration;

use async_cache::testing::until;
use async_cache::{MemoryBackend, TieredCache};
use async_cache_outbox::{Change, Error, MAX_CHANGES, Outbox};
use outbox_tests::Scene;
use outbox_tests::scene::two_nodes;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Postgres, Sqlite};

#[tokio::test]
async fn wrong_settings_are_refused_with_the_remedy() {
    let (scene, (_l2, [here, _])) = (Scene::<Sqlite>::new().await, two_nodes().await);
    let wrong = |builder: async_cache_outbox::RelayBuilder| match builder.start() {
        Err(Error::Config(said)) => said,
        other => panic!("{other:?}"),
    };
    assert!(wrong(scene.outbox.relay(&scene.pool)).contains("add each one with `.cache(&cache)`"));
    let alone: TieredCache<String, u64> =
        TieredCache::builder().namespace("alone").l1(MemoryBackend::new(1)).build().unwrap();
    assert!(wrong(scene.builder(&here).cache(&alone)).contains("`alone` has no L2"));
    assert!(wrong(scene.builder(&here).poll_interval(Duration::ZERO)).contains("`poll_interval` is 0ns"));
    let slow = Duration::from_secs(11);
    assert!(wrong(scene.builder(&here).takeover_interval(slow)).contains("from 10 ms to 10 s"));
    assert!(wrong(scene.builder(&here).batch(0)).contains("`batch` is 0"));
    assert!(wrong(scene.builder(&here).batch(5_001)).contains("from 1 to 5,000 rows"));
    assert!(wrong(scene.builder(&here).session_timeout(Duration::ZERO)).contains("`session_timeout` is 0ns"));
    let (slow, short) = (Duration::from_secs(10), Duration::from_secs(29));
    let uneven = scene.builder(&here).poll_interval(slow).session_timeout(short);
    assert!(wrong(uneven).contains("three times the `poll_interval` (10s)"));
    let builder = scene.builder(&here);
    let outside = std::thread::spawn(|| builder.start().map(drop));
    assert!(outside.join().unwrap().unwrap_err().to_string().contains("outside a Tokio runtime"));
}

#[tokio::test]
async fn what_no_cache_can_hold_is_refused_and_nothing_is_written() {
    let (scene, (_l2, [here, _])) = (Scene::<Sqlite>::new().await, two_nodes().await);
    let (mut tx, long) = (scene.begin().await, "x".repeat(1_025));
    assert!(matches!(scene.outbox.invalidate(&mut *tx, &here, long.as_str()).await, Err(Error::Cache(_))));
    assert!(matches!(scene.outbox.invalidate_tag(&mut *tx, &here, "").await, Err(Error::Cache(_))));
    assert!(matches!(scene.outbox.invalidate_all(&mut *tx, "").await, Err(Error::Config(_))));
    let one = Change::all("rows").unwrap();
    let many = std::iter::repeat_n(one, MAX_CHANGES + 1);
    let error = scene.outbox.write(&mut *tx, many).await.unwrap_err();
    assert!(error.to_string().contains("more than 100000 invalidations"), "{error}");
    // Those that are too long to be cached need no invalidation.
    scene.outbox.invalidate_many(&mut *tx, &here, [long.as_str(), "1"]).await.unwrap();
    scene.outbox.invalidate_many(&mut *tx, &here, [""; 0]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(scene.rows().await, 1);
}

#[tokio::test]
async fn the_rows_of_a_cache_without_an_l2_are_refused_when_they_are_written() {
    let scene = Scene::<Sqlite>::new().await;
    let alone: TieredCache<String, u64> =
        TieredCache::builder().namespace("alone").l1(MemoryBackend::new(1)).build().unwrap();
    let mut tx = scene.begin().await;
    let refused = |outcome: Result<(), Error>| match outcome {
        Err(Error::Config(said)) => assert!(said.contains("`alone` has no L2"), "{said}"),
        other => panic!("{other:?}"),
    };
    refused(scene.outbox.invalidate(&mut *tx, &alone, "1").await);
    refused(scene.outbox.invalidate_many(&mut *tx, &alone, ["1", "2"]).await);
    refused(scene.outbox.invalidate_tag(&mut *tx, &alone, "team:9").await);
    refused(scene.outbox.invalidate_all(&mut *tx, &alone).await);
    refused(Change::key(&alone, "1").map(drop));
    refused(scene.outbox.trigger("users").namespace(&alone).key_column("id").build().map(drop));
    tx.commit().await.unwrap();
    assert_eq!(scene.rows().await, 0);
}

#[tokio::test]
async fn passwords_stay_out_of_debug_and_errors() {
    let (_l2, [here, _]) = two_nodes().await;
    // Nobody listens there.
    let pool = PgPoolOptions::new()
        .acquire_timeout(Duration::from_millis(100))
        .connect_lazy("postgres://app:hunter2@127.0.0.1:1/shop")
        .unwrap();
    let outbox = Outbox::<Postgres>::new();
    let builder = outbox.relay(&pool).cache(&here);
    let mut said = format!("{outbox:?} {builder:?}");
    let relay = builder.start().unwrap();
    until("it has failed", || relay.stats().database_failures > 0).await;
    let error = outbox.migrate(&pool).await.unwrap_err();
    said.push_str(&format!("{relay:?} {:?} {error} {error:?}", relay.stats()));
    assert!(!said.contains("hunter2"), "{said}");
    assert!(said.contains("no connection to the database within"), "{said}");
}
