//! The result of a batch function, in the order of the requested keys.

use std::collections::HashMap;
use std::hash::Hash;

use crate::error::{BoxError, Result, boxed};
use crate::local::request::Answer;

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
