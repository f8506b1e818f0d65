//! One read of L2 for a lookup.

use std::future::{Ready, ready};

use futures_util::future::Either;

use crate::backend::Accept;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::ticket::Ticket;
use crate::options::Options;
use crate::remote::read::Fetched;

/// Reads a key from L2, unless there is none, or it may hold what was invalidated here.
///
/// Not an `async fn`: that would be one more future, and what it gives is large to move.
pub(crate) fn fetch<'a, V: Send + Sync + 'static>(
    inner: &'a Inner<V>,
    key: &'a Key,
    min_stamp: Option<&'a Stamp>,
    ticket: Ticket,
    options: &'a Options,
) -> Either<impl Future<Output = Fetched<V>> + Send + 'a, Ready<Fetched<V>>> {
    match &inner.remote {
        Some(l2) => Either::Left(l2.fetch(key, min_stamp, ticket, options)),
        None => Either::Right(ready(Fetched::Absent(Accept::Any))),
    }
}
