//! Writers and relays are killed at random points. `outbox_crash` does the same for longer.

use std::time::Duration;

use outbox_tests::TestDatabase;
use outbox_tests::crash::{Campaign, Kind, Means, run};
use sqlx::{MySql, Postgres, Sqlite};

async fn judged<DB: TestDatabase>(kind: Kind, means: Means, transactions: usize) {
    let program = env!("CARGO_BIN_EXE_outbox_node").into();
    let kill_every = Duration::from_millis(100);
    let report = run::<DB>(&Campaign { program, kind, means, transactions, kill_every }).await;
    assert!(report.is_clean(), "{report}");
    assert!(report.relays_killed > 0 && report.writers_killed > 0, "{report}");
    assert!(report.invalidations >= report.committed, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_is_invalidated_and_nothing_else_on_postgres() {
    judged::<Postgres>(Kind::Postgres, Means::Outbox, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_is_invalidated_and_nothing_else_from_the_log_of_postgres() {
    judged::<Postgres>(Kind::Postgres, Means::Log, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_is_invalidated_and_nothing_else_on_mysql() {
    judged::<MySql>(Kind::Mysql, Means::Outbox, 400).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_is_invalidated_and_nothing_else_on_sqlite() {
    judged::<Sqlite>(Kind::Sqlite, Means::Outbox, 200).await;
}
