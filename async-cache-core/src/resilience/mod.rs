//! What happens while the source or the shared tier is away.

mod outage;
mod pauses;
mod recovery;
mod stale;

pub(crate) use outage::{Recourse, recourse};
pub(crate) use pauses::Pauses;
pub(crate) use recovery::{Pending, flush, is_retried, run as run_recovery};
pub(crate) use stale::{Aged, Fallback, Seek, StandIn, Standing, aged, excuses};
