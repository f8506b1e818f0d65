//! A Redis Cluster: which server has which partition, and how operations get there.
//!
//! Each master that has slots is one server, with its own connections and its own subscriber, like the server of a
//! backend without a cluster. All names of a partition have one slot, so each partition is on one server. The client's
//! own connection to clusters is not used: it subscribes again without telling, and a node must learn of every gap.
//!
//! When a slot moves, its partition counts as lost and is subscribed to at the new server, as after a reconnect. The
//! other partitions go on. No change is missed unnoticed: the old server ends the subscription when the slot leaves it,
//! and answers no heartbeat for the slot. So the serving lease of the partition runs out at the latest, and a new one
//! begins with a baseline of the new server.

pub(crate) mod cluster;
mod learn;
pub(crate) mod map;
pub(crate) mod region;
mod seats;
mod spread;
