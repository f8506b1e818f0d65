//! Facade; the crate documentation is the README.
#![doc = include_str!("../../README.md")]

pub use async_cache_core::*;

#[cfg(feature = "memory")]
pub use async_cache_memory::MemoryBackend;
#[cfg(feature = "redis")]
pub use async_cache_redis::RedisBackend;
