//! The relay: reads committed rows, makes their invalidations, and deletes the rows.

pub(crate) mod apply;
pub(crate) mod builder;
pub(crate) mod pass;
pub(crate) mod pause;
pub(crate) mod stats;
mod work;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::relay::stats::{RelayStats, Shared};
use crate::task::Task;

/// The most rows that [`RelayStats::backlog`] counts. A larger backlog is given as this number.
pub const BACKLOG_COUNT: u64 = 100_000;

/// How often a relay tries a row that it cannot read before it leaves the row alone. When a relay takes over, it tries
/// such rows again.
pub const MAX_ATTEMPTS: u32 = 3;

/// How long a connection to the database may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long any statement may take, and the invalidations of one page.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// A running relay. Dropping it ends it without waiting; rows whose invalidations were under way are applied again.
pub struct Relay {
    shared: Arc<Shared>,
    task: Task,
}

impl Relay {
    /// What the relay has done, and what it has last seen in the table.
    #[must_use]
    pub fn stats(&self) -> RelayStats {
        self.shared.stats.lock().clone()
    }

    /// Makes the relay look at the table now if it is the one at work. On MySQL and SQLite a service may call this after a
    /// commit to save the wait for the next poll.
    pub fn wake_up(&self) {
        self.shared.woken.notify_one();
    }

    /// Ends the relay: it finishes the page of rows under way, deletes what has landed, and lets another instance take over
    /// at once. Rows that are left stay in the table. Takes no longer than the builder's
    /// [`shutdown_limit`](crate::RelayBuilder::shutdown_limit); after that the relay is ended as by a drop. A second call
    /// returns at once.
    pub async fn shutdown(&self) -> RelayStats {
        self.task.shutdown().await;
        self.stats()
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
