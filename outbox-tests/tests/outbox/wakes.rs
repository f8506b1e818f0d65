//! What wakes a relay.

use std::time::Duration;

use async_cache_outbox::{Relay, Wake};
use integration_tests::fleet::Cache;
use outbox_tests::scene::two_nodes;
use outbox_tests::{Scene, TestDatabase};
use sqlx::postgres::PgListener;
use sqlx::{MySql, Postgres, Sqlite};

/// A relay that looks at the table every ten seconds. So a change that it applies was announced to it.
async fn slow_relay<DB: TestDatabase>(scene: &Scene<DB>, cache: &Cache) -> Relay {
    let relay = scene
        .outbox
        .relay(&scene.pool)
        .cache(cache)
        .poll_interval(Duration::from_secs(10))
        .session_timeout(Duration::from_secs(60))
        .start()
        .unwrap();
    // The first look, before which nothing wakes it.
    scene.commit(cache, 0).await;
    scene.drained().await;
    relay
}

#[tokio::test]
async fn a_commit_wakes_the_relay_on_postgres() {
    let (scene, (_l2, [here, _])) = (Scene::<Postgres>::new().await, two_nodes().await);
    let _relay = slow_relay(&scene, &here).await;
    // With polls alone each one would take ten seconds.
    let all = async {
        for id in 1..12 {
            scene.commit(&here, id).await;
            scene.drained().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("the relay was woken");
}

async fn wake_up_makes_the_relay_look<DB: TestDatabase>() {
    let (scene, (_l2, [here, _])) = (Scene::<DB>::new().await, two_nodes().await);
    let relay = slow_relay(&scene, &here).await;
    let all = async {
        for id in 1..12 {
            scene.commit(&here, id).await;
            relay.wake_up();
            scene.drained().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("the relay was woken");
}

#[tokio::test]
async fn wake_up_makes_the_relay_look_on_sqlite() {
    wake_up_makes_the_relay_look::<Sqlite>().await;
}

#[tokio::test]
async fn wake_up_makes_the_relay_look_on_mysql() {
    wake_up_makes_the_relay_look::<MySql>().await;
}

#[tokio::test]
async fn a_notification_is_sent_by_a_commit_alone_and_only_if_asked_for() {
    let (scene, (_l2, [here, _])) = (Scene::<Postgres>::new().await, two_nodes().await);
    let mut listener = PgListener::connect(&scene.url).await.unwrap();
    listener.listen("async_cache_outbox").await.unwrap();
    let mut tx = scene.begin().await;
    scene.outbox.clone().wake(Wake::Poll).invalidate(&mut *tx, &here, "1").await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = scene.begin().await;
    scene.change(&mut tx, &here, 2).await;
    tx.rollback().await.unwrap();
    scene.commit(&here, 3).await;
    sqlx::query("NOTIFY async_cache_outbox, 'end'").execute(&scene.pool).await.unwrap();
    assert_eq!(listener.recv().await.unwrap().payload(), "", "of the one commit");
    assert_eq!(listener.recv().await.unwrap().payload(), "end");
}
