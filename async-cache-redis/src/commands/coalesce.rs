//! Reads of single keys that are under way on the same connection at the same time share a command.
//!
//! A `GET` costs its own way through channels, wake-ups and sockets. A key of an `MGET` costs its bytes
//! alone. So a read that finds others under way joins a batch, and the batch is sent when the tasks have
//! run that can run now. It waits for no answer: however far the server is, batches do not wait for
//! one another.
//!
//! To its caller each read is a `GET` of its own: sent after it was asked for, on the connection that was
//! picked for it, within its own deadline. A read that its batch has no answer for is sent alone.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use redis::{ErrorKind, RedisError, Value};
use tokio::time::timeout;

use crate::connection::link::Link;
use crate::connection::read_queue::{Answer, Batch, Due};
use crate::keys::ValueName;
use crate::reply::{bytes, out_of_time, stored};

/// Reads a value with a command of its own.
pub(super) async fn read_alone(link: &Link, name: &ValueName<'_>) -> Answer {
    stored(link.query(redis::cmd("GET").arg(name)).await)
}

/// Reads a value: in a batch, if other reads are under way.
pub(super) async fn read(link: &Arc<Link>, name: &ValueName<'_>, limit: Duration) -> Answer {
    let reads = &link.reads;
    let under_way = reads.begin();
    if let Some((answer, due)) = reads.join(name, &under_way) {
        // On the runtime of the connection: without that runtime the connection answers nothing anyway.
        match due {
            Due::Now(batch) => drop(link.runtime.spawn(send(batch, Trip::begin(link), limit))),
            Due::Soon => drop(link.runtime.spawn(Gathering(Some(Arc::clone(link))).send(limit))),
            Due::Nothing => {}
        }
        if let Ok(answer) = answer.await {
            return answer;
        }
    }
    let value = read_alone(link, name).await?;
    if let Some(value) = &value {
        reads.note_size(value.len());
    }
    Ok(value)
}

/// A batch under way.
struct Trip(Arc<Link>);

impl Trip {
    fn begin(link: &Arc<Link>) -> Self {
        link.reads.batch_begins();
        Self(Arc::clone(link))
    }
}

impl Drop for Trip {
    fn drop(&mut self) {
        self.0.reads.batch_ends();
    }
}

/// A batch that is sent when the tasks have run that can run now. If the runtime ends before, it is
/// dropped, and each of its callers reads its value alone.
struct Gathering(Option<Arc<Link>>);

impl Gathering {
    async fn send(mut self, limit: Duration) {
        end_of_the_queue().await;
        if let Some(link) = self.0.take() {
            send(link.reads.take(), Trip::begin(&link), limit).await;
        }
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            drop(link.reads.take());
        }
    }
}

/// Goes to the end of the run queue, where another thread can take the task from. Tokio's `yield_now`
/// would resume it only when this very thread has nothing left to do.
pub(super) async fn end_of_the_queue() {
    let mut there = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut there, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Sends a batch, and tells its callers their values.
async fn send(batch: Batch, trip: Trip, limit: Duration) {
    let Some(mget) = batch.mget else { return };
    let link = &trip.0;
    let answer = timeout(limit, link.query::<Value>(&mget)).await;
    match answer.unwrap_or_else(|_| Err(out_of_time())) {
        Ok(Value::Array(values)) if values.len() == batch.callers.len() => {
            if let Some(size) = mean_size(&values) {
                link.reads.note_size(size);
            }
            for (caller, value) in batch.callers.into_iter().zip(values) {
                // The caller may be gone.
                let _ = caller.send(Ok(bytes(value)));
            }
        }
        Err(error) if !is_an_answer(&error) => {
            for caller in batch.callers {
                let _ = caller.send(Err(error.clone()));
            }
        }
        // The server may refuse one name, or the command. That is no answer for the other names.
        _ => {}
    }
}

/// Whether an error is the server's.
fn is_an_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// The mean size of the values that exist.
fn mean_size(values: &[Value]) -> Option<usize> {
    let mut found = 0;
    let sizes = values.iter().map(|value| match value {
        Value::BulkString(bytes) => {
            found += 1;
            bytes.len()
        }
        _ => 0,
    });
    let bytes: usize = sizes.sum();
    bytes.checked_div(found)
}
