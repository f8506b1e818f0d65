//! The database: SQLite in a file, with a pool of connections and the latency of a network.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::catalogue::{Change, Origin, Product};
use crate::clock;

/// Connections of one instance.
const CONNECTIONS: usize = 4;
/// How long a writer waits for another process' transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// What a slow database adds to a query.
pub(crate) const SLOWNESS: Duration = Duration::from_secs(1);
/// Most products in the answer to a search.
pub(crate) const MAX_FOUND: u32 = 12;
/// The kinds of products.
pub(crate) const KINDS: [&str; 9] =
    ["kettle", "ladder", "lamp", "teapot", "chair", "umbrella", "clock", "bench", "compass"];

const COLUMNS: &str = "id, name, kind, price_cents, stock, version";

/// Creates the file and fills it with products 1 to `products`.
pub(crate) fn create(path: &Path, products: u32) -> Result<()> {
    let mut connection = connect(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE products (
             id INTEGER PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, price_cents INTEGER NOT NULL,
             stock INTEGER NOT NULL, version INTEGER NOT NULL);
         CREATE INDEX products_by_kind ON products (kind)",
    )?;
    {
        let mut insert = transaction.prepare("INSERT INTO products VALUES (?1, ?2, ?3, ?4, ?5, 1)")?;
        for id in 1..=products {
            let kind = KINDS[id as usize % KINDS.len()];
            insert.execute(params![id, name(id, kind), kind, 199 + id * 7919 % 50_000, 1_000_000])?;
        }
    }
    transaction.commit()
}

fn name(id: u32, kind: &str) -> String {
    const ADJECTIVES: [&str; 8] =
        ["Plain", "Folding", "Quiet", "Brass", "Woollen", "Tall", "Patient", "Spare"];
    format!("{} {kind} no. {id}", ADJECTIVES[id as usize % ADJECTIVES.len()])
}

fn connect(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // A crash of the machine may lose the demo's last writes, which does no harm.
    connection.pragma_update(None, "synchronous", "OFF")?;
    Ok(connection)
}

/// A query for a row begins or ends. The observer gets the event, and returns its time.
pub(crate) type Observer = Arc<dyn Fn(u32, Query) -> u64 + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Query {
    Begins,
    /// The query that began at this time.
    Ended(u64),
}

/// How the database works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Health {
    #[default]
    Normal,
    /// Every query takes [`SLOWNESS`] longer.
    Slow,
    /// Every query fails.
    Failing,
}

/// A handle on the database. Clones share its connections and its count of queries.
#[derive(Clone)]
pub(crate) struct Database {
    pool: Arc<Pool>,
    queries: Arc<AtomicU64>,
}

struct Pool {
    path: PathBuf,
    instance: u16,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
    latency: Duration,
    observer: Observer,
    health: Arc<AtomicU8>,
}

impl Database {
    /// Connects when needed. `latency` is the time that a network would add to a query.
    pub(crate) fn open(path: &Path, instance: u16, latency: Duration, observer: Observer) -> Self {
        Self::with_pool(Pool {
            path: path.to_owned(),
            instance,
            idle: Mutex::new(Vec::new()),
            permits: Semaphore::new(CONNECTIONS),
            latency,
            observer,
            health: Arc::default(),
        })
    }

    fn with_pool(pool: Pool) -> Self {
        Self { pool: Arc::new(pool), queries: Arc::default() }
    }

    /// A handle on this database with another latency.
    pub(crate) fn with_latency(&self, latency: Duration) -> Self {
        let Pool { path, instance, observer, health, .. } = &*self.pool;
        Self::with_pool(Pool {
            path: path.clone(),
            instance: *instance,
            idle: Mutex::new(Vec::new()),
            permits: Semaphore::new(CONNECTIONS),
            latency,
            observer: Arc::clone(observer),
            health: Arc::clone(health),
        })
    }

