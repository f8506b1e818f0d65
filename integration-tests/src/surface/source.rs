//! Where values come from.

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

/// What a loader is asked.
#[derive(Debug, Clone)]
pub struct Ask {
    /// By which call.
    pub call: Call,
    /// For which keys.
    pub keys: Vec<u64>,
    /// What the load is to replace, where a loader is told.
    pub previous: Option<Arc<Written>>,
}

/// What a loader brings of one key.
#[derive(Debug, Clone)]
pub struct Brought {
    /// Of which.
    pub key: u64,
    /// What.
    pub what: What,
    /// What it says of how that is kept: `ttl`, `l1_ttl`, `ttl_jitter`, `stale_for`, `refresh_ahead`, `tags`.
    pub choice: Options,
    /// Whether it is stored.
    pub cached: bool,
}

/// What a loader found.
#[derive(Debug, Clone)]
pub enum What {
    /// A row.
    Value(Written),
    /// That there is none. From verbs for which that is no answer it comes as an error.
    Absent,
    /// That what there was is right still. From verbs that were not told it comes as an error.
    Unchanged,
    /// A batch says nothing about the key.
    LeftOut,
    /// This key of a batch fails.
    Refused,
}
