//! What a lookup of many keys wants.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::error::{BoxError, Result};
use crate::local::approach::{Reuse, Want};
use crate::local::lead::Lead;
use crate::lookup::loader::{Given, Wish};
use crate::lookup::many::picked::Picked;
use crate::lookup::request::{Aim, Origin};
use crate::options::Options;

/// What a lookup of many keys wants, without the keys.
pub(crate) struct PlanMany<V> {
    pub(crate) options: Options,
    pub(crate) loader: BatchLoader<V>,
}

/// A batch loader whose only type parameter is the value type of the cache. It receives the places of the
/// keys to load.
pub(crate) type BatchLoader<V> =
    Arc<dyn Fn(Vec<usize>) -> BoxFuture<'static, Result<Picked<Given<V>>, BoxError>> + Send + Sync>;

impl<V> PlanMany<V> {
    /// The aim of one of the keys. An absence answers as well as a value.
    pub(crate) fn aim(&self, reuse: Reuse, origin: Origin) -> Aim {
        Aim { want: Want::ValueOrAbsence, reuse, origin, wish: Wish::Nothing, options: self.options.clone() }
    }
}

/// A key whose flight this caller leads, and its place among the requested keys.
pub(crate) struct LedKey<V: 'static> {
    pub(crate) place: usize,
    pub(crate) aim: Aim,
    pub(crate) lead: Lead<V>,
}
