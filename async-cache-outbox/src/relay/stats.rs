//! The figures of a relay.

use std::time::Duration;

#[cfg(feature = "metrics")]
use metrics::Unit;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use crate::database::Figures;
#[cfg(feature = "metrics")]
use crate::instruments::{Instruments, Metric};
#[cfg(feature = "tracing")]
use crate::limits::{Admitted, Limits, Warning};

/// The metrics of a relay. Each has one label, `table`.
#[cfg(feature = "metrics")]
const METRICS: [Metric<RelayStats>; 8] = [
    Metric::gauge(
        "async_cache_outbox_backlog",
        Unit::Count,
        "Rows in the outbox table, 100,000 at most.",
        |stats| stats.backlog as f64,
    ),
    Metric::gauge(
        "async_cache_outbox_oldest_seconds",
        Unit::Seconds,
        "Age of the oldest row that the relay at work can apply.",
        |stats| stats.oldest.as_secs_f64(),
    ),
    Metric::gauge(
        "async_cache_outbox_unknown",
        Unit::Count,
        "Rows of namespaces that the relay at work does not know. They stay.",
        |stats| stats.unknown as f64,
    ),
    Metric::gauge(
        "async_cache_outbox_unreadable",
        Unit::Count,
        "Rows that the relay at work cannot read. They stay.",
        |stats| stats.unreadable as f64,
    ),
    Metric::gauge(
        "async_cache_outbox_at_work",
        Unit::Count,
        "1 if this relay is the one at work, else 0.",
        |stats| f64::from(u8::from(stats.role == Role::AtWork)),
    ),
    Metric::count(
        "async_cache_outbox_applied_total",
        "Rows that this relay has applied and deleted.",
        |stats| stats.applied,
    ),
    Metric::count(
        "async_cache_outbox_cache_failures_total",
        "Times that an L2 failed or refused the invalidations of a page. The relay tries them again.",
        |stats| stats.cache_failures,
    ),
    Metric::count(
        "async_cache_outbox_database_failures_total",
        "Times that the database failed, or the connection to it. The relay connects again.",
        |stats| stats.database_failures,
    ),
];

/// What a relay is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// It is connecting to the database.
    #[default]
    Connecting,
    /// Another relay is at work. This one waits to take over.
    Standby,
    /// It is the one at work.
    AtWork,
    /// It has ended.
    Ended,
}

/// The figures of a relay; see [`Relay::stats`](crate::Relay::stats).
///
/// The counts are of this relay since its start. `backlog`, `oldest`, `unknown` and `unreadable` are what the relay at work
/// has last seen in the table, and zero on the others. They are renewed with each poll, and at most once a second.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct RelayStats {
    /// What it is doing.
    pub role: Role,
    /// Rows in the table, [`BACKLOG_COUNT`](crate::BACKLOG_COUNT) at most.
    pub backlog: u64,
    /// The age of the oldest row that this relay can apply, by the clock of the database.
    pub oldest: Duration,
    /// Rows of namespaces that this relay does not know. They stay until a relay that knows them is at work.
    pub unknown: u64,
    /// Up to ten of those namespaces.
    pub unknown_namespaces: Vec<String>,
    /// Rows that no relay of this version can read, after [`MAX_ATTEMPTS`](crate::MAX_ATTEMPTS). They stay; their column
    /// `error` has the reason.
    pub unreadable: u64,
    /// Rows applied and deleted.
    pub applied: u64,
    /// Times that an L2 failed or refused the invalidations of a page. They are tried again.
    pub cache_failures: u64,
    /// Times that the database failed, or the connection to it. The relay connects again.
    pub database_failures: u64,
    /// Times that this relay has come to be the one at work.
    pub takeovers: u64,
    /// The last failure, in words.
    pub last_error: Option<String>,
}

/// What the task of a relay and its handle share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) stats: Mutex<RelayStats>,
    pub(crate) woken: Notify,
    pub(crate) table: String,
    #[cfg(feature = "metrics")]
    instruments: Instruments<RelayStats>,
    #[cfg(feature = "tracing")]
    limits: Limits,
}

impl Shared {
    pub(crate) fn new(table: String) -> Self {
        Self {
            stats: Mutex::default(),
            woken: Notify::new(),
            #[cfg(feature = "metrics")]
            instruments: Instruments::new(&METRICS, "table", &table),
            #[cfg(feature = "tracing")]
            limits: Limits::default(),
            table,
        }
    }

    /// Notes a new role. Only the relay at work knows the table.
    pub(crate) fn role(&self, role: Role) {
        {
            let mut stats = self.stats.lock();
            if stats.role == role {
                return;
            }
            stats.role = role;
            stats.takeovers += u64::from(role == Role::AtWork);
            if role != Role::AtWork {
                (stats.backlog, stats.oldest, stats.unknown, stats.unreadable) = (0, Duration::ZERO, 0, 0);
                stats.unknown_namespaces.clear();
            }
        }
        #[cfg(feature = "tracing")]
        tracing::info!(table = self.table, ?role, "the outbox relay has another role");
        self.publish();
    }

    pub(crate) fn database_failed(&self, what: &str) {
        #[cfg(feature = "tracing")]
        if let Some(Admitted { suppressed }) = self.limits.admit(Warning::DatabaseFailed) {
            let table = &*self.table;
            tracing::warn!(
                table,
                error = what,
                suppressed,
                "the outbox relay cannot use the database; it tries again"
            );
        }
        {
            let mut stats = self.stats.lock();
            stats.database_failures += 1;
            stats.last_error = Some(format!("the outbox table `{}`: {what}", self.table));
        }
        self.publish();
    }

    pub(crate) fn cache_failed(&self, what: String) {
        #[cfg(feature = "tracing")]
        if let Some(Admitted { suppressed }) = self.limits.admit(Warning::CacheFailed) {
            let table = &*self.table;
            tracing::warn!(
                table,
                error = what,
                suppressed,
                "invalidations of the outbox failed; they are tried again"
            );
        }
        {
            let mut stats = self.stats.lock();
            stats.cache_failures += 1;
            stats.last_error = Some(what);
        }
        self.publish();
    }

    pub(crate) fn unreadable(&self, what: String) {
        #[cfg(feature = "tracing")]
        if let Some(Admitted { suppressed }) = self.limits.admit(Warning::Unreadable) {
            let table = &*self.table;
            tracing::warn!(table, error = what, suppressed, "rows of the outbox cannot be read");
        }
        self.stats.lock().last_error = Some(what);
    }

    pub(crate) fn applied(&self, rows: usize) {
        self.stats.lock().applied += rows as u64;
    }

    pub(crate) fn seen(&self, figures: Figures, unknown: Vec<String>) {
        let count = |rows: i64| u64::try_from(rows).unwrap_or_default();
        let new = {
            let mut stats = self.stats.lock();
            stats.backlog = count(figures.rows);
            stats.oldest = Duration::from_millis(count(figures.oldest_ms));
            stats.unknown = count(figures.unknown);
            stats.unreadable = count(figures.unreadable);
            let new = unknown.iter().any(|name| !stats.unknown_namespaces.contains(name));
            stats.unknown_namespaces = unknown;
            new.then(|| stats.unknown_namespaces.clone())
        };
        if let Some(names) = new {
            #[cfg(feature = "tracing")]
            if let Some(Admitted { suppressed }) = self.limits.admit(Warning::UnknownNamespaces) {
                tracing::warn!(
                    table = self.table,
                    ?names,
                    suppressed,
                    "the outbox has rows of namespaces that this relay does not know: add the caches to it"
                );
            }
            drop(names);
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
