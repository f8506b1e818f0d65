//! The traits for authors of backends.
//!
//! A [`Backend`] is an L2: it stores opaque frames, grants leases and sends changes to all nodes. A
//! [`LocalBackend`] is an L1. It is synchronous and typed, so that a hit neither boxes a future nor decodes a
//! value.
//!
//! `testing::conformance` (feature `testing`) tests an implementation of [`Backend`] against the contract at
//! [`Region`].

mod bus;
mod known;
mod lease;
mod life;
mod local;
mod region;
mod runtime;
pub(crate) mod tag_table;
mod terms;

pub use bus::{BusEvent, Listener};
pub use known::Known;
pub use lease::{Accept, Acquire, Acquired, Announce, Fill, Filled, Lease, Renewed};
pub(crate) use life::Born;
pub use life::{Expiry, Phase, Tick};
pub use local::{Entry, HitCheck, LocalBackend};
pub use region::{
    Baseline, Check, Effect, GRANT_PACE, Info, Pulse, Read, ReadMany, Region, RegionSpec, RunId, State,
    TAG_TABLE, WAKE_INLINE,
};
#[doc(hidden)]
pub use runtime::check_runtime;
pub use terms::PackedEntry;

pub use crate::format::token::{NodeId, Token};

use std::fmt::Debug;
use std::sync::{Arc, Weak};

use crate::error::Result;

/// An L2. One value may serve many namespaces.
pub trait Backend: Debug + Send + Sync + 'static {
    /// Opens one namespace for one node.
    ///
    /// Does no I/O and never blocks: connecting, subscribing and checking the namespace record
    /// happen behind the returned [`Region`]. Events are delivered to `listener` for as long as
    /// the region lives; a listener that has been dropped is skipped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config) if this backend cannot serve the namespace,
    /// for instance because it is already open on the same connection set.
    fn open(&self, spec: RegionSpec, listener: Weak<dyn Listener>) -> Result<Arc<dyn Region>>;
}

impl<B: Backend + ?Sized> Backend for Arc<B> {
    fn open(&self, spec: RegionSpec, listener: Weak<dyn Listener>) -> Result<Arc<dyn Region>> {
        (**self).open(spec, listener)
    }
}
