//! The Redis tier of async-cache: values, leases and the invalidation bus.
//!
//! ```no_run
//! # async fn example() -> async_cache_core::Result<()> {
//! use async_cache_redis::RedisBackend;
//!
//! let redis = RedisBackend::connect("redis://127.0.0.1:6379").await?;
//! # Ok(())
//! # }
//! ```
//!
//! The modules in the order in which an operation passes them. Each uses only modules below it:
//!
//! | module | content |
//! |---|---|
//! | `config`, `builder`, `parts`, `backend` | settings; the parts that they ask for; a backend opens one region a namespace |
//! | `tools/` | for programs that inspect a namespace or a server (feature `tools`) |
//! | `topology/` | of a cluster: which server has which partition; sends each operation to its servers, and joins the answers |
//! | `commands/` | turns an operation into a command, a script or a pipeline; reads of single keys that are under way at the same time share a command (`coalesce`) |
//! | `inner`, `background` | the state that the regions of a backend share; the tasks that keep it connected |
//! | `pubsub/` | messages: from the socket to a region's listener |
//! | `connection/` | a connection is opened (`opener`, `tls`, `credentials`; `listed` and `sentinel/` find the master, `replicas` its replicas), made (`connect`), proved (`handshake`, `server`, `rights`), used (`slots`, `link`; `repeat` sends calls of forgotten scripts again) and restored (`supervisor`) |
//! | `lua/` | the scripts, which Redis executes atomically |
//! | `keys`, `limits`, `reply`, `runtime` | names; deadlines, sizes and pauses; the meaning of answers; whether Tokio can keep connections |
//!
//! # What it needs
//!
//! Redis 6.0 or later, standalone or the master of replicas, which Sentinels may name (feature `sentinel`); or a Redis
//! Cluster (feature `cluster`). The user must be allowed `GET`,
//! `MGET`, `EVALSHA`, `SCRIPT LOAD`, `INFO`, `PING`, `PUBLISH`, `SUBSCRIBE`, the commands that the scripts call, and
//! the channels and keys of its namespaces, all of which start with `{<namespace>:`.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod backend;
mod background;
#[cfg(feature = "cluster")]
mod beat_queue;
mod builder;
mod commands;
mod config;
mod connection;
#[cfg(feature = "testing")]
mod faults;
mod inner;
mod keys;
mod limits;
mod lua;
mod parts;
mod pubsub;
mod reply;
mod runtime;
#[cfg(feature = "tools")]
pub mod tools;
#[cfg(feature = "cluster")]
mod topology;

pub use backend::RedisBackend;
pub use builder::RedisBackendBuilder;
pub use config::{RedisConfig, SentinelConfig, TlsConfig};
pub use connection::credentials::Credentials;
pub use connection::replicas::SubscribeOn;
pub use connection::server::IdentifyBy;
#[cfg(feature = "tls")]
pub use connection::tls::Tls;

/// The crates whose types the escape hatches take, in the versions that this crate uses (feature `raw`):
/// [`RedisBackend::from_pool`], [`RedisBackendBuilder::pool`] and [`RedisBackendBuilder::connection_info`].
///
/// A new major version of one of them is no breaking change of this crate.
#[cfg(feature = "raw")]
pub mod raw {
    pub use deadpool_redis;
    pub use redis;
}

/// Faults for tests (feature `testing`).
#[cfg(feature = "testing")]
pub mod testing {
    pub use crate::faults::Mutant;
}
