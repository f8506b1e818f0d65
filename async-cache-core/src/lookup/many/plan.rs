//! What a lookup of many keys asks for.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::error::{BoxError, Result};
use crate::format::key::Key;
use crate::liveness::stamp::Stamp;
use crate::local::lead::Lead;
use crate::local::request::{CacheMode, FirstTier, LookupRequest};
use crate::lookup::loader::Given;
use crate::lookup::many::picked::Picked;
use crate::options::Options;

/// What a lookup of many keys asks for, without the keys.
pub(crate) struct PlanMany<V> {
    pub(crate) first_tier: FirstTier,
    pub(crate) options: Options,
    pub(crate) loader: BatchLoader<V>,
}

/// A batch loader whose only type parameter is the value type of the cache. It receives the places of the
/// keys to load.
pub(crate) type BatchLoader<V> =
    Arc<dyn Fn(Vec<usize>) -> BoxFuture<'static, Result<Picked<Given<V>>, BoxError>> + Send + Sync>;

impl<V> PlanMany<V> {
    /// The request for one of the keys. An absence answers as well as a value.
    pub(crate) fn request(&self, key: &Key, min_stamp: Option<&Stamp>) -> LookupRequest {
        LookupRequest {
            key: key.clone(),
            min_stamp: min_stamp.cloned(),
            mode: CacheMode::Use,
            absent_ok: true,
            first_tier: self.first_tier,
            background: false,
            options: self.options.clone(),
        }
    }
}

/// A key whose flight this caller leads, and its place among the requested keys.
pub(crate) struct LedKey<V: 'static> {
    pub(crate) place: usize,
    pub(crate) lead: Lead<V>,
}
