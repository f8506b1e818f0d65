//! Reads PostgreSQL's logical replication, and turns committed changes of rows into invalidations.

pub(crate) mod builder;
mod check;
mod coverage;
mod gaps;
mod pass;
mod renew;
pub(crate) mod row;
mod slot;
pub(crate) mod stats;
mod trouble;
pub(crate) mod watch;
pub(crate) mod wire;
mod work;

use std::fmt;
use std::sync::Arc;

use sqlx::PgPool;

use crate::error::Error;
use crate::replication::builder::LogReaderBuilder;
use crate::replication::stats::{LogReaderStats, Shared};
use crate::table::{MAX_NAME_BYTES, is_plain};
use crate::task::Task;

/// The changes that PostgreSQL publishes: a replication slot with the plugin `pgoutput`, and a publication.
///
/// Whoever changes a row of a published table, and by whatever program, a [`LogReader`] invalidates what depends on it. It needs no
/// trigger and no call of the writer. The server needs `wal_level = logical`, and the reader's user the attribute REPLICATION.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool, users: async_cache::TieredCache<i64, String>) -> Result<(), async_cache_outbox::Error> {
/// use async_cache_outbox::{ChangeLog, MissingSlot};
///
/// // CREATE PUBLICATION cache_log FOR TABLE users;
/// let reader = ChangeLog::new("cache_log")?
///     .reader(&pool)
///     .cache(&users)
///     .table("users", &users, |row, out| {
///         for [id] in row.values(["id"])? {
///             out.key(&id.parse::<i64>()?);
///         }
///         Ok(())
///     })
///     .missing_slot(MissingSlot::Create)
///     .start()?; // on every instance; one is at work
/// # drop(reader); Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeLog {
    names: LogNames,
}

/// The names of the slot and of the publication. Both are plain, so they can be quoted as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogNames {
    pub(crate) slot: String,
    pub(crate) publication: String,
}

impl ChangeLog {
    /// The slot and the publication of this name. Services with caches of their own need slots of their own.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] unless the name has 1 to [48](crate::MAX_NAME_BYTES) lower case ASCII letters, digits and `_`, and does not
    /// begin with a digit.
    pub fn new(name: &str) -> Result<Self, Error> {
        if !is_name(name) || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(Error::Config(format!(
                "`{}` cannot name a slot: use 1 to {MAX_NAME_BYTES} lower case ASCII letters, digits and `_`, not beginning \
                 with a digit",
                name.escape_debug()
            )));
        }
        Ok(Self { names: LogNames { slot: name.to_owned(), publication: name.to_owned() } })
    }

    /// Sets the name of the publication, if it is not that of the slot.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] unless the name has 1 to [48](crate::MAX_NAME_BYTES) ASCII letters, digits and `_`, and does not begin with a
    /// digit.
    pub fn publication(mut self, name: &str) -> Result<Self, Error> {
        if !is_name(name) {
            return Err(Error::Config(format!(
                "`{}` is a publication that cannot be read: its name has 1 to {MAX_NAME_BYTES} ASCII letters, digits and `_`, \
                 and does not begin with a digit",
                name.escape_debug()
            )));
        }
        name.clone_into(&mut self.names.publication);
        Ok(self)
    }

    /// Builds a reader. Every instance of the service starts one. One of them is at work, and another takes over when it ends.
    ///
    /// It opens one connection of its own, with the pool's options, beside those of the pool.
    pub fn reader(&self, pool: &PgPool) -> LogReaderBuilder {
        LogReaderBuilder::new(pool.clone(), self.names.clone())
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES && is_plain(name)
}

/// What a reader does if its slot is missing, if the server has removed log that the slot needed, or if it cannot send what is next in
/// the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum MissingSlot {
    /// It waits, and [`LogReaderStats::last_error`] has the remedy.
    #[default]
    Refuse,
    /// It creates the slot anew, and clears the namespaces of its caches: the slot knows no earlier change. So a failover to a server
    /// without the slot loses no invalidation. The server needs a second free slot for a moment (`max_replication_slots`).
    Create,
}

/// A running reader. Dropping it ends it without waiting; transactions whose invalidations were under way are applied again.
pub struct LogReader {
    shared: Arc<Shared>,
    task: Task,
}

impl LogReader {
    /// What the reader has done, and what it has last seen of the slot.
    #[must_use]
    pub fn stats(&self) -> LogReaderStats {
        self.shared.stats.lock().clone()
    }

    /// Makes the reader look at the log now if it is the one at work. A service may call this after a commit to save the wait for the
    /// next poll.
    pub fn wake_up(&self) {
        self.shared.woken.notify_one();
    }

    /// Ends the reader: it finishes the batch under way, acknowledges the transactions that have landed, and lets another instance
    /// take over at once. Takes no longer than the builder's [`shutdown_limit`](LogReaderBuilder::shutdown_limit); after that the
    /// reader is ended as by a drop. A second call returns at once. On a Tokio runtime of one thread, a function of
    /// [`table`](LogReaderBuilder::table) that blocks its thread holds it up.
    pub async fn shutdown(&self) -> LogReaderStats {
        self.task.shutdown().await;
        self.stats()
    }
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let log = ChangeLog::new("cache_log").unwrap().publication("Cache_Tables").unwrap();
        assert_eq!((log.names.slot.as_str(), log.names.publication.as_str()), ("cache_log", "Cache_Tables"));
        for wrong in ["", "Cache", "1a", "a-b", "a'b", &"a".repeat(MAX_NAME_BYTES + 1)] {
            assert!(ChangeLog::new(wrong).unwrap_err().to_string().contains("cannot name a slot"), "{wrong}");
        }
        assert!(ChangeLog::new("a").unwrap().publication("a\"b").is_err());
    }
}
