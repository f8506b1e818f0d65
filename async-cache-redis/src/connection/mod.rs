//! Connections for commands: how they are made, proved, kept up and replaced.

pub(crate) mod attempts;
pub(crate) mod cause;
pub(crate) mod channels;
pub(crate) mod connect;
pub(crate) mod credentials;
pub(crate) mod failure;
mod greeting;
pub(crate) mod handshake;
pub(crate) mod host;
pub(crate) mod link;
pub(crate) mod listed;
pub(crate) mod opener;
mod probe;
pub(crate) mod read_queue;
pub(crate) mod refusals;
pub(crate) mod repeat;
pub(crate) mod replicas;
pub(crate) mod rights;
#[cfg(feature = "sentinel")]
pub(crate) mod sentinel;
pub(crate) mod server;
pub(crate) mod settings;
pub(crate) mod slots;
pub(crate) mod supervisor;
#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod tokens;
