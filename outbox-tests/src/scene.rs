//! A database with an outbox, and caches on one L2.

use std::sync::Arc;
use std::time::Duration;

use async_cache::testing::until;
use async_cache_outbox::{Outbox, Relay, RelayBuilder, Role};
use integration_tests::fleet::{Cache, Fleet};
use sqlx::{Pool, Transaction};

use crate::database::TestDatabase;

/// How long the relays of these tests wait between two looks at the table.
pub const POLL: Duration = Duration::from_millis(20);

/// The items have the numbers below this one.
pub const ITEMS: i64 = 200;

/// A database with an outbox and a table `items`.
#[derive(Debug)]
pub struct Scene<DB: TestDatabase> {
    /// Connections.
    pub pool: Pool<DB>,
    /// The outbox.
    pub outbox: Outbox<DB>,
    /// How to connect.
    pub url: String,
    /// The server.
    pub site: Arc<DB::Site>,
}

impl<DB: TestDatabase> Scene<DB> {
    /// A new database on the shared server.
    pub async fn new() -> Self {
        Self::on(DB::shared()).await
    }

    /// A new database on a server.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn on(site: Arc<DB::Site>) -> Self {
        let url = DB::new_database(&site).await;
        let pool = DB::pool(&url).await.expect("a connection");
        let outbox = Outbox::new();
        outbox.migrate(&pool).await.expect("a table");
        let scene = Self { pool, outbox, url, site };
        scene.run("CREATE TABLE items (id BIGINT PRIMARY KEY, version BIGINT NOT NULL)").await;
        let items: Vec<String> = (0..ITEMS).map(|id| format!("({id}, 0)")).collect();
        scene.run(&format!("INSERT INTO items VALUES {}", items.join(","))).await;
        scene
    }

    /// Runs statements.
    ///
    /// # Panics
    ///
    /// If they fail.
    pub async fn run(&self, sql: &str) {
        let mut connection = self.pool.acquire().await.expect("a connection");
        DB::run(&mut connection, sql.to_owned()).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Asks for a number.
    ///
    /// # Panics
    ///
    /// If the statement fails or returns no row.
    pub async fn number(&self, sql: &str) -> i64 {
        let numbers = DB::numbers(&self.pool, sql.to_owned()).await;
        numbers.unwrap_or_else(|error| panic!("{sql}: {error}"))[0]
    }

    /// Rows in the outbox.
    pub async fn rows(&self) -> i64 {
        self.number("SELECT COUNT(*) FROM async_cache_outbox").await
    }

    /// Begins a transaction that will write.
    ///
    /// # Panics
    ///
    /// If the database refuses.
    pub async fn begin(&self) -> Transaction<'static, DB> {
        DB::begin(&self.pool).await.expect("a transaction")
    }

    /// Changes an item, and writes the invalidation of its key in the same transaction.
    ///
    /// # Panics
    ///
    /// If the database refuses.
    pub async fn change(&self, tx: &mut Transaction<'static, DB>, cache: &Cache, id: i64) {
        let sql = format!("UPDATE items SET version = version + 1 WHERE id = {id}");
        DB::run(tx, sql).await.expect("an update");
        self.outbox.invalidate(tx, cache, id.to_string().as_str()).await.expect("a row");
    }

    /// Changes an item in a transaction of its own.
    ///
    /// # Panics
    ///
    /// If the database refuses.
    pub async fn commit(&self, cache: &Cache, id: i64) {
        let mut tx = self.begin().await;
        self.change(&mut tx, cache, id).await;
        tx.commit().await.expect("a commit");
    }

    /// A relay with short intervals.
    pub fn builder(&self, cache: &Cache) -> RelayBuilder {
        self.outbox.relay(&self.pool).cache(cache).poll_interval(POLL).takeover_interval(POLL)
    }

    /// A relay that is at work.
    ///
    /// # Panics
    ///
    /// If it does not get there.
    pub async fn relay(&self, cache: &Cache) -> Relay {
        let relay = self.builder(cache).start().expect("a valid relay");
        until("the relay is at work", || relay.stats().role == Role::AtWork).await;
        relay
    }

    /// Waits until the outbox is empty.
    ///
    /// # Panics
    ///
    /// If it does not become empty in 30 s.
    pub async fn drained(&self) {
        self.rows_are(0).await;
    }

    /// Waits until the outbox has so many rows.
    ///
    /// # Panics
    ///
    /// If it has not in 30 s.
    pub async fn rows_are(&self, count: i64) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let rows = self.rows().await;
            if rows == count {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "the outbox has {rows} rows, not {count}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Two nodes of one namespace on an L2 in this process.
pub async fn two_nodes() -> (Fleet, [Cache; 2]) {
    let fleet = Fleet::memory();
    let nodes = [fleet.node().await, fleet.node().await];
    (fleet, nodes)
}

/// Makes a test of a scenario on every database.
#[macro_export]
macro_rules! on_every_database {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name::<sqlx::Sqlite>().await; })*
        }
        $crate::on_every_server!($($name),*);
    };
}

/// Makes a test of a scenario on every database that is a server.
#[macro_export]
macro_rules! on_every_server {
    ($($name:ident),* $(,)?) => {
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name::<sqlx::Postgres>().await; })*
        }
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name::<sqlx::MySql>().await; })*
        }
    };
}
