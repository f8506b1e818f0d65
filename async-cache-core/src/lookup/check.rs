//! The checks before a lookup begins: the cache is open, the stamp is one of this cache, and the lookup does not
//! come from a loader that is loading the same key.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::backend::NodeId;
use crate::error::{ErrorKind, Result};
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::request::FirstTier;

pub(crate) fn check<V: Send + Sync + 'static>(inner: &Inner<V>, min_stamp: Option<&Stamp>) -> Result<()> {
    inner.lifecycle.check_open()?;
    check_stamp(inner, min_stamp)
}

/// Checks whether a stamp belongs to this cache. It must be called before L1 is asked, so that a hit cannot
/// hide the error.
pub(crate) fn check_stamp<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    min_stamp: Option<&Stamp>,
) -> Result<()> {
    match min_stamp {
        Some(stamp) if stamp.namespace() != &*inner.observer.namespace => {
            Err(crate::liveness::stamp::foreign(stamp.namespace(), &inner.observer.namespace))
        }
        Some(stamp) => {
            // The node that made the stamp got its number from the server, so the server's memory has reached
            // that number.
            inner.local.liveness.node.knows(stamp);
            Ok(())
        }
        None => Ok(()),
    }
}

/// Refuses a lookup past L1 if there is no other tier.
pub(crate) fn check_first_tier<V: 'static>(inner: &Inner<V>, first_tier: FirstTier) -> Result<()> {
    if first_tier == FirstTier::L2 && inner.remote.is_none() {
        let message = "`skip_l1` has no tier to ask without an L2: call `l2` on the builder, use `refresh` to load \
                       the key although it is cached, or leave `skip_l1` out";
        return Err(inner.observer.error(ErrorKind::Config, message));
    }
    Ok(())
}

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
pub(crate) fn check_reentry<V: 'static>(inner: &Inner<V>, key: &Key) -> Result<()> {
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
pub(crate) fn within_load<F: Future>(
    node: NodeId,
    keys: impl IntoIterator<Item = Key>,
    load: F,
) -> impl Future<Output = F::Output> {
    let mut keys: SmallVec<[Key; 1]> = keys.into_iter().collect();
    keys.sort_unstable();
    let chain = Chain { node, keys, outer: current() };
    LOADING.scope(Arc::new(chain), load)
}
