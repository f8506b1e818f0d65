//! The faults of relays, each with a table of its own in SQLite.

use async_cache::testing::{ms, until};
use async_cache_outbox::{Change, Outbox};
use integration_tests::fleet::Cache;
use outbox_tests::Scene;
use outbox_tests::scene::ITEMS;
use sqlx::Sqlite;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::keep;

/// A database whose outbox has this name, and is not there yet.
async fn without_table(name: &str) -> Scene<Sqlite> {
    let outbox = Outbox::in_table(name).expect("a valid name");
    Scene { outbox, ..Scene::new().await }
}

async fn with_table(name: &str) -> Scene<Sqlite> {
    let scene = without_table(name).await;
    scene.outbox.migrate(&scene.pool).await.expect("a table");
    scene
}

/// Nothing is wrong here.
pub(crate) async fn calm(tasks: &mut JoinSet<()>, node: Cache) {
    let scene = with_table("calm").await;
    let relay = scene.relay(&node).await;
    tasks.spawn(async move {
        let _relay = relay;
        for id in (0..ITEMS).cycle() {
            scene.commit(&node, id).await;
            sleep(ms(50)).await;
        }
    });
}

/// Causes all faults. The L2 of `cut_off` is gone.
pub(crate) async fn faults(tasks: &mut JoinSet<()>, node: &Cache, cut_off: &Cache) {
    rows_that_stay(tasks, node).await;

    let scene = with_table("dropped").await;
    drop(scene.relay(node).await);
    keep(tasks, scene);

    let scene = without_table("missing").await;
    let relay = scene.builder(node).start().expect("a valid relay");
    keep(tasks, (scene, relay));

    let scene = with_table("away").await;
    let relay = scene.relay(cut_off).await;
    scene.commit(cut_off, 1).await;
    until("the relay has tried", || relay.stats().cache_failures > 0).await;
    keep(tasks, (scene, relay));
}

async fn rows_that_stay(tasks: &mut JoinSet<()>, node: &Cache) {
    let scene = with_table("unknown").await;
    let relay = scene.relay(node).await;
    let mut tx = scene.begin().await;
    scene.outbox.write(&mut tx, [Change::all("elsewhere").expect("a change")]).await.expect("a row");
    tx.commit().await.expect("a commit");
    keep(tasks, (scene, relay));

    let scene = with_table("unreadable").await;
    let relay = scene.relay(node).await;
    scene.run("INSERT INTO unreadable (namespace, kind, data) VALUES ('rows', 'prefix', '1')").await;
    keep(tasks, (scene, relay));
}
