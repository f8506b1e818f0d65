//! What the tests against a real `redis-server` share.

pub mod listen;
pub mod proxy;
pub mod server;

pub use listen::{Recorder, eventually};
pub use proxy::Proxy;
pub use server::{Data, RedisServer};
