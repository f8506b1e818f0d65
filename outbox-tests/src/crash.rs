//! Processes that write and relay, and are killed at random points; and the judgement of what they did.

mod driver;
mod node;
mod observer;
mod report;

pub use driver::{Campaign, run};
pub use node::{relay, write};
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

/// The key or tag that a transaction invalidates beside the key of its item. Each transaction has its own.
fn mark(tx: i64) -> String {
    format!("tx:{tx}")
}

/// The transaction of a mark.
fn marked(mark: &[u8]) -> Option<i64> {
    std::str::from_utf8(mark).ok()?.strip_prefix("tx:")?.parse().ok()
}
