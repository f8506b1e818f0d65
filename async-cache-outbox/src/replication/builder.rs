//! The settings of a log reader.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use async_cache_core::key::CacheKey;
use async_cache_core::{Invalidator, TieredCache};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::change::{self, InNamespace};
use crate::error::Error;
use crate::relay::apply::Caches;
use crate::relay::builder::Options;
use crate::replication::row::RowChange;
use crate::replication::stats::Shared;
use crate::replication::watch::{Invalidations, Refusal, Watch};
use crate::replication::work::Worker;
use crate::replication::{LogNames, LogReader, MissingSlot};
use crate::table::Table;
use crate::task::{self, Task};

const SESSION_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
const READ_TIMEOUT: Duration = Duration::from_secs(300);
const READ_TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3_600);

/// Builds a [`LogReader`]; made by [`ChangeLog::reader`](crate::ChangeLog::reader).
#[must_use]
pub struct LogReaderBuilder {
    pool: PgPool,
    names: LogNames,
    tables: Vec<Result<Watch, Error>>,
    caches: Vec<Invalidator>,
    options: Options,
    read_timeout: Duration,
    missing: MissingSlot,
}

impl LogReaderBuilder {
    pub(crate) fn new(pool: PgPool, names: LogNames) -> Self {
        let options = Options { poll_interval: POLL_INTERVAL, ..Options::new(SESSION_TIMEOUT) };
        let missing = MissingSlot::default();
        let (tables, caches, read_timeout) = (Vec::new(), Vec::new(), READ_TIMEOUT);
        Self { pool, names, tables, caches, options, read_timeout, missing }
    }

    /// Adds a cache whose entries depend on a table. It needs an L2. The reader keeps the cache open.
    pub fn cache<K: CacheKey, V: Send + Sync + 'static>(self, cache: &TieredCache<K, V>) -> Self {
        self.invalidator(cache.invalidator())
    }

    /// Adds a cache by its [`Invalidator`].
    pub fn invalidator(mut self, cache: Invalidator) -> Self {
        self.caches.push(cache);
        self
    }

    /// Watches a table, `table` or `schema.table`: the function adds what a changed row invalidates in this cache, which is given by
    /// itself or by its namespace. Call it for each table of the publication, and for each cache that depends on it.
    ///
    /// The function sees rows that are committed, and sees a row again after a crash. If it returns an error or panics, the whole
    /// namespace is invalidated, and [`refused`](crate::LogReaderStats::refused) counts it. A TRUNCATE invalidates the namespace, too.
    pub fn table<F>(mut self, table: &str, cache: impl InNamespace, map: F) -> Self
    where
        F: Fn(&RowChange<'_>, &mut Invalidations<'_>) -> Result<(), Refusal> + Send + Sync + 'static,
    {
        let (namespace, map) = (cache.namespace().to_owned(), Arc::new(map));
        let table = Table::of_user(table, "Give the table another name, or use the outbox for it");
        self.tables.push(table.map(|table| Watch { table, namespace, map }));
        self
    }

    /// What to do if the slot is missing or lost: [`MissingSlot::Refuse`] by default.
    pub fn missing_slot(mut self, missing: MissingSlot) -> Self {
        self.missing = missing;
        self
    }

    /// How often the reader at work looks at the log: 200 ms by default, from 10 ms to 10 s. If anything was written to the log, the
    /// server reads it again from where the slot keeps it, which is up to half a minute of log.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.options.poll_interval = interval;
        self
    }

    /// How often the other readers try to take over: 1 s by default, from 10 ms to 10 s.
    pub fn takeover_interval(mut self, interval: Duration) -> Self {
        self.options.takeover_interval = interval;
        self
    }

    /// The most messages that are read and applied together: 2,000 by default, from 1 to 5,000. A message is a change of a row, or the
    /// begin or end of a transaction. A larger transaction is applied in several batches, and acknowledged after the last one.
    pub fn batch(mut self, messages: u32) -> Self {
        self.options.batch = messages;
        self
    }

    /// How long the reader at work may be silent before the database ends its session, and another reader takes over: 60 s by default;
    /// from 1 s to 10 min, and three times the `poll_interval` or more. While changes wait for Redis it is at least 60 s.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.options.session_timeout = timeout;
        self
    }

    /// How long the server may take to read the log up to the next changes, and to create a slot: 5 min by default, from 1 s to 24 h.
    /// A transaction of many millions of rows needs more.
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// How long [`LogReader::shutdown`] may take: 5 s by default.
    pub fn shutdown_limit(mut self, limit: Duration) -> Self {
        self.options.shutdown_limit = limit;
        self
    }

    /// Starts the reader in the background. If the database cannot be reached yet, or lacks something, the reader tries again, with
    /// pauses of up to 5 s. [`LogReader::stats`] has its state and its last error.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] without a table, for a name that cannot be read, for a cache without an L2, for a setting outside its range,
    /// and outside a Tokio runtime.
    pub fn start(self) -> Result<LogReader, Error> {
        self.check()?;
        let runtime = task::runtime("log reader")?;
        let (shared, stop) = (Arc::new(Shared::new(self.names.slot.clone())), CancellationToken::new());
        let worker = Worker {
            pool: self.pool,
            names: self.names,
            watches: self.tables.into_iter().collect::<Result<_, _>>()?,
            caches: Caches::new(self.caches),
            options: self.options,
            read_timeout: self.read_timeout,
            missing: self.missing,
            shared: Arc::clone(&shared),
            stop: stop.clone(),
        };
        // The metrics exist from the start, also while the database cannot be reached.
        shared.publish();
        let task = Task::new(runtime.spawn(worker.run()), stop, self.options.shutdown_limit);
        Ok(LogReader { shared, task })
    }

    fn check(&self) -> Result<(), Error> {
        if self.tables.is_empty() {
            return Err(Error::Config(
                "the log reader watches no table: add each one with `.table(..)`".to_owned(),
            ));
        }
        if let Some(alone) = self.caches.iter().find(|cache| !cache.has_l2()) {
            return Err(change::alone(alone.namespace()));
        }
        for Watch { table, namespace, .. } in self.tables.iter().flatten() {
            if !self.caches.iter().any(|cache| cache.namespace() == namespace) {
                return Err(Error::Config(format!(
                    "the log reader watches the table `{table}` for the namespace `{namespace}`, and does not have that cache: \
                     add it with `.cache(&cache)`"
                )));
            }
        }
        if !READ_TIMEOUTS.contains(&self.read_timeout) {
            return Err(Error::Config(format!(
                "`read_timeout` is {:?}: set it from 1 s to 24 h",
                self.read_timeout
            )));
        }
        self.options.check()
    }
}

impl fmt::Debug for LogReaderBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReaderBuilder")
            .field("names", &self.names)
            .field("tables", &self.tables.len())
            .field("caches", &self.caches)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
