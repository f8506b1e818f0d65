//! Processes that write and relay, and are killed at random points; and the judgement of what they did.

mod driver;
mod node;
mod observer;
mod report;

pub use driver::{Campaign, run};
pub use node::{read, relay, write};
pub use report::Report;

use clap::ValueEnum;

/// The databases by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    Mysql,
    /// SQLite.
    Sqlite,
}

/// How the invalidations of a transaction come to a process that makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Means {
    /// The writer writes rows of an outbox, and a relay applies them.
    Outbox,
    /// The writer writes its own tables only, and a reader reads the log of PostgreSQL.
    Log,
}

/// The slot and the publication of [`Means::Log`].
const LOG: &str = "crash_log";

/// The key or tag that a transaction invalidates beside the key of its item. Each transaction has its own.
fn mark(tx: i64) -> String {
    format!("tx:{tx}")
}

/// The transaction of a mark.
fn marked(mark: &[u8]) -> Option<i64> {
    std::str::from_utf8(mark).ok()?.strip_prefix("tx:")?.parse().ok()
}
