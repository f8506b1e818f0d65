//! What the tests of the outbox on real databases share.

pub mod crash;
pub mod database;
pub mod log;
pub mod maria;
pub mod postgres;
pub mod scene;
mod server;

pub use database::{Site, TestDatabase};
pub use scene::Scene;
