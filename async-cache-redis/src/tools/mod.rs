//! A namespace and its server, seen by tools of operations (feature `tools`).
//!
//! [`Namespace`] opens a namespace by the record that Redis has of it, so a tool needs neither the types nor the codec of
//! the cache. [`Examiner`] asks a server one question after the other, where
//! [`connect`](crate::RedisBackendBuilder::connect) stops at the first fault.

mod entry;
mod examiner;
#[cfg(feature = "cluster")]
mod masters;
mod namespace;
mod record;
mod rights;
#[cfg(feature = "cluster")]
mod seed;

use async_cache_core::Result;

use crate::backend::RedisBackend;
use crate::config::RedisConfig;

pub use entry::{LeaseState, StoredEntry, StoredValue, Verdict};
pub use examiner::{Examiner, Right, RightState};
pub use namespace::{Namespace, Partition};
pub use record::Record;

/// Checks the name of a namespace without connecting.
///
/// # Errors
///
/// [`ErrorKind::Config`](async_cache_core::ErrorKind::Config), as opening the namespace returns it.
pub fn check_namespace(name: &str) -> Result<()> {
    crate::backend::check_namespace(name)
}

/// Checks the settings of a connection without connecting: the URL, the limits, the files of certificates.
///
/// # Errors
///
/// [`ErrorKind::Config`](async_cache_core::ErrorKind::Config), as connecting with them returns it.
pub fn check_settings(config: &RedisConfig) -> Result<()> {
    RedisBackend::from_config(config.clone()).check()
}
