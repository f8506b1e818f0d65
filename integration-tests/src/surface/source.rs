//! The source of values.

use std::sync::Arc;

use async_cache::testing::No;

use super::call::Call;
use super::options::Options;
use super::value::Written;

/// A database, as loaders see it.
pub trait Source: Clone + Send + Sync + 'static {
    /// One run of a loader. It may fail, panic or never end, and is cancelled by its deadline.
    fn run(&self, ask: Ask) -> impl Future<Output = Result<Vec<Brought>, No>> + Send + 'static;

    /// The value that an insert of this key stores.
    fn to_store(&self, call: &Call, key: u64) -> Written;
}

/// The arguments of a loader.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The call.
    pub call: Call,
    /// The keys.
    pub keys: Vec<u64>,
    /// The previous value, if the loader receives it.
    pub previous: Option<Arc<Written>>,
}

/// The result of a loader for one key.
#[derive(Debug, Clone)]
pub struct Brought {
    /// The key.
    pub key: u64,
    /// The finding.
    pub what: What,
    /// The options that the loader chooses: `ttl`, `l1_ttl`, `ttl_jitter`, `stale_for`, `refresh_ahead`,
    /// `tags`.
    pub choice: Options,
    /// Whether the value is stored.
    pub cached: bool,
}

/// The finding of a loader.
#[derive(Debug, Clone)]
pub enum What {
    /// A row.
    Value(Written),
    /// No row. For a method without absences it is returned as an error.
    Absent,
    /// The previous value is still right. For a loader without the previous value it is returned as an error.
    Unchanged,
    /// The batch leaves the key out.
    LeftOut,
    /// This key of a batch fails.
    Refused,
}
