//! What keeps the nodes of a fleet from serving what another has invalidated.

mod background;
mod beat;
mod door;
mod fence;
mod intent;
mod invalidate;
mod listen;
mod mutant;
mod node;
mod postponed;
mod serving;
mod stamp;
mod sweep;
mod tags;
mod wake;

pub(crate) use background::Background;
#[cfg(all(test, shuttle))]
pub(crate) use beat::resync_all;
pub(crate) use beat::run as run_background;
pub(crate) use door::Door;
pub(crate) use fence::{Admitted, Enter, Fence, Ticket};
#[cfg(feature = "testing")]
pub use mutant::Mutant;
#[cfg(not(feature = "testing"))]
pub(crate) use mutant::Mutant;
pub(crate) use mutant::Switch;
pub(crate) use node::Node;
pub(crate) use serving::{News, Partition, Server};
pub use stamp::Stamp;
pub(crate) use stamp::foreign as foreign_stamp;
pub(crate) use tags::TagTable;
pub(crate) use wake::{Wake, WakeSlot};
