//! The core of async-cache: the tiered read and write path, and the traits that tiers implement.
//!
//! Most users want the facade crate, `async-cache-rs`. Authors of backends want [`backend`] and
//! [`codec`].
//!
//! The sources are laid out as the journey of one lookup: `request` (what a verb returns), `path`
//! (probe, flight, fetch, lease, load, fill), `coherence` (what keeps nodes from serving what
//! another has invalidated), `resilience` (what happens while the shared tier is away).

#![deny(unsafe_code)]

pub mod backend;
pub mod batch;
mod builder;
mod cache;
mod clock;
pub mod codec;
mod coherence;
#[doc(hidden)]
pub mod decorated;
mod error;
pub mod frame;
pub mod key;
mod loaded;
mod observe;
mod options;
mod path;
pub mod request;
mod resilience;
#[cfg(all(test, shuttle))]
mod schedules;
mod shared;
mod sync;
pub mod tags;
#[cfg(feature = "testing")]
pub mod testing;

pub use backend::{Backend, LocalBackend};
pub use batch::DataLoader;
pub use builder::{MAX_NAMESPACE_BYTES, TieredCacheBuilder};
pub use cache::{Shutdown, TieredCache};
#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "msgpack")]
pub use codec::MessagePack;
#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::{Bincode, Codec};
pub use coherence::Stamp;
pub use error::{BoxError, Error, ErrorKind, Result};
pub use key::CacheKey;
pub use loaded::{LoadContext, Loaded};
pub use observe::{
    Amended, Event, EventStream, KeyHash, LoadFailureLog, Resumed, StaleCause, Stats, SuspendCause,
    UnreadableCause,
};
pub use options::{Defaults, LoadOptions, Outage, StoreOptions};
pub use tags::Tags;
