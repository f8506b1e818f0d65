//! The state that all handles of one cache share.

use std::fmt;
use std::sync::Arc;

use crate::faults::mutant::Switch;
use crate::liveness::lifecycle::Lifecycle;
use crate::local::l1::L1;
use crate::observe::Observer;
use crate::options::{Options, OutagePolicy};
use crate::remote::l2::L2;

/// The parts of one cache. Each part has its own owner. This struct decides nothing.
pub(crate) struct Inner<V> {
    pub(crate) observer: Arc<Observer>,
    pub(crate) local: Arc<L1<V>>,
    pub(crate) remote: Option<L2<V>>,
    pub(crate) policy: Policy,
    pub(crate) lifecycle: Lifecycle,
}

/// The settings from the builder of the cache.
pub(crate) struct Policy {
    pub(crate) defaults: Options,
    pub(crate) outage: OutagePolicy,
    pub(crate) faults: Switch,
}

impl<V: 'static> fmt::Debug for Inner<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredCache")
            .field("namespace", &self.observer.namespace)
            .field("node", &self.local.liveness.node.id)
            .field("l1", &self.local.exists())
            .field("l2", &self.remote.as_ref().map(|l2| &l2.region))
            .finish_non_exhaustive()
    }
}
