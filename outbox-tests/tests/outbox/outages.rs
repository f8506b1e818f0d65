//! Redis and the database go away and come back.

use std::sync::Arc;
use std::time::Duration;

use async_cache::testing::until;
use async_cache::{MemoryBackend, TieredCache};
use async_cache_outbox::Role;
use integration_tests::Data;
use integration_tests::fleet::{Cache, Fleet};
use outbox_tests::scene::two_nodes;
use outbox_tests::{Scene, Site, TestDatabase};
use sqlx::Postgres;

async fn rows_stay_while_redis_is_away<DB: TestDatabase>() {
    let (scene, fleet) = (Scene::<DB>::new().await, Fleet::redis());
    let cache = fleet.node().await;
    let relay = scene.relay(&cache).await;
    fleet.server().kill();
    for id in 0..20 {
        scene.commit(&cache, id).await;
    }
    until("the relay has tried", || relay.stats().cache_failures > 1).await;
    assert_eq!(scene.rows().await, 20);
    assert!(relay.stats().last_error.unwrap().contains("namespace `rows`"));
    fleet.server().restart(Data::Drop);
    scene.drained().await;
    until("the rows are counted", || relay.stats().applied == 20).await;
    assert_eq!(relay.stats().role, Role::AtWork, "it was at work all the time");
}

/// A program may write its own time, though not one that has an age.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_without_an_age_is_counted() {
    let (scene, fleet) = (Scene::<Postgres>::new().await, Fleet::redis());
    let cache = fleet.node().await;
    fleet.server().kill();
    scene
        .run(
            "INSERT INTO async_cache_outbox (namespace, kind, data, created_at) \
             VALUES ('rows', 'key', 'a', 'infinity'), ('rows', 'key', 'b', '-infinity')",
        )
        .await;
    let relay = scene.builder(&cache).start().unwrap();
    until("the rows are counted", || relay.stats().backlog == 2).await;
    assert_eq!((relay.stats().database_failures, relay.stats().oldest), (0, Duration::ZERO));
}

async fn a_cache_whose_l2_is_away_does_not_hold_up_the_others<DB: TestDatabase>() {
    let (scene, fleet) = (Scene::<DB>::new().await, Fleet::redis());
    let away = fleet.node().await;
    let builder = TieredCache::builder().namespace("others").l1(MemoryBackend::new(100));
    let other: Cache = builder.l2(MemoryBackend::new(100)).build().unwrap();
    fleet.server().kill();
    // More rows than a page holds, in front of those of the other cache.
    for id in 0..10 {
        scene.commit(&away, id).await;
    }
    let relay = scene.builder(&away).cache(&other).batch(2).start().unwrap();
    for id in 0..10 {
        scene.commit(&other, id).await;
    }
    scene.rows_are(10).await;
    until("the rows are counted", || relay.stats().applied == 10).await;
    assert_eq!(scene.number("SELECT COUNT(*) FROM async_cache_outbox WHERE namespace = 'rows'").await, 10);
}

async fn the_relay_goes_on_when_the_database_is_back<DB: TestDatabase>() {
    let site = Arc::new(DB::Site::start());
    let (scene, (_l2, [here, there])) = (Scene::<DB>::on(Arc::clone(&site)).await, two_nodes().await);
    here.insert("1", 0).await.unwrap();
    let relay = scene.relay(&there).await;
    // The page is locked by nobody, but the relay must not see the row before the server dies.
    let mut tx = scene.begin().await;
    scene.change(&mut tx, &here, 1).await;
    tx.commit().await.unwrap();
    site.kill();
    until("the relay has noticed", || relay.stats().database_failures > 0).await;
    site.restart();
    until("the relay is at work again", || relay.stats().role == Role::AtWork).await;
    let again = Scene { pool: DB::pool(&scene.url).await.unwrap(), ..scene };
    again.commit(&here, 2).await;
    again.drained().await;
    assert!(!there.contains("1").await.unwrap());
}

async fn a_shutdown_ends_in_time_although_the_database_hangs<DB: TestDatabase>() {
    let site = Arc::new(DB::Site::start());
    let (scene, (_l2, [here, _])) = (Scene::<DB>::on(Arc::clone(&site)).await, two_nodes().await);
    let relay = scene.builder(&here).shutdown_limit(Duration::from_millis(200)).start().unwrap();
    until("the relay is at work", || relay.stats().role == Role::AtWork).await;
    site.pause();
    // The limit of a statement is 20 s.
    let ended = tokio::time::timeout(Duration::from_secs(15), relay.shutdown()).await;
    site.resume();
    assert!(ended.is_ok());
}

outbox_tests::on_every_database!(
    rows_stay_while_redis_is_away,
    a_cache_whose_l2_is_away_does_not_hold_up_the_others,
);

mod servers {
    use super::{
        a_shutdown_ends_in_time_although_the_database_hangs, the_relay_goes_on_when_the_database_is_back,
    };
    outbox_tests::on_every_server!(
        a_shutdown_ends_in_time_although_the_database_hangs,
        the_relay_goes_on_when_the_database_is_back
    );
}
