//! The side of the writer: rows in the caller's transaction.

use std::fmt;
use std::marker::PhantomData;

use async_cache_core::TieredCache;
use async_cache_core::key::{CacheKey, FoundBy, Key};
use sqlx::Pool;

use crate::change::{Change, InNamespace};
use crate::database::OutboxDatabase;
use crate::error::Error;
use crate::relay::builder::RelayBuilder;
use crate::table::Table;
use crate::trigger::builder::TriggerBuilder;

/// The largest number of invalidations in one call.
pub const MAX_CHANGES: usize = 100_000;

/// Whether a commit wakes the relay. Only PostgreSQL can do that. With the other databases the relay polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Wake {
    /// The writer sends a `NOTIFY` in its transaction, and the relay hears of it on commit.
    #[default]
    Notify,
    /// The relay finds the rows when it polls. PostgreSQL commits transactions with a `NOTIFY` one after the other, so
    /// choose this for thousands of commits per second.
    Poll,
}

/// An outbox: a table, and the calls that write to it.
///
/// A cheap handle. Every call that writes takes a connection. **Pass the connection of the transaction that makes the
/// change**: `&mut *tx`. On another connection the row would be committed before or without the change.
pub struct Outbox<DB> {
    pub(crate) table: Table,
    pub(crate) wake: Wake,
    database: PhantomData<fn() -> DB>,
}

impl<DB: OutboxDatabase> Outbox<DB> {
    /// The outbox in the table [`async_cache_outbox`](crate::DEFAULT_TABLE).
    #[must_use]
    pub fn new() -> Self {
        Self { table: Table::default(), wake: Wake::default(), database: PhantomData }
    }

    /// The outbox in another table, `table` or `schema.table`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] unless each part consists of 1 to [48](crate::MAX_NAME_BYTES) ASCII letters, digits and `_`.
    pub fn in_table(name: &str) -> Result<Self, Error> {
        Ok(Self { table: Table::new(name)?, ..Self::new() })
    }

    /// Sets how the relay hears of a commit. The default is [`Wake::Notify`].
    #[must_use]
    pub fn wake(mut self, wake: Wake) -> Self {
        self.wake = wake;
        self
    }

    /// The statements that create the table, for a service with migrations of its own. They change nothing if the table
    /// exists.
    #[must_use]
    pub fn create_table_sql(&self) -> String {
        DB::create(&self.table).join(";\n\n") + ";\n"
    }

    /// Creates the table if it does not exist. Many instances may do that at the same time.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] if the database cannot be reached or refuses.
    pub async fn migrate(&self, pool: &Pool<DB>) -> Result<(), Error> {
        let failed = |source| Error::database(format!("creating the outbox table `{}`", self.table), source);
        let mut connection = pool.acquire().await.map_err(failed)?;
        DB::migrate(&mut connection, &self.table).await.map_err(failed)
    }

    /// Writes the invalidation of a key.
    ///
    /// # Errors
    ///
    /// [`Error::Cache`] if the key is too long to be cached, [`Error::Database`] if the row cannot be written. Roll the
    /// transaction back then.
    pub async fn invalidate<K, V, Q, By>(
        &self,
        connection: &mut DB::Connection,
        cache: &TieredCache<K, V>,
        key: &Q,
    ) -> Result<(), Error>
    where
        K: CacheKey + FoundBy<Q, By>,
        V: Send + Sync + 'static,
        Q: CacheKey + ?Sized,
    {
        let change = Change::key(cache, key)?;
        self.write(connection, [change]).await
    }

    /// Writes the invalidations of many keys with one statement. Keys that are too long to be cached need none, and are
    /// left out.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for more than [`MAX_CHANGES`] keys, and [`Error::Database`].
    pub async fn invalidate_many<'a, K, V, Q, By>(
        &self,
        connection: &mut DB::Connection,
        cache: &TieredCache<K, V>,
        keys: impl IntoIterator<Item = &'a Q>,
    ) -> Result<(), Error>
    where
        K: CacheKey + FoundBy<Q, By>,
        V: Send + Sync + 'static,
        Q: CacheKey + ?Sized + 'a,
    {
        let keys = keys.into_iter().filter(|key| Key::encode(*key).is_ok());
        let changes: Result<Vec<Change>, Error> = keys.map(|key| Change::key(cache, key)).collect();
        self.write(connection, changes?).await
    }

    /// Writes the invalidation of a tag. `cache` is a cache or its namespace.
    ///
    /// # Errors
    ///
    /// [`Error::Cache`] for a tag that no entry can have, and [`Error::Database`].
    pub async fn invalidate_tag(
        &self,
        connection: &mut DB::Connection,
        cache: impl InNamespace,
        tag: impl AsRef<str>,
    ) -> Result<(), Error> {
        let change = Change::tag(cache, tag)?;
        self.write(connection, [change]).await
    }

    /// Writes the invalidation of all entries of a namespace. `cache` is a cache or its namespace.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a namespace that no cache can have, and [`Error::Database`].
    pub async fn invalidate_all(
        &self,
        connection: &mut DB::Connection,
        cache: impl InNamespace,
    ) -> Result<(), Error> {
        let change = Change::all(cache)?;
        self.write(connection, [change]).await
    }

    /// Writes any invalidations, of any caches, with one statement (in MySQL one for each 2,000, in SQLite one for each 5,000).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for more than [`MAX_CHANGES`], and [`Error::Database`].
    pub async fn write(
        &self,
        connection: &mut DB::Connection,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<(), Error> {
        let changes: Vec<Change> = changes.into_iter().take(MAX_CHANGES + 1).collect();
        if changes.len() > MAX_CHANGES {
            let what =
                format!("more than {MAX_CHANGES} invalidations in one call: write them in parts, or a tag");
            return Err(Error::Config(what));
        }
        if changes.is_empty() {
            return Ok(());
        }
        let count = changes.len();
        DB::insert(connection, &self.table, self.wake, changes).await.map_err(|source| {
            let table = &self.table;
            Error::database(format!("writing {count} invalidations to the outbox table `{table}`"), source)
        })
    }

    /// Builds triggers on a table, `table` or `schema.table`: whoever changes its rows, by whatever program, the outbox gets the
    /// invalidations in the same transaction.
    ///
    /// ```
    /// # #[cfg(feature = "postgres")] {
    /// use async_cache_outbox::Outbox;
    ///
    /// let outbox = Outbox::<sqlx::Postgres>::new();
    /// let trigger =
    ///     outbox.trigger("users").namespace("users").key_column("id").tag("team:", "team_id").build().unwrap();
    /// print!("{}", trigger.create_sql()); // for a migration; or `trigger.install(&pool).await?`
    /// # }
    /// ```
    pub fn trigger(&self, table: &str) -> TriggerBuilder<DB> {
        TriggerBuilder::new(self.clone(), table)
    }

    /// Builds a relay that applies the rows. Every instance of the service starts one. One of them is at work, and another
    /// takes over when it ends.
    ///
    /// On PostgreSQL and MySQL the relay opens one connection of its own, with the pool's options, beside those of the
    /// pool. On SQLite it takes one from the pool for each statement.
    pub fn relay(&self, pool: &Pool<DB>) -> RelayBuilder {
        RelayBuilder::new(DB::store(pool, &self.table))
    }
}

impl<DB: OutboxDatabase> Default for Outbox<DB> {
    fn default() -> Self {
        Self::new()
    }
}

impl<DB> Clone for Outbox<DB> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone(), wake: self.wake, database: PhantomData }
    }
}

impl<DB> fmt::Debug for Outbox<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("table", &self.table.to_string()).field("wake", &self.wake).finish()
    }
}
