//! A transactional outbox for [`async_cache_core::TieredCache`]: an invalidation that a crash cannot lose.
//!
//! A service that commits a change and then calls `invalidate` can crash in between. Then no node learns of the change, and
//! stale values live until their `ttl`. With an outbox the invalidation is a row, written in the transaction of the
//! change: both are committed, or neither is. A [`Relay`] reads the rows, makes the invalidations, and deletes each row
//! after its invalidation was acknowledged.
//!
//! ```
//! # #[cfg(feature = "sqlite")]
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use async_cache::{MemoryBackend, TieredCache};
//! use async_cache_outbox::Outbox;
//! use sqlx::{Sqlite, sqlite::SqlitePoolOptions};
//!
//! let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
//! sqlx::query("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)").execute(&pool).await?;
//! let users: TieredCache<u64, String> = TieredCache::builder()
//!     .namespace("users")
//!     .l1(MemoryBackend::new(10_000))
//!     .l2(MemoryBackend::new(10_000)) // for several processes: `RedisBackend::connect(url).await?`
//!     .build()?;
//!
//! let outbox = Outbox::<Sqlite>::new();
//! outbox.migrate(&pool).await?; // creates the table if it does not exist
//! let relay = outbox.relay(&pool).cache(&users).start()?; // on every instance; one is at work
//!
//! let mut tx = pool.begin().await?;
//! sqlx::query("INSERT INTO users VALUES (42, 'Ada')").execute(&mut *tx).await?;
//! outbox.invalidate(&mut *tx, &users, &42).await?;
//! tx.commit().await?; // from here on the invalidation cannot get lost
//!
//! relay.shutdown().await;
//! # Ok(()) }
//! # #[cfg(not(feature = "sqlite"))] fn main() {}
//! ```
//!
//! The page `docs/outbox.md` of the repository explains the use, the table, the operation and the limits.
//!
//! # Features
//!
//! `postgres`, `mysql`, `sqlite`: the databases, each a feature of sqlx. `metrics`: the figures of a relay on the `metrics`
//! facade. `tracing`: failures and changes of role as logs. No feature enables TLS: enable a `tls-*` feature of sqlx.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(any(feature = "postgres", feature = "mysql", feature = "sqlite")),
    allow(dead_code, reason = "used by each database")
)]

mod change;
mod database;
mod error;
#[cfg(feature = "metrics")]
mod instruments;
#[cfg(feature = "tracing")]
mod limits;
mod outbox;
mod relay;
#[cfg(feature = "postgres")]
mod replication;
mod table;
mod task;
mod trigger;

pub use change::{Change, InNamespace};
pub use database::OutboxDatabase;
pub use error::Error;
pub use outbox::{MAX_CHANGES, Outbox, Wake};
pub use relay::builder::RelayBuilder;
pub use relay::stats::{RelayStats, Role};
pub use relay::{BACKLOG_COUNT, MAX_ATTEMPTS, Relay};
#[cfg(feature = "postgres")]
pub use replication::builder::LogReaderBuilder;
#[cfg(feature = "postgres")]
pub use replication::row::{Field, RowChange};
#[cfg(feature = "postgres")]
pub use replication::stats::LogReaderStats;
#[cfg(feature = "postgres")]
pub use replication::watch::Invalidations;
#[cfg(feature = "postgres")]
pub use replication::wire::RowKind;
#[cfg(feature = "postgres")]
pub use replication::{ChangeLog, LogReader, MissingSlot};
pub use table::{DEFAULT_TABLE, MAX_NAME_BYTES};
pub use trigger::Trigger;
pub use trigger::builder::TriggerBuilder;

/// Compiles the examples of the page, and runs those that need no server.
#[cfg(all(doctest, feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod pages {
    #[doc = include_str!("../../docs/outbox.md")]
    mod outbox {}
}
