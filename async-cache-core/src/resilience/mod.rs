//! What happens while the source or the shared tier is away.

mod outage;
mod recovery;
mod stale;

pub(crate) use outage::{Recourse, recourse};
pub(crate) use recovery::{Pending, run as run_recovery};
pub(crate) use stale::{Aged, Fallback, Seek, StandIn, Standing, aged, excuses};
