//! What a batch function gave, brought into the order of the keys it was asked for.

use std::collections::HashMap;
use std::hash::Hash;

use crate::error::{BoxError, Result, boxed};
use crate::local::approach::Answer;

/// One answer for each key asked for, in their order; `None` where the function said nothing.
pub(crate) struct Picked<T> {
    pub(crate) answers: Vec<Option<Result<T, BoxError>>>,
    /// Keys it gave without having been asked for them.
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

/// What a batch function with an outcome per key gives: the map, or a `Result` of it.
///
/// `HashMap<K, Result<R, E>>`, or `Result<HashMap<K, Result<R, E>>, B>` where `B` is the failure of
/// the whole batch.
pub trait PerKey<K, R> {
    /// The map, each error boxed.
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

/// What became of one key.
pub(crate) type Outcome<V> = Result<Answer<V>>;
