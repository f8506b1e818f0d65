//! How the messages of a server travel.

use super::server::Deployment;
#[cfg(feature = "cluster")]
use super::server::major_version;

/// How the messages of a server travel. Every connection finds out by itself, so the connections that publish and the
/// one that subscribes agree: they lead to the same process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channels {
    /// To all subscribers of a server that is alone, or has replicas.
    Plain,
    /// To the subscribers of a slot of a cluster. The server ends a subscription when the slot leaves it.
    #[cfg_attr(not(feature = "cluster"), expect(dead_code, reason = "of a cluster only"))]
    BySlot,
    /// To all subscribers of all nodes of a cluster whose nodes are older than Redis 7.0.
    ///
    /// A node subscribes to a partition at the master of its slot alone. There the messages of that master's changes and
    /// the echoes of heartbeats are in order, as at a server that is alone. Messages of another master may arrive there,
    /// too, late and without order. They do no harm:
    ///   1. slot 5 moves from master A to master B, which begins an epoch: its numbers are beyond those of A
    ///   2. A does not end the subscription. Messages of B arrive through A. Their numbers leave a gap, so the partition
    ///      is suspended
    ///   3. A refuses the heartbeats and the baseline, so nothing that it has told counts any longer than the serving lease.
    ///      The node finds B in the map, and begins there with a baseline
    ///   4. the slot returns to A, which begins an epoch. A late message of B has a number below that, and a late echo
    ///      of B never equals the number up to which the node has applied the changes of A
    #[cfg_attr(not(feature = "cluster"), expect(dead_code, reason = "of a cluster only"))]
    Everywhere,
}

impl Channels {
    /// Those of a server, by its answer to `INFO server`.
    #[cfg(feature = "cluster")]
    pub(crate) fn of(deployment: Deployment, server: &str) -> Self {
        match deployment {
            Deployment::Single => Self::Plain,
            // Valkey tells the version of Redis that it began with.
            Deployment::Cluster | Deployment::ClusterNode
                if major_version(server).is_some_and(|major| major < 7) =>
            {
                Self::Everywhere
            }
            Deployment::Cluster | Deployment::ClusterNode => Self::BySlot,
        }
    }

    #[cfg(not(feature = "cluster"))]
    pub(crate) fn of(deployment: Deployment, _: &str) -> Self {
        match deployment {
            Deployment::Single => Self::Plain,
        }
    }

    /// The commands that publish, subscribe and unsubscribe.
    pub(crate) fn commands(self) -> [&'static str; 3] {
        match self {
            Self::BySlot => ["SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE"],
            Self::Plain | Self::Everywhere => ["PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE"],
        }
    }
}
