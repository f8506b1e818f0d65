//! The figures of a log reader.

use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use crate::relay::stats::Role;

/// The figures of a log reader; see [`LogReader::stats`](crate::LogReader::stats).
///
/// The counts are of this reader since its start. `lag_bytes`, `kept_bytes` and `oldest` are what the reader at work has last seen,
/// and zero on the others.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct LogReaderStats {
    /// What it is doing.
    pub role: Role,
    /// The log between the acknowledged position and its end. Changes of other tables count, too, until the next pass.
    pub lag_bytes: u64,
    /// The log that the server keeps for the slot. It is more than the lag, and includes the transactions that are open.
    pub kept_bytes: u64,
    /// How long ago the oldest change was committed that is known and not applied, by the clock of the database.
    pub oldest: Duration,
    /// Transactions applied. A transaction is counted again if it is applied again.
    pub transactions: u64,
    /// Changes of rows applied, and each TRUNCATE of a table.
    pub changes: u64,
    /// Changes whose function returned an error or panicked. The reader invalidated the namespace instead.
    pub refused: u64,
    /// Slots that this reader has created, each with a clear of the namespaces.
    pub created: u64,
    /// Times that an L2 failed or refused invalidations. They are tried again.
    pub cache_failures: u64,
    /// Times that the database failed or refused, or the connection to it. The reader connects again.
    pub database_failures: u64,
    /// Times that this reader has come to be the one at work.
    pub takeovers: u64,
    /// The last failure, in words.
    pub last_error: Option<String>,
}

/// What has become of a batch of changes.
#[derive(Debug, Default, Clone)]
pub(crate) struct Landed {
    pub(crate) transactions: u64,
    pub(crate) changes: u64,
    pub(crate) refused: u64,
    pub(crate) reason: Option<String>,
}

/// What the slot keeps.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Lag {
    pub(crate) lag_bytes: u64,
    pub(crate) kept_bytes: u64,
    pub(crate) oldest: Duration,
}

/// What the task of a reader and its handle share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) stats: Mutex<LogReaderStats>,
    pub(crate) woken: Notify,
    pub(crate) slot: String,
}

impl Shared {
    pub(crate) fn new(slot: String) -> Self {
        Self { stats: Mutex::default(), woken: Notify::new(), slot }
    }

    /// Notes a new role. Only the reader at work knows the slot.
    pub(crate) fn role(&self, role: Role) {
        {
            let mut stats = self.stats.lock();
            if stats.role == role {
                return;
            }
            stats.role = role;
            stats.takeovers += u64::from(role == Role::AtWork);
            if role != Role::AtWork {
                (stats.lag_bytes, stats.kept_bytes, stats.oldest) = (0, 0, Duration::ZERO);
            }
        }
        #[cfg(feature = "tracing")]
        tracing::info!(slot = self.slot, ?role, "the log reader has another role");
        self.publish();
    }

    pub(crate) fn database_failed(&self, what: String) {
        #[cfg(feature = "tracing")]
        tracing::warn!(slot = self.slot, error = what, "the log reader cannot read the log; it tries again");
        let mut stats = self.stats.lock();
        stats.database_failures += 1;
        stats.last_error = Some(what);
    }

    pub(crate) fn cache_failed(&self, what: String) {
        #[cfg(feature = "tracing")]
        tracing::warn!(
            slot = self.slot,
            error = what,
            "invalidations of the log failed; they are tried again"
        );
        let mut stats = self.stats.lock();
        stats.cache_failures += 1;
        stats.last_error = Some(what);
    }

    /// Notes why changes wait that have not failed.
    pub(crate) fn waits(&self, what: String) {
        #[cfg(feature = "tracing")]
        tracing::warn!(slot = self.slot, reason = what, "the log reader waits");
        self.stats.lock().last_error = Some(what);
    }

    pub(crate) fn created(&self) {
        #[cfg(feature = "tracing")]
        tracing::warn!(slot = self.slot, "the slot was created, and the namespaces were cleared");
        self.stats.lock().created += 1;
    }

    pub(crate) fn landed(&self, landed: Landed) {
        let mut stats = self.stats.lock();
        stats.transactions += landed.transactions;
        stats.changes += landed.changes;
        stats.refused += landed.refused;
        if let Some(reason) = landed.reason {
            #[cfg(feature = "tracing")]
            tracing::warn!(
                slot = self.slot,
                error = reason,
                "namespaces were invalidated instead of keys and tags"
            );
            stats.last_error = Some(reason);
        }
    }

    pub(crate) fn seen(&self, lag: Lag) {
        {
            let mut stats = self.stats.lock();
            (stats.lag_bytes, stats.kept_bytes, stats.oldest) = (lag.lag_bytes, lag.kept_bytes, lag.oldest);
        }
        self.publish();
    }

    /// Copies the figures to the `metrics` facade. Every figure has one label, `slot`.
    fn publish(&self) {
        #[cfg(feature = "metrics")]
        {
            let stats = self.stats.lock().clone();
            let labels = [("slot", self.slot.clone())];
            metrics::gauge!("async_cache_log_lag_bytes", &labels).set(stats.lag_bytes as f64);
            metrics::gauge!("async_cache_log_kept_bytes", &labels).set(stats.kept_bytes as f64);
            metrics::gauge!("async_cache_log_oldest_seconds", &labels).set(stats.oldest.as_secs_f64());
            metrics::gauge!("async_cache_log_at_work", &labels)
                .set(f64::from(u8::from(stats.role == Role::AtWork)));
            for (name, count) in [
                ("async_cache_log_transactions_total", stats.transactions),
                ("async_cache_log_changes_total", stats.changes),
                ("async_cache_log_refused_total", stats.refused),
                ("async_cache_log_created_total", stats.created),
                ("async_cache_log_cache_failures_total", stats.cache_failures),
                ("async_cache_log_database_failures_total", stats.database_failures),
            ] {
                metrics::counter!(name, &labels).absolute(count);
            }
        }
    }
}
