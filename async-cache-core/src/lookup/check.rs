//! What a lookup is checked for before it begins.

use crate::error::Result;
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;

pub(crate) fn check<V: Send + Sync + 'static>(inner: &Inner<V>, min_stamp: Option<&Stamp>) -> Result<()> {
    inner.lifecycle.check_open()?;
    check_stamp(inner, min_stamp)
}

/// Whether a stamp says anything about this cache. To be asked before L1 is: what is held must not hide it.
pub(crate) fn check_stamp<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    min_stamp: Option<&Stamp>,
) -> Result<()> {
    match min_stamp {
        Some(stamp) if stamp.namespace() != &*inner.observer.namespace => {
            Err(crate::liveness::stamp::foreign(stamp.namespace(), &inner.observer.namespace))
        }
        Some(stamp) => {
            // Whoever made it was answered by memory that had come so far.
            inner.local.liveness.node.knows(stamp);
            Ok(())
        }
        None => Ok(()),
    }
}
