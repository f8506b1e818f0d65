//! What happens while the shared tier is away.

mod outage;
mod recovery;

pub(crate) use outage::{Recourse, recourse};
pub(crate) use recovery::{Pending, run as run_recovery};
