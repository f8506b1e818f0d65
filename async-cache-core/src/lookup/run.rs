//! Runs a loader: within its time limit, and only while the cache is open.

use std::time::Duration;

use crate::error::{BoxError, Error, ErrorKind, Result, guard};
use crate::inner::Inner;

pub(crate) fn failed_elsewhere<V: 'static>(inner: &Inner<V>) -> Error {
    inner.observer.error(ErrorKind::Loader, "another node failed to load this key, or takes too long")
}

/// Runs a loader within its time limit, and only while the cache is open.
pub(crate) async fn run_loader<V: 'static, T, Fut>(
    inner: &Inner<V>,
    loader: impl FnOnce() -> Fut,
    limit: Duration,
) -> Result<T>
where
    Fut: Future<Output = Result<T, BoxError>>,
{
    #[cfg(feature = "metrics")]
    let begun = inner.local.liveness.node.clock.now();
    let outcome =
        inner.lifecycle.closing.run_until_cancelled(guard::run("loading a key", limit, loader)).await;
    #[cfg(feature = "metrics")]
    crate::observe::loaded(&inner.observer.namespace, inner.local.liveness.node.clock.now().since(begun));
    match outcome {
        Some(outcome) => outcome.map_err(|error| error.in_namespace(&inner.observer.namespace)),
        None => Err(inner
            .observer
            .error(ErrorKind::Shutdown, "the cache was shut down while a key was being loaded")),
    }
}
