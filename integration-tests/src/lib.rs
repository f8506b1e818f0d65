//! The parts that the tests against a real `redis-server` share.

pub mod cluster;
pub mod delay;
pub mod fleet;
pub mod listen;
pub mod observed;
pub mod older;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod sentinels;
pub mod server;
pub mod simulation;
pub mod stub;
pub mod surface;
pub mod switch;
pub mod traffic;

pub use listen::{Recorder, eventually, eventually_is};
pub use proxy::{Conditions, Flow, Proxy, Route};
pub use sentinels::Sentinels;
pub use server::{Data, RedisServer};
