//! The settings of a cluster, for connections to other nodes of it.

use crate::connection::settings::Server;
use crate::parts::Settings;

/// The settings of a cluster, and its first node.
pub(super) struct Seed {
    pub(super) settings: Settings,
    pub(super) server: Server,
}
