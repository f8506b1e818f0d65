//! Several nodes on one shared tier: each must see the changes of the others.

mod away;
mod batches;
mod cancelled;
#[path = "../redis_backend/certificates.rs"]
#[expect(dead_code, reason = "the tests of one server use the rest")]
mod certificates;
mod cluster;
mod connections;
mod expired;
mod foreign;
mod full;
mod groups;
mod in_flight;
mod leases;
mod odds;
mod outages;
mod reading;
mod replaced;
mod replicas;
mod revoked;
mod rights;
mod rotation;
mod runtimes;
mod sentinel;
mod shutdown;
mod sizes;
mod stale;
mod tags;
mod unfilled;
mod unreadable;
mod values;
