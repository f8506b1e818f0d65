//! What a lookup of many keys asks for, and what its loader returns, in the order of the requested keys.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::error::{BoxError, Result, boxed};
use crate::format::key::Key;
use crate::liveness::stamp::Stamp;
use crate::local::lead::Lead;
use crate::local::request::{Answer, FirstTier, LookupRequest};
use crate::lookup::loader::Given;
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
            min_stamp: min_stamp.cloned(),
            absent_ok: true,
            first_tier: self.first_tier,
            ..LookupRequest::of(key.clone(), self.options.clone())
        }
    }
}

/// A key whose flight this caller leads, and its place among the requested keys.
pub(crate) struct LedKey<V: 'static> {
    pub(crate) place: usize,
    pub(crate) lead: Lead<V>,
}

/// One answer for each requested key, in their order. It is `None` if the function returned nothing for the
/// key.
pub(crate) struct Picked<T> {
    pub(crate) answers: Vec<Option<Result<T, BoxError>>>,
    /// The number of keys that it returned without a request.
    pub(crate) unasked: usize,
}

impl<T> Picked<T> {
    pub(crate) fn new<K: Eq + Hash, R>(
        asked: &[K],
        mut found: HashMap<K, R>,
        answer: impl Fn(R) -> Result<T, BoxError>,
    ) -> Self {
        let answers = asked.iter().map(|key| found.remove(key).map(&answer)).collect();
        Self { answers, unasked: found.len() }
    }
}

/// The result of a batch function with an outcome for each key: the map, or a `Result` of it.
///
/// It is `HashMap<K, Result<R, E>>`, or `Result<HashMap<K, Result<R, E>>, B>`, where `B` is the failure of
/// the whole batch.
#[diagnostic::on_unimplemented(
    message = "the batch function returns `{Self}`, which has no outcome for each key",
    label = "it must be `HashMap<{K}, Result<V, E>>`, or a `Result` of that",
    note = "`V` is the cache's type of values, an `Option` of it, or a `Loaded`"
)]
pub trait PerKey<K, R> {
    /// The map, with each error boxed.
    ///
    /// # Errors
    ///
    /// The failure of the whole batch.
    fn per_key(self) -> Result<HashMap<K, Result<R, BoxError>>, BoxError>;
}

impl<K: Eq + Hash, R, E: Into<BoxError> + 'static> PerKey<K, R> for HashMap<K, Result<R, E>> {
    fn per_key(self) -> Result<HashMap<K, Result<R, BoxError>>, BoxError> {
        Ok(self.into_iter().map(|(key, outcome)| (key, outcome.map_err(boxed))).collect())
    }
}

impl<K: Eq + Hash, R, E: Into<BoxError> + 'static, B: Into<BoxError> + 'static> PerKey<K, R>
    for Result<HashMap<K, Result<R, E>>, B>
{
    fn per_key(self) -> Result<HashMap<K, Result<R, BoxError>>, BoxError> {
        self.map_err(boxed).and_then(PerKey::per_key)
    }
}

/// The outcome of one key.
pub(crate) type Outcome<V> = Result<Answer<V>>;
