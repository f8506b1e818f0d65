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

/// Reads a key from L2. It does not read if there is no L2, or if an invalidation of the key is pending.
///
/// This is not an `async fn`. That would be one more future, and its result is large to move.
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
