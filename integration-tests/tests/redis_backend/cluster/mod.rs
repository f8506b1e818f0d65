//! The tier on a Redis Cluster.

mod conform;
mod connect;
mod rights;
