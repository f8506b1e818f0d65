//! The tier on a Redis Cluster.

mod away;
mod conform;
mod connect;
mod rights;
