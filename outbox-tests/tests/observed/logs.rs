//! The faults of log readers, each with a slot of its own on one PostgreSQL.

use async_cache::testing::{ms, until};
use async_cache_outbox::MissingSlot;
use integration_tests::fleet::Cache;
use outbox_tests::log::{LogScene, at_work};
use outbox_tests::{Scene, TestDatabase as _};
use sqlx::Postgres;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::keep;

const CHANGE: &str = "UPDATE items SET version = version + 1 WHERE id = 1";

/// A database with a publication of this name, and no slot.
async fn without_slot(name: &str) -> LogScene {
    let log = LogScene { scene: Scene::new().await, log: name.to_owned() };
    log.scene.run(&format!("CREATE PUBLICATION {name} FOR TABLE items")).await;
    log
}

async fn with_slot(name: &str) -> LogScene {
    let log = without_slot(name).await;
    log.create_slot().await;
    log
}

/// Nothing is wrong here.
pub(crate) async fn calm(tasks: &mut JoinSet<()>, node: Cache) {
    let log = with_slot("calm").await;
    let reader = log.reader(&node).await;
    changes(tasks, log, reader);
}

/// A reader that creates its slot.
pub(crate) async fn created(tasks: &mut JoinSet<()>, node: &Cache) {
    let log = without_slot("created").await;
    let reader = at_work(log.builder(node).missing_slot(MissingSlot::Create)).await;
    until("the slot is created", || reader.stats().created == 1).await;
    keep(tasks, (log, reader));
}

/// Changes a row again and again.
fn changes(tasks: &mut JoinSet<()>, log: LogScene, reader: impl Send + 'static) {
    tasks.spawn(async move {
        let _reader = reader;
        loop {
            log.scene.run(CHANGE).await;
            sleep(ms(50)).await;
        }
    });
}

/// Causes all faults. The L2 of `cut_off` is gone.
pub(crate) async fn faults(tasks: &mut JoinSet<()>, node: &Cache, cut_off: &Cache) {
    let log = with_slot("dropped").await;
    drop(log.reader(node).await);
    keep(tasks, log);

    let log = without_slot("missing").await;
    let reader = log.builder(node).start().expect("a valid reader");
    keep(tasks, (log, reader));

    let log = with_slot("refusing").await;
    let refuses = log.bare(node).table("items", node, |_, _| Err("this function never works".into()));
    let reader = at_work(refuses).await;
    changes(tasks, log, reader);

    let log = with_slot("away").await;
    let reader = log.reader(cut_off).await;
    log.scene.run(CHANGE).await;
    until("the reader has tried", || reader.stats().cache_failures > 0).await;
    keep(tasks, (log, reader));

    kept(tasks, node).await;
}

/// The server keeps the log from the beginning of a transaction that stays open.
async fn kept(tasks: &mut JoinSet<()>, node: &Cache) {
    let log = with_slot("kept").await;
    let reader = log.reader(node).await;
    let mut open = log.scene.begin().await;
    Postgres::run(&mut open, CHANGE.to_owned()).await.expect("an update");
    // Each begins a new segment of 16 MiB.
    for _ in 0..4 {
        log.write("CREATE TABLE segment (); DROP TABLE segment; SELECT pg_switch_wal()").await;
    }
    keep(tasks, (log, reader, open));
}
