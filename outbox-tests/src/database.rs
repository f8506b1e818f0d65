//! The databases, as far as the tests differ.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_cache_outbox::OutboxDatabase;
use parking_lot::Mutex;
use sqlx::mysql::MySqlPoolOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{AssertSqlSafe, MySql, Pool, Postgres, Sqlite, Transaction};
use tempfile::TempDir;

use crate::maria::MariaServer;
use crate::postgres::PostgresServer;

/// Where databases are: a server, or a folder.
pub trait Site: Debug + Send + Sync + 'static {
    /// Starts a server.
    fn start() -> Self;

    /// Ends the server at once.
    fn kill(&self);

    /// Starts it again with its data.
    fn restart(&self);

    /// Stops its process.
    fn pause(&self);

    /// Lets it go on.
    fn resume(&self);
}

/// A database with an outbox, on a server of the tests.
pub trait TestDatabase: OutboxDatabase + Sized {
    /// The server.
    type Site: Site;

    /// The server that the tests of one process share. It ends with the last test that holds it.
    fn shared() -> Arc<Self::Site>;

    /// Makes a database, and returns its URL.
    fn new_database(site: &Self::Site) -> impl Future<Output = String> + Send;

    /// Connects.
    fn pool(url: &str) -> impl Future<Output = sqlx::Result<Pool<Self>>> + Send;

    /// Begins a transaction that will write.
    fn begin(pool: &Pool<Self>) -> impl Future<Output = sqlx::Result<Transaction<'static, Self>>> + Send;

    /// Runs statements.
    fn run(connection: &mut Self::Connection, sql: String) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Asks for numbers.
    fn numbers(pool: &Pool<Self>, sql: String) -> impl Future<Output = sqlx::Result<Vec<i64>>> + Send;
}

macro_rules! statements {
    () => {
        async fn run(connection: &mut Self::Connection, sql: String) -> sqlx::Result<()> {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
        }

        async fn numbers(pool: &Pool<Self>, sql: String) -> sqlx::Result<Vec<i64>> {
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await
        }
    };
}

/// The site that is alive, or a new one.
fn alive<S: Site>(shared: &Mutex<Weak<S>>) -> Arc<S> {
    let mut shared = shared.lock();
    shared.upgrade().unwrap_or_else(|| {
        let site = Arc::new(S::start());
        *shared = Arc::downgrade(&site);
        site
    })
}

fn name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

macro_rules! site {
    ($server:ty) => {
        impl Site for $server {
            fn start() -> Self {
                <$server>::start()
            }

            fn kill(&self) {
                <$server>::kill(self);
            }

            fn restart(&self) {
                <$server>::restart(self);
            }

            fn pause(&self) {
                <$server>::pause(self);
            }

            fn resume(&self) {
                <$server>::resume(self);
            }
        }
    };
}

site!(PostgresServer);
site!(MariaServer);

const CONNECTIONS: u32 = 8;
const ACQUIRE: Duration = Duration::from_secs(20);

impl TestDatabase for Postgres {
    type Site = PostgresServer;

    fn shared() -> Arc<PostgresServer> {
        static SHARED: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());
        alive(&SHARED)
    }

    async fn new_database(site: &PostgresServer) -> String {
        let (pool, name) = (Self::pool(&site.url("postgres")).await.expect("a connection"), name());
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::raw_sql(create).execute(&pool).await.expect("a database");
        pool.close().await;
        site.url(&name)
    }

    async fn pool(url: &str) -> sqlx::Result<Pool<Self>> {
        PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE).connect(url).await
    }

    async fn begin(pool: &Pool<Self>) -> sqlx::Result<Transaction<'static, Self>> {
        pool.begin().await
    }

    statements!();
}

impl TestDatabase for MySql {
    type Site = MariaServer;

    fn shared() -> Arc<MariaServer> {
        static SHARED: Mutex<Weak<MariaServer>> = Mutex::new(Weak::new());
        alive(&SHARED)
    }

    async fn new_database(site: &MariaServer) -> String {
        let (pool, name) = (Self::pool(&site.url("mysql")).await.expect("a connection"), name());
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::raw_sql(create).execute(&pool).await.expect("a database");
        pool.close().await;
        site.url(&name)
    }

    async fn pool(url: &str) -> sqlx::Result<Pool<Self>> {
        MySqlPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE).connect(url).await
    }

    async fn begin(pool: &Pool<Self>) -> sqlx::Result<Transaction<'static, Self>> {
        pool.begin().await
    }

    statements!();
}

/// A folder of SQLite databases. There is no server to kill.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Site for Folder {
    fn start() -> Self {
        Self(TempDir::with_prefix("async-cache-outbox-").expect("a temporary folder"))
    }

    fn kill(&self) {}

    fn restart(&self) {}

    fn pause(&self) {}

    fn resume(&self) {}
}

impl TestDatabase for Sqlite {
    type Site = Folder;

    fn shared() -> Arc<Folder> {
        Arc::new(Folder::start())
    }

    async fn new_database(site: &Folder) -> String {
        let file: PathBuf = site.0.path().join(format!("{}.db", name()));
        format!("sqlite://{}?mode=rwc", file.display())
    }

    async fn pool(url: &str) -> sqlx::Result<Pool<Self>> {
        let options: sqlx::sqlite::SqliteConnectOptions = url.parse()?;
        let options = options.busy_timeout(ACQUIRE).journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
        let options = options.synchronous(sqlx::sqlite::SqliteSynchronous::Off);
        SqlitePoolOptions::new().max_connections(4).acquire_timeout(ACQUIRE).connect_with(options).await
    }

    async fn begin(pool: &Pool<Self>) -> sqlx::Result<Transaction<'static, Self>> {
        pool.begin_with("BEGIN IMMEDIATE").await
    }

    statements!();
}
