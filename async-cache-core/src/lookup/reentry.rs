//! Refuses a loader that asks for the key it is loading. It would wait for itself.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::backend::NodeId;
use crate::error::{ErrorKind, Result};
use crate::format::key::Key;
use crate::inner::Inner;

tokio::task_local! {
    static LOADING: Arc<Chain>;
}

/// The loads inside which this task runs, the innermost first.
struct Chain {
    node: NodeId,
    /// Sorted.
    keys: SmallVec<[Key; 1]>,
    outer: Option<Arc<Chain>>,
}

/// Refuses a key that the calling task is already loading, directly or through other keys.
///
/// A loader that asks from a task of its own making is not detected. `load_timeout` ends it.
pub(crate) fn check<V: 'static>(inner: &Inner<V>, key: &Key) -> Result<()> {
    let mut next = current();
    while let Some(chain) = next {
        if chain.node == inner.local.liveness.node.id && chain.keys.binary_search(key).is_ok() {
            return Err(inner.observer.error(
                ErrorKind::Reentrant,
                "a loader asked for the key it is loading: read the source directly, or use another key",
            ));
        }
        next = chain.outer.clone();
    }
    Ok(())
}

fn current() -> Option<Arc<Chain>> {
    LOADING.try_with(Arc::clone).ok()
}

/// Runs `load` as the load of `keys`, inside the loads of the calling task.
pub(crate) fn within<F: Future>(
    node: NodeId,
    keys: impl IntoIterator<Item = Key>,
    load: F,
) -> impl Future<Output = F::Output> {
    let mut keys: SmallVec<[Key; 1]> = keys.into_iter().collect();
    keys.sort_unstable();
    let chain = Chain { node, keys, outer: current() };
    LOADING.scope(Arc::new(chain), load)
}
