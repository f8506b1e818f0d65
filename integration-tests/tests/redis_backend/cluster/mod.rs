//! The tier on a Redis Cluster.

mod away;
mod beats;
mod conform;
mod connect;
mod gather;
mod rights;
mod seats;
mod visits;
