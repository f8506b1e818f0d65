//! Facade; the crate documentation is the README.
#![doc = include_str!("../../README.md")]
#![forbid(unsafe_code)]

pub use async_cache_core::*;

#[cfg(feature = "macros")]
pub use async_cache_macros::CacheKey;
/// # Example
///
/// ```
/// use async_cache::{Error, MemoryBackend, TieredCache, cached};
/// use std::sync::LazyLock;
///
/// static NAMES: LazyLock<TieredCache<String, String>> = LazyLock::new(|| {
///     TieredCache::builder().namespace("names").l1(MemoryBackend::new(10_000)).build().expect("a valid cache")
/// });
///
/// #[cached(cache = NAMES, ttl = "5m", negative_ttl = "10s")]
/// async fn name_of(team: u32, id: u64) -> Result<Option<String>, Error> {
///     Ok((id != 0).then(|| format!("{id} of {team}"))) // a query
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
/// assert_eq!(name_of(9, 42).await?.as_deref(), Some("42 of 9")); // loaded
/// assert_eq!(name_of(9, 42).await?.as_deref(), Some("42 of 9")); // from the cache
/// assert_eq!(name_of(9, 0).await?, None);                        // an absence is cached, too
/// name_of_refresh(9, 42).await?;                                 // loaded, and replaced on every node
/// name_of_invalidate(9, 42).await?;                              // dropped on every node
/// # Ok(()) }
/// ```
#[cfg(feature = "macros")]
pub use async_cache_macros::cached;
#[cfg(feature = "memory")]
pub use async_cache_memory::{Engine, MemoryBackend, MemoryBackendBuilder};
#[cfg(feature = "redis")]
pub use async_cache_redis::{RedisBackend, RedisBackendBuilder};
