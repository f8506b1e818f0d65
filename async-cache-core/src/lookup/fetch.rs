//! One read of L2 for a lookup.

use crate::backend::Accept;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::ticket::Ticket;
use crate::options::Options;
use crate::remote::read::Fetched;

/// Reads a key from L2, unless there is none, or it may hold what was invalidated here.
pub(crate) async fn fetch<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &Key,
    min_stamp: Option<&Stamp>,
    ticket: Ticket,
    options: &Options,
) -> Fetched<V> {
    match &inner.remote {
        Some(l2) => l2.fetch(key, min_stamp, ticket, options).await,
        None => Fetched::Absent(Accept::Any),
    }
}
