//! The core of async-cache: the tiered read and write path, and the traits that tiers implement.
//!
//! Most users want the facade crate, `async-cache-rs`. Authors of backends want [`backend`] and
//! [`codec`].
//!
//! Each folder uses only the folders after it: `api`, `lookup`, `changes`, `remote`, `local`, `liveness`, `backend`,
//! `options`, `format`, `observe`, and last `error`, `sync` and `faults`.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

mod api;
pub mod backend;
mod changes;
mod error;
mod faults;
mod format;
mod inner;
mod liveness;
mod local;
mod lookup;
mod observe;
mod options;
mod remote;
#[cfg(all(test, shuttle))]
mod schedules;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;

/// The awaitable requests that the verbs of a [`TieredCache`] return.
pub mod request {
    pub use crate::api::request::{
        Get, GetMany, GetOrLoad, GetOrLoadOptional, Insert, Refresh, RefreshOptional, TracedRequest,
    };
    pub use crate::options::IntoLoaded;
}

/// Lookups of many keys: batch loaders, [`DataLoader`], warming.
pub mod batch {
    pub use crate::api::batch_value::BatchValue;
    pub use crate::api::data_loader::loader::{DataLoader, Update};
    pub use crate::api::many::GetManyOrLoad;
    pub use crate::api::warm::report::{Warm, WarmProgress, WarmReport};
    pub use crate::lookup::many::plan::PerKey;
}

#[doc(hidden)]
pub use api::macro_support as decorated;
pub use format::{codec, frame, key, tags};
/// For the logs of other parts.
#[doc(hidden)]
pub use observe::WarningLimits;
/// For the configuration of other tiers.
#[doc(hidden)]
pub use options::duration as durations;

pub use api::builder::{MAX_NAMESPACE_BYTES, TieredCacheBuilder};
pub use api::cache::{Shutdown, TieredCache};
pub use api::group::{CacheGroup, GroupReport};
pub use api::invalidator::Invalidator;
pub use api::request::Traced;
pub use backend::{Backend, LocalBackend};
pub use batch::DataLoader;
#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "msgpack")]
pub use codec::MessagePack;
#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::{Bincode, Codec};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use key::CacheKey;
pub use liveness::stamp::Stamp;
pub use local::request::Source;
pub use lookup::loader::LoadContext;
pub use observe::{
    Amended, Event, EventStream, Evidence, KeyHash, Knowledge, LoadFailureLog, Refused, Resumed, StaleCause,
    Stats, SuspendCause, UnreadableCause,
};
pub use options::Loaded;
pub use options::{Defaults, LoadOptions, OutagePolicy, StoreOptions, Verify};
pub use tags::Tags;
