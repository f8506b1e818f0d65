//! What only tests do to the shared tier (feature `testing`).

use async_cache_core::backend::TAG_TABLE;

/// A rule of the shared tier to be broken: what is left is wrong, and a proof must find it so.
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "exported for tests alone"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mutant {
    /// A fill is stored whoever holds the lease.
    UnconditionalFill,
    /// A change leaves the lease of its key alone.
    InvalidationKeepsLease,
    /// An invalidation is published a moment before the value is removed.
    PublishBeforeDelete,
    /// Memory that was replaced by an older one goes on from its own sequence and floor, whatever
    /// sequence a caller knows.
    FailoverWithoutFence,
    /// A fill is stored whatever tags were invalidated since its lease was granted.
    FillIgnoresTags,
    /// A refresh is held against its tags by the number it is stored under, not by its lease's.
    RefreshComparesOwnNumber,
    /// A full table of tags starts anew without raising its floor.
    TagsForgotten,
}

/// Which rule is broken, and which limit lowered; outside of tests, none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Switch {
    #[cfg(feature = "testing")]
    pub(crate) off: Option<Mutant>,
    #[cfg(feature = "testing")]
    pub(crate) tag_table: Option<usize>,
}

impl Switch {
    /// Most tags in a partition's table.
    pub(crate) fn tag_table(self) -> usize {
        #[cfg(feature = "testing")]
        return self.tag_table.unwrap_or(TAG_TABLE);
        #[cfg(not(feature = "testing"))]
        TAG_TABLE
    }

    #[inline(always)]
    pub(crate) fn is(self, mutant: Mutant) -> bool {
        #[cfg(feature = "testing")]
        return self.off == Some(mutant);
        #[cfg(not(feature = "testing"))]
        {
            let _ = mutant;
            false
        }
    }
}

#[cfg(feature = "testing")]
mod restart {
    use std::collections::HashMap;
    use std::sync::atomic::Ordering;

    use bytes::Bytes;

    use crate::MemoryBackend;
    use crate::store::Image;

    /// What a shared tier held at one moment.
    #[derive(Clone, Default)]
    pub struct Snapshot(HashMap<String, Image>);

    impl std::fmt::Debug for Snapshot {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_set().entries(self.0.keys()).finish()
        }
    }

    impl MemoryBackend<Bytes> {
        /// What the shared tier holds now.
        #[must_use]
        pub fn snapshot(&self) -> Snapshot {
            let namespaces = self.stores.namespaces.lock();
            Snapshot(
                namespaces.iter().map(|(name, store)| (name.clone(), store.state.lock().image())).collect(),
            )
        }

        /// Goes on as the same server process with the older memory of `snapshot`: a master that was
        /// demoted, followed its former replica, and was promoted again. A namespace opened
        /// since stays as it is.
        pub fn revert(&self, snapshot: &Snapshot) {
            for (name, store) in &*self.stores.namespaces.lock() {
                if let Some(image) = snapshot.0.get(name) {
                    store.revert(image);
                }
            }
        }

        /// Goes on as another server process with the memory of `snapshot`; with none, empty.
        pub fn restart(&self, snapshot: Option<&Snapshot>) {
            self.stores.run.fetch_add(1, Ordering::SeqCst);
            for (name, store) in &*self.stores.namespaces.lock() {
                let image = snapshot.and_then(|snapshot| snapshot.0.get(name));
                store.restart(image);
            }
        }
    }
}
#[cfg(feature = "testing")]
pub use restart::Snapshot;
