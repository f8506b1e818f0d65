//! A database whose changes a log reader reads.

use std::sync::Arc;
use std::time::Duration;

use async_cache::testing::until;
use async_cache_outbox::{ChangeLog, LogReader, LogReaderBuilder, Role};
use integration_tests::fleet::Cache;
use sqlx::{AssertSqlSafe, Postgres, Transaction};

use crate::Scene;
use crate::postgres::PostgresServer;
use crate::scene::POLL;

/// A database with a table `items`, a publication of it, and a slot. Both have the name `log`.
#[derive(Debug)]
pub struct LogScene {
    /// The database.
    pub scene: Scene<Postgres>,
    /// The slot and the publication. Slots are of the whole server, so each database has another name.
    pub log: String,
}

impl LogScene {
    /// A new database on the shared server, with a slot.
    pub async fn new() -> Self {
        let scene = Self::without_slot(Scene::new().await).await;
        scene.create_slot().await;
        scene
    }

    /// A new database on a server of the test's own, with a slot.
    pub async fn on(server: Arc<PostgresServer>) -> Self {
        let scene = Self::without_slot(Scene::on(server).await).await;
        scene.create_slot().await;
        scene
    }

    /// A publication of `items`.
    pub async fn without_slot(scene: Scene<Postgres>) -> Self {
        let log = format!("log_{}", scene.url.rsplit('/').next().unwrap_or_default());
        scene.run(&format!("CREATE PUBLICATION {log} FOR TABLE items")).await;
        Self { scene, log }
    }

    /// Creates the slot.
    pub async fn create_slot(&self) {
        let log = &self.log;
        self.scene.run(&format!("SELECT pg_create_logical_replication_slot('{log}', 'pgoutput')")).await;
    }

    /// A reader with short intervals. It watches no table yet.
    ///
    /// # Panics
    ///
    /// If the name is invalid.
    pub fn bare(&self, cache: &Cache) -> LogReaderBuilder {
        let log = ChangeLog::new(&self.log).expect("a valid name");
        log.reader(&self.scene.pool).cache(cache).poll_interval(POLL).takeover_interval(POLL)
    }

    /// A reader that invalidates the key of each item that changes.
    pub fn builder(&self, cache: &Cache) -> LogReaderBuilder {
        self.bare(cache).table("items", cache, |row, out| {
            for [id] in row.values(["id"])? {
                out.key(id);
            }
            Ok(())
        })
    }

    /// A reader that is at work.
    ///
    /// # Panics
    ///
    /// If it does not get there.
    pub async fn reader(&self, cache: &Cache) -> LogReader {
        at_work(self.builder(cache)).await
    }

    /// Runs a statement as a program that knows nothing of the cache: on a connection of its own.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub async fn write(&self, sql: &str) {
        use sqlx::Connection as _;
        let mut writer = sqlx::PgConnection::connect(&self.scene.url).await.expect("a connection");
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut writer).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
        writer.close().await.expect("an end");
    }

    /// A transaction that runs, and its number.
    ///
    /// # Panics
    ///
    /// If the database refuses.
    pub async fn running(&self) -> (Transaction<'static, Postgres>, i64) {
        let mut tx = self.scene.begin().await;
        let xid = sqlx::query_scalar("SELECT pg_current_xact_id()::text::bigint").fetch_one(&mut *tx).await;
        (tx, xid.expect("a number"))
    }

    /// Makes every commit of this server wait, after it was written to the log, for a standby that does not come. Then changes an item.
    /// The change is committed, and nobody can see it until [`let_see`](Self::let_see).
    pub async fn change_unseen(&self, id: i64) {
        self.scene.run("CREATE TABLE probe (id BIGINT)").await;
        self.commits_wait_for("nobody").await;
        // The server takes some time to notice the setting.
        let waits = async {
            loop {
                self.scene.run("INSERT INTO probe VALUES (1)").await;
            }
        };
        tokio::select! {
            () = waits => {}
            () = self.waiting_commits(1) => {}
        }
        let url = self.scene.url.clone();
        tokio::spawn(async move {
            let pool = sqlx::PgPool::connect(&url).await.expect("a connection");
            let update = format!("UPDATE items SET version = version + 1 WHERE id = {id}");
            sqlx::raw_sql(AssertSqlSafe(update)).execute(&pool).await.expect("a commit");
        });
        self.waiting_commits(2).await;
    }

    /// Lets the commits end that [`change_unseen`](Self::change_unseen) has made wait.
    pub async fn let_see(&self) {
        self.commits_wait_for("").await;
    }

    async fn commits_wait_for(&self, standbys: &str) {
        self.scene.run(&format!("ALTER SYSTEM SET synchronous_standby_names = '{standbys}'")).await;
        self.scene.run("SELECT pg_reload_conf()").await;
    }

    async fn waiting_commits(&self, count: i64) {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        while self.scene.number(waits).await < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The position up to which the slot is acknowledged.
    pub async fn acknowledged(&self) -> i64 {
        let log = &self.log;
        self.scene
            .number(&format!(
                "SELECT pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::bigint FROM pg_replication_slots WHERE slot_name = '{log}'"
            ))
            .await
    }

    /// The end of the log.
    pub async fn end(&self) -> i64 {
        self.scene.number("SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint").await
    }

    /// Removes the slot, when no session uses it.
    pub async fn drop_slot(&self) {
        let used =
            format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}' AND active", self.log);
        while self.scene.number(&used).await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.scene.run(&format!("SELECT pg_drop_replication_slot('{}')", self.log)).await;
    }

    /// Waits until everything that is in the log now is acknowledged.
    ///
    /// # Panics
    ///
    /// If it is not in 60 s.
    pub async fn drained(&self) {
        let end = self.end().await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while self.acknowledged().await < end {
            assert!(tokio::time::Instant::now() < deadline, "the log is not drained");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Starts a reader, and waits until it is at work.
///
/// # Panics
///
/// If it does not get there.
pub async fn at_work(builder: LogReaderBuilder) -> LogReader {
    let reader = builder.start().expect("a valid reader");
    until("the reader is at work", || reader.stats().role == Role::AtWork).await;
    reader
}

/// Waits until a node has forgotten a key.
///
/// # Panics
///
/// If it has not in 60 s.
pub async fn forgotten(cache: &Cache, key: &str) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    // An error says that a change of this node is still on its way.
    while cache.contains(key).await.unwrap_or(true) {
        assert!(tokio::time::Instant::now() < deadline, "`{key}` is still cached");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
