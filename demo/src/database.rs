//! The database: SQLite in a file, with a pool of connections and the latency of a network.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Result, params};
use tokio::sync::Semaphore;

use crate::catalogue::Product;

/// Connections of one instance.
const CONNECTIONS: usize = 4;
/// How long a writer waits for another process' transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Creates the file and fills it with products 1 to `products`.
pub(crate) fn create(path: &Path, products: u32) -> Result<()> {
    let mut connection = connect(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE products (
             id INTEGER PRIMARY KEY, name TEXT NOT NULL, price_cents INTEGER NOT NULL,
             stock INTEGER NOT NULL, version INTEGER NOT NULL)",
    )?;
    {
        let mut insert = transaction.prepare("INSERT INTO products VALUES (?1, ?2, ?3, ?4, 1)")?;
        for id in 1..=products {
            insert.execute(params![id, name(id), 199 + id * 7919 % 50_000, 1_000_000])?;
        }
    }
    transaction.commit()
}

fn name(id: u32) -> String {
    const ADJECTIVES: [&str; 8] =
        ["Plain", "Folding", "Quiet", "Brass", "Woollen", "Tall", "Patient", "Spare"];
    const NOUNS: [&str; 9] =
        ["kettle", "ladder", "lamp", "teapot", "chair", "umbrella", "clock", "bench", "compass"];
    let (id_size, adjective, noun) = (id as usize, ADJECTIVES, NOUNS);
    format!("{} {} no. {id}", adjective[id_size % adjective.len()], noun[id_size % noun.len()])
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

/// A handle on the database. Clones share its connections and its count of queries.
#[derive(Clone)]
pub(crate) struct Database {
    pool: Arc<Pool>,
    queries: Arc<AtomicU64>,
}

struct Pool {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
    latency: Duration,
    observer: Observer,
}

impl Database {
    /// Connects when needed. `latency` is the time that a network would add to a query.
    pub(crate) fn open(path: &Path, latency: Duration, observer: Observer) -> Self {
        let pool = Pool {
            path: path.to_owned(),
            idle: Mutex::new(Vec::new()),
            permits: Semaphore::new(CONNECTIONS),
            latency,
            observer,
        };
        Self { pool: Arc::new(pool), queries: Arc::default() }
    }

    /// A handle on this database that counts its own queries.
    pub(crate) fn counting_apart(&self) -> Self {
        Self { pool: Arc::clone(&self.pool), queries: Arc::default() }
    }

    /// A handle on this database with another latency.
    pub(crate) fn with_latency(&self, latency: Duration) -> Self {
        Self::open(&self.pool.path, latency, Arc::clone(&self.pool.observer))
    }

    /// Reads begun through this handle and its clones.
    pub(crate) fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }

    /// Reads a row.
    pub(crate) async fn product(&self, id: u32) -> Result<Option<Product>> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        let _under_way = UnderWay::begin(&self.pool.observer, id);
        // Half of the latency before the query, half after it: a row may be old when it arrives.
        tokio::time::sleep(self.pool.latency / 2).await;
        let product = self.run(move |connection| {
            let mut select = connection
                .prepare_cached("SELECT id, name, price_cents, stock, version FROM products WHERE id = ?1")?;
            select
                .query_row([id], |row| {
                    Ok(Product {
                        id: row.get(0)?,
                        name: row.get(1)?,
                        price_cents: row.get(2)?,
                        stock: row.get(3)?,
                        version: row.get(4)?,
                    })
                })
                .optional()
        });
        let product = product.await?;
        tokio::time::sleep(self.pool.latency / 2).await;
        Ok(product)
    }

    /// Takes one piece out of stock. Returns the version of the row after the commit.
    pub(crate) async fn sell(&self, id: u32) -> Result<Option<u32>> {
        self.run(move |connection| {
            let mut update = connection.prepare_cached(
                "UPDATE products SET stock = max(stock - 1, 0), version = version + 1 WHERE id = ?1 RETURNING version",
            )?;
            update.query_row([id], |row| row.get(0)).optional()
        })
        .await
    }

    /// Runs blocking work on a connection, on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
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
