//! The checks before a lookup begins.

use crate::error::Result;
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;

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