    /// Reads begun through this handle and its clones.
    pub(crate) fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }

    /// Makes the database slow, or failing, or normal again, for all handles of this instance.
    pub(crate) fn set_health(&self, health: Health) {
        self.pool.health.store(health as u8, Ordering::Relaxed);
    }

    fn health(&self) -> Health {
        match self.pool.health.load(Ordering::Relaxed) {
            1 => Health::Slow,
            2 => Health::Failing,
            _ => Health::Normal,
        }
    }

    /// Reads a row.
    pub(crate) async fn product(&self, id: u32) -> Result<Option<Product>> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        let _under_way = UnderWay::begin(&self.pool.observer, id);
        // Half of the latency before the query, half after it: a row may be old when it arrives.
        self.travel().await;
        let row = self.run(move |connection| {
            let mut select =
                connection.prepare_cached(&format!("SELECT {COLUMNS} FROM products WHERE id = ?1"))?;
            select.query_row([id], product).optional()
        });
        let mut row = row.await?;
        self.travel().await;
        row.iter_mut().for_each(|row| self.arrived(row));
        Ok(row)
    }

    /// The ids of the first products of a kind.
    pub(crate) async fn ids_of_kind(&self, kind: String) -> Result<Vec<u32>> {
        self.travel().await;
        self.run(move |connection| {
            let mut select =
                connection.prepare_cached("SELECT id FROM products WHERE kind = ?1 ORDER BY id LIMIT ?2")?;
            select.query_map(params![kind, MAX_FOUND], |row| row.get(0))?.collect()
        })
        .await
    }

    /// Reads some rows in one query.
    pub(crate) async fn products(&self, ids: &[u32]) -> Result<Vec<Product>> {
        self.travel().await;
        let ids = serde_json::json!(ids).to_string();
        let rows = self.run(move |connection| {
            let query =
                format!("SELECT {COLUMNS} FROM products WHERE id IN (SELECT value FROM json_each(?1))");
            let mut select = connection.prepare_cached(&query)?;
            select.query_map([ids], product)?.collect::<Result<Vec<_>>>()
        });
        let mut rows = rows.await?;
        rows.iter_mut().for_each(|row| self.arrived(row));
        Ok(rows)
    }

    /// Changes a row. Returns its version after the commit.
    pub(crate) async fn change(&self, id: u32, change: Change) -> Result<Option<u32>> {
        let version = |row: &Row<'_>| row.get(0);
        self.run(move |connection| match change {
            Change::Sell => connection
                .prepare_cached("UPDATE products SET stock = max(stock - 1, 0), version = version + 1 WHERE id = ?1 RETURNING version")?
                .query_row([id], version)
                .optional(),
            Change::Set { name, price_cents, stock } => connection
                .prepare_cached("UPDATE products SET name = coalesce(?2, name), price_cents = coalesce(?3, price_cents), stock = coalesce(?4, stock), version = version + 1 WHERE id = ?1 RETURNING version")?
                .query_row(params![id, name, price_cents, stock], version)
                .optional(),
        })
        .await
    }

    fn arrived(&self, row: &mut Product) {
        row.origin = Origin { read_at: clock::now(), instance: self.pool.instance, at_home: true };
    }

    /// One way to the database, and what a slow database adds.
    async fn travel(&self) {
        let slowness = if self.health() == Health::Slow { SLOWNESS } else { Duration::ZERO };
        tokio::time::sleep((self.pool.latency + slowness) / 2).await;
    }

    /// Runs blocking work on a connection, on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.health() == Health::Failing {
            let io = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
            return Err(rusqlite::Error::SqliteFailure(io, Some("the database fails".to_owned())));
        }
        let pool = Arc::clone(&self.pool);
        let _permit = self.pool.permits.acquire().await.expect("the pool is never closed");
        let done = tokio::task::spawn_blocking(move || {
            let idle = pool.idle.lock().pop();
            let connection = idle.map_or_else(|| connect(&pool.path), Ok)?;
            let outcome = work(&connection);
            pool.idle.lock().push(connection);
            outcome
        });
        done.await.expect("a query does not panic")
    }
}

fn product(row: &Row<'_>) -> Result<Product> {
    Ok(Product {
        id: row.get(0)?,
        name: row.get(1)?,
        kind: row.get(2)?,
        price_cents: row.get(3)?,
        stock: row.get(4)?,
        version: row.get(5)?,
        origin: Origin::default(),
    })
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("path", &self.pool.path).finish_non_exhaustive()
    }
}

/// Reports the end of the query, also when it is dropped half way.
struct UnderWay<'a> {
    observer: &'a Observer,
    id: u32,
    began: u64,
}

impl<'a> UnderWay<'a> {
    fn begin(observer: &'a Observer, id: u32) -> Self {
        Self { observer, id, began: observer(id, Query::Begins) }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        (self.observer)(self.id, Query::Ended(self.began));
    }
}
