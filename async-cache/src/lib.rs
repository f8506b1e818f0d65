//! A tiered cache for services: an in-process L1 in front of a shared Redis L2, with invalidations that reach every node.
//!
//! * If many tasks on many nodes ask for one key at once, one of them loads it.
//! * A hit in L1 allocates nothing and decodes nothing: it returns an `Arc` of the value.
//! * An invalidation reaches every node that can reach Redis: typically in one pub/sub hop, and within
//!   [`max_staleness`](TieredCacheBuilder::max_staleness) when messages, connections or processes are lost. A node that is
//!   cut off from Redis follows its [`OutagePolicy`] policy: by default it serves its L1 entries until their `ttl`.
//!
//! ```
//! use async_cache::{Error, MemoryBackend, TieredCache};
//! use std::time::Duration;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Error> {
//!     // An L2 shared by the caches of one process. For several processes use `RedisBackend::connect(url).await?`.
//!     let l2 = MemoryBackend::new(100_000);
//!     let users: TieredCache<u64, String> = TieredCache::builder()
//!         .namespace("users")
//!         .l1(MemoryBackend::new(10_000))
//!         .l2(l2)
//!         .ttl(Duration::from_secs(300))
//!         .build()?;
//!
//!     let user = users.get_or_load(&42, || async { Ok::<_, std::io::Error>("Ada".to_string()) }).await?;
//!     assert_eq!(*user, "Ada");
//!     users.invalidate(&42).await?; // call it after the write to the source is committed
//!     assert!(users.get(&42).await?.is_none());
//!     Ok(())
//! }
//! ```
//!
//! # Where to begin
//!
//! | to | see |
//! |---|---|
//! | build a cache | [`TieredCache::builder`], [`MemoryBackend`], [`RedisBackend`] |
//! | read, load, write, invalidate | the methods of [`TieredCache`] |
//! | cache a function | [`cached`] |
//! | load many keys at once | [`TieredCache::get_many_or_load`], [`DataLoader`] |
//! | invalidate a tag in several caches | [`CacheGroup`] |
//! | let the loader choose ttl and tags | [`Loaded`] |
//! | handle failures | [`Error`], [`ErrorKind`], [`OutagePolicy`] |
//! | be told what leaves L1 | [`MemoryBackendBuilder::on_evict`] |
//! | observe | [`TieredCache::stats`], [`TieredCache::subscribe`] |
//! | start and stop | [`RedisBackend::connect_lazy`], [`TieredCache::ready`], [`TieredCache::shutdown`] |
//!
//! The repository's README lists the features and figures. Its folder `docs` has one page for each promise.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

/// Compiles the examples in the README and in `docs`, and runs those that need no server.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../../docs/errors.md")]
    mod errors {}
    #[doc = include_str!("../../docs/invalidation.md")]
    mod invalidation {}
    #[doc = include_str!("../../docs/migrating.md")]
    mod migrating {}
    #[doc = include_str!("../../docs/options.md")]
    mod options {}
    #[doc = include_str!("../../docs/outages.md")]
    mod outages {}
    #[doc = include_str!("../../docs/values.md")]
    mod values {}
    #[cfg(all(feature = "cluster", feature = "sentinel", feature = "tls"))]
    #[doc = include_str!("../../docs/operations.md")]
    mod operations {}
    #[cfg(feature = "testing")]
    #[doc = include_str!("../../docs/testing.md")]
    mod testing {}
}

// By name: nothing becomes public by being added to the core.
#[cfg(feature = "json")]
pub use async_cache_core::Json;
#[cfg(feature = "msgpack")]
pub use async_cache_core::MessagePack;
#[cfg(feature = "postcard")]
pub use async_cache_core::Postcard;
#[doc(hidden)]
pub use async_cache_core::decorated;
#[cfg(feature = "testing")]
pub use async_cache_core::testing;
pub use async_cache_core::{
    Amended, Backend, Bincode, BoxError, CacheGroup, CacheKey, Codec, DataLoader, Defaults, Error, ErrorKind,
    Event, EventStream, Evidence, GroupReport, Invalidator, KeyHash, Knowledge, LoadContext, LoadFailureLog,
    LoadOptions, Loaded, LocalBackend, MAX_NAMESPACE_BYTES, OutagePolicy, Refused, Result, Resumed, Shutdown,
    Source, StaleCause, Stamp, Stats, StoreOptions, SuspendCause, Tags, TieredCache, TieredCacheBuilder,
    Traced, UnreadableCause, Verify, backend, batch, codec, frame, key, request, tags,
};

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
///
/// Without `key`, or with a text as `key`, the cache's keys are `String`s. `RedisBackend::connect` is an async call, so a
/// static cannot make it: keep the cache in a `OnceLock` that `main` sets, and write a function that returns it.
///
/// ```no_run
/// use async_cache::{Error, MemoryBackend, RedisBackend, TieredCache, cached};
/// use std::sync::OnceLock;
///
/// static NAMES: OnceLock<TieredCache<String, String>> = OnceLock::new();
///
/// fn names() -> &'static TieredCache<String, String> {
///     NAMES.get().expect("main has set it")
/// }
///
/// #[cached(cache = names(), ttl = "5m")]
/// async fn name_of(id: u64) -> Result<String, Error> {
///     Ok(format!("name {id}")) // a query
/// }
///
/// #[tokio::main]
/// async fn main() -> Result<(), Error> {
///     let redis = RedisBackend::connect("redis://127.0.0.1:6379").await?;
///     let cache = TieredCache::builder().namespace("names").l1(MemoryBackend::new(10_000)).l2(redis).build()?;
///     NAMES.set(cache).expect("set once");
///     name_of(42).await?;
///     Ok(())
/// }
/// ```
///
/// Or keep the cache in a field, and decorate a method. `skip(self)` keeps `self` out of the key.
///
/// ```
/// use async_cache::{Error, TieredCache, cached};
///
/// #[derive(Clone)]
/// struct Quotes {
///     cache: TieredCache<String, u64>,
/// }
///
/// impl Quotes {
///     #[cached(cache = self.cache, ttl = "10s", skip(self))]
///     async fn price(&self, symbol: &str) -> Result<u64, Error> {
///         Ok(symbol.len() as u64) // a query
///     }
/// }
/// ```
#[cfg(feature = "macros")]
pub use async_cache_macros::cached;
#[cfg(feature = "memory")]
pub use async_cache_memory::{Engine, EvictionCause, MemoryBackend, MemoryBackendBuilder};
#[cfg(all(feature = "redis", feature = "tls"))]
pub use async_cache_redis::Tls;
/// The crates `redis` and `deadpool-redis` in the versions whose types the escape hatches of [`RedisBackend`] take (feature
/// `raw`). A new major version of one of them is no breaking change of this crate.
#[cfg(all(feature = "redis", feature = "raw"))]
pub use async_cache_redis::raw;
/// Faults that tests switch on in the Redis tier.
#[cfg(all(feature = "redis", feature = "testing"))]
pub use async_cache_redis::testing as redis_testing;
/// What command-line and monitoring tools ask of a namespace and its Redis (feature `tools`). The program `async-cache`
/// is built on it.
#[cfg(all(feature = "redis", feature = "tools"))]
pub use async_cache_redis::tools;
#[cfg(feature = "redis")]
pub use async_cache_redis::{
    Credentials, IdentifyBy, RedisBackend, RedisBackendBuilder, RedisConfig, SentinelConfig, SubscribeOn,
    TlsConfig,
};
