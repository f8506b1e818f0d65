//! A loader that asks for the key it is loading would wait for itself.

use std::sync::Arc;

use crate::backend::NodeId;
use crate::error::{ErrorKind, Result};
use crate::key::Key;
use crate::shared::Shared;

tokio::task_local! {
    static LOADING: Arc<Chain>;
}

/// The loads this task runs inside of, innermost first.
struct Chain {
    node: NodeId,
    key: Key,
    outer: Option<Arc<Chain>>,
}

/// Refuses a key that the calling task is loading already, directly or through other keys.
///
/// A loader that asks from a task it spawned itself is not seen here; `load_timeout` ends it.
pub(super) fn check<V: 'static>(shared: &Shared<V>, key: &Key) -> Result<()> {
    let mut next = current();
    while let Some(chain) = next {
        if chain.node == shared.node.id && chain.key == *key {
            return Err(shared.error(
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

/// Runs `load` as the load of `key`, inside the loads that the calling task runs inside of.
pub(super) fn within<F: Future>(node: NodeId, key: Key, load: F) -> impl Future<Output = F::Output> {
    let chain = Chain { node, key, outer: current() };
    LOADING.scope(Arc::new(chain), load)
}
