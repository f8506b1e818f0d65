//! The figures of a log reader.

use std::time::Duration;

#[cfg(feature = "metrics")]
use metrics::Unit;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

#[cfg(feature = "metrics")]
use crate::instruments::{Instruments, Metric};
#[cfg(feature = "tracing")]
use crate::limits::{Admitted, Limits, Warning};
use crate::relay::stats::Role;

/// The metrics of a log reader. Each has one label, `slot`.
#[cfg(feature = "metrics")]
const METRICS: [Metric<LogReaderStats>; 10] = [
    Metric::gauge(
        "async_cache_log_lag_bytes",
        Unit::Bytes,
        "The log between the position that the reader has acknowledged and its end.",
        |stats| stats.lag_bytes as f64,
    ),
    Metric::gauge(
        "async_cache_log_kept_bytes",
        Unit::Bytes,
        "The log that the server keeps for the slot.",
        |stats| stats.kept_bytes as f64,
    ),
    Metric::gauge(
        "async_cache_log_oldest_seconds",
        Unit::Seconds,
        "How long ago the oldest change was committed that is known and not applied. Of a reader that cannot work: for how long it has \
         not reached the end of the log.",
        |stats| stats.oldest.as_secs_f64(),
    ),
    Metric::gauge(
        "async_cache_log_at_work",
        Unit::Count,
        "1 if this reader is the one at work, else 0.",
        |stats| f64::from(u8::from(stats.role == Role::AtWork)),
    ),
    Metric::count(
        "async_cache_log_transactions_total",
        "Transactions that this reader has applied.",
        |stats| stats.transactions,
    ),
    Metric::count(
        "async_cache_log_changes_total",
        "Changes of rows that this reader has applied, and each TRUNCATE of a table.",
        |stats| stats.changes,
    ),
    Metric::count(
        "async_cache_log_refused_total",
        "Changes whose function failed, and those of tables that are neither watched nor published any more. The reader invalidated the \
         namespaces instead.",
        |stats| stats.refused,
    ),
    Metric::count(
        "async_cache_log_created_total",
        "Slots that this reader has created or renewed, each with a clear of the namespaces.",
        |stats| stats.created,
    ),
    Metric::count(
        "async_cache_log_cache_failures_total",
        "Times that an L2 failed or refused invalidations. The reader tries them again.",
        |stats| stats.cache_failures,
    ),
    Metric::count(
        "async_cache_log_database_failures_total",
        "Times that the database failed or refused, or the connection to it. The reader connects again.",
        |stats| stats.database_failures,
    ),
];

/// The figures of a log reader; see [`LogReader::stats`](crate::LogReader::stats).
///
/// The counts are of this reader since its start. `lag_bytes`, `kept_bytes` and `oldest` are what the reader with the lead has last
/// seen, also if it cannot work, and zero on the others.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct LogReaderStats {
    /// What it is doing.
    pub role: Role,
    /// The log between the acknowledged position and its end. Changes of other tables count, too, until the next pass.
    pub lag_bytes: u64,
    /// The log that the server keeps for the slot. It is more than the lag, and includes the transactions that are open.
    pub kept_bytes: u64,
    /// How long ago the oldest change was committed that is known and not applied, by the clock of the database. Of a reader that cannot
    /// work: for how long it has not reached the end of the log.
    pub oldest: Duration,
    /// Transactions applied. A transaction is counted again if it is applied again.
    pub transactions: u64,
    /// Changes of rows applied, and each TRUNCATE of a table.
    pub changes: u64,
    /// Changes whose function returned an error or panicked, and those of tables that are neither watched nor published any more. The
    /// reader invalidated the namespaces instead.
    pub refused: u64,
    /// Slots that this reader has created or renewed, each with a clear of the namespaces.
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
    #[cfg(feature = "metrics")]
    instruments: Instruments<LogReaderStats>,
    #[cfg(feature = "tracing")]
    limits: Limits,
}

impl Shared {
    pub(crate) fn new(slot: String) -> Self {
        Self {
            stats: Mutex::default(),
            woken: Notify::new(),
            #[cfg(feature = "metrics")]
            instruments: Instruments::new(&METRICS, "slot", &slot),
            #[cfg(feature = "tracing")]
            limits: Limits::default(),
            slot,
        }
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

    pub(crate) fn database_failed(&self, what: &str) {
        #[cfg(feature = "tracing")]
        if let Some(Admitted { suppressed }) = self.limits.admit(Warning::DatabaseFailed) {
            let slot = &*self.slot;
            tracing::warn!(
                slot,
                error = what,
                suppressed,
                "the log reader cannot read the log; it tries again"
            );
        }
        {
            let mut stats = self.stats.lock();
            stats.database_failures += 1;
            stats.last_error = Some(format!("the slot `{}`: {what}", self.slot));
        }
        self.publish();
    }

    pub(crate) fn cache_failed(&self, what: String) {
        #[cfg(feature = "tracing")]
        if let Some(Admitted { suppressed }) = self.limits.admit(Warning::CacheFailed) {
            let slot = &*self.slot;
            tracing::warn!(
                slot,
                error = what,
                suppressed,
                "invalidations of the log failed; they are tried again"
            );
        }
        {
            let mut stats = self.stats.lock();
            stats.cache_failures += 1;
            stats.last_error = Some(what);
        }
        self.publish();
    }

    /// Notes why changes wait that have not failed.
    pub(crate) fn waits(&self, what: String) {
        #[cfg(feature = "tracing")]
        if let Some(Admitted { suppressed }) = self.limits.admit(Warning::Waits) {
            tracing::warn!(slot = self.slot, reason = what, suppressed, "the log reader waits");
        }
        self.stats.lock().last_error = Some(what);
    }

    pub(crate) fn created(&self) {
        #[cfg(feature = "tracing")]
        if let Some(Admitted { suppressed }) = self.limits.admit(Warning::SlotCreated) {
            let slot = &*self.slot;
            tracing::warn!(slot, suppressed, "the slot was created, and the namespaces were cleared");
        }
        self.stats.lock().created += 1;
    }

    pub(crate) fn landed(&self, landed: Landed) {
        let mut stats = self.stats.lock();
        stats.transactions += landed.transactions;
        stats.changes += landed.changes;
        stats.refused += landed.refused;
        if let Some(reason) = landed.reason {
            #[cfg(feature = "tracing")]
            if let Some(Admitted { suppressed }) = self.limits.admit(Warning::NamespacesInvalidated) {
                let slot = &*self.slot;
                tracing::warn!(
                    slot,
                    error = reason,
                    suppressed,
                    "namespaces were invalidated instead of keys and tags"
                );
            }
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

    /// Copies the figures to the `metrics` facade.
    ///
    /// Also while nothing changes: the recorder may be installed later.
    pub(crate) fn publish(&self) {
        #[cfg(feature = "metrics")]
        {
            let stats = self.stats.lock().clone();
            self.instruments.publish(&stats);
        }
    }
}
