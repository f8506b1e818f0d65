//! Whether L1 may answer: what this node knows of the changes of other nodes.

pub(crate) mod background;
pub(crate) mod clock;
pub(crate) mod heartbeat;
pub(crate) mod ledger;
pub(crate) mod lifecycle;
pub(crate) mod news;
pub(crate) mod node;
pub(crate) mod partition;
pub(crate) mod pauses;
pub(crate) mod questions;
pub(crate) mod refusals;
pub(crate) mod stamp;
pub(crate) mod state;
pub(crate) mod unreturned;
pub(crate) mod unsent;
