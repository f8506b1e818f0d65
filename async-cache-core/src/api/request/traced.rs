//! Where the answer of a lookup was found, and its age.

use std::fmt;
use std::time::Duration;

use crate::inner::Inner;
use crate::local::request::{Found, Source};

/// The answer of a lookup, where it was found, and how old it is: see
/// [`GetOrLoad::traced`](crate::api::request::GetOrLoad::traced).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced<T> {
    /// What the lookup returns without `traced`.
    pub value: T,
    /// Where it was found.
    pub source: Source,
    /// The time since the value was stored: since the end of its load, or since its insert, on any node. L2 stores this
    /// time with the value. If this lookup has loaded the value, its age includes the time for storing it in L2. The age
    /// is zero if there is nothing. Across nodes it is exact to a few milliseconds, like the expiry: L2 keeps both on
    /// its own clock.
    pub age: Duration,
}

impl<T> Traced<T> {
    pub(super) fn of<V: 'static>(
        inner: &Inner<V>,
        found: Found<V>,
        finish: impl FnOnce(Option<std::sync::Arc<V>>) -> T,
    ) -> Self {
        let now = inner.local.now();
        let age = found.born.map_or(Duration::ZERO, |born| born.age(now));
        Self { value: finish(found.answer), source: found.source, age }
    }
}

/// A lookup that also returns where its answer was found: the result of `traced` on a request. Set the options of the
/// request before that.
#[must_use = "a request does nothing until it is awaited"]
pub struct TracedRequest<R>(pub(super) R);

impl<R: fmt::Debug> fmt::Debug for TracedRequest<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TracedRequest").field(&self.0).finish()
    }
}
