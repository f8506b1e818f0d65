//! The outbox in the catalogue's database (feature `outbox`): its table, the relay of an instance, and a transaction
//! that writes to it.

use std::path::Path;
use std::time::Duration;

use async_cache::TieredCache;
use async_cache_outbox::{Change, Outbox, Role};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{ConnectOptions, Connection, Sqlite, SqlitePool};

use crate::catalogue::Product;
use crate::clock;
use crate::instance::chain;
use crate::messages::RelayFigures;
use crate::writer::{Committed, Errand};

/// How long a connection waits for another one's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether this build and this system can have an outbox.
pub(crate) fn check() -> Result<(), String> {
    match clock::SHARED {
        true => Ok(()),
        false => Err("this needs a clock that all processes share, which this system lacks".to_owned()),
    }
}

/// Creates the table of the outbox in the catalogue's database.
pub(crate) async fn migrate(database: &Path) -> Result<(), String> {
    let pool = connect(database).await?;
    Outbox::<Sqlite>::new().migrate(&pool).await.map_err(|error| chain(&error))?;
    pool.close().await;
    Ok(())
}

/// The relay of one instance.
pub(crate) struct Relay {
    relay: async_cache_outbox::Relay,
}

impl Relay {
    /// Starts it, with the intervals that a service has if it sets none.
    pub(crate) async fn start(database: &Path, cache: &TieredCache<u32, Product>) -> Result<Self, String> {
        let pool = connect(database).await?;
        let relay = Outbox::<Sqlite>::new().relay(&pool).cache(cache).start();
        Ok(Self { relay: relay.map_err(|error| chain(&error))? })
    }

    pub(crate) fn figures(&self) -> RelayFigures {
        let stats = self.relay.stats();
        RelayFigures {
            at_work: stats.role == Role::AtWork,
            rows: stats.backlog,
            oldest_ms: u64::try_from(stats.oldest.as_millis()).unwrap_or(u64::MAX),
            applied: stats.applied,
        }
    }

    pub(crate) async fn shutdown(&self) {
        self.relay.shutdown().await;
    }
}

/// Changes a product and writes its invalidation, in one transaction.
pub(crate) async fn commit(errand: &Errand) -> Result<Committed, String> {
    let failed = |error: sqlx::Error| format!("the product was not written: {}", chain(&error));
    let mut connection = options(&errand.database).connect().await.map_err(failed)?;
    let mut transaction = connection.begin().await.map_err(failed)?;
    let update =
        "UPDATE products SET price_cents = ?2, version = version + 1 WHERE id = ?1 RETURNING version";
    let version = sqlx::query_scalar(update).bind(errand.product).bind(errand.price_cents);
    let version: u32 = version.fetch_one(&mut *transaction).await.map_err(failed)?;
    let outbox = Outbox::<Sqlite>::new();
    let change = Change::key(errand.namespace.as_str(), &errand.product);
    let written = outbox.write(&mut transaction, [change.map_err(|error| chain(&error))?]).await;
    written.map_err(|error| chain(&error))?;
    let rows = sqlx::query_scalar("SELECT count(*) FROM async_cache_outbox");
    let rows: u32 = rows.fetch_one(&mut *transaction).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    Ok(Committed { version, rows, at: clock::now() })
}

async fn connect(database: &Path) -> Result<SqlitePool, String> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options(database));
    pool.await.map_err(|error| format!("the database of the outbox: {}", chain(&error)))
}

fn options(database: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(database).busy_timeout(BUSY_TIMEOUT)
}
