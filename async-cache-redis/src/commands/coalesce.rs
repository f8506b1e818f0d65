//! Reads of single keys that are under way on the same connection at the same time share a command; in a cluster, where
//! the keys of a command are of one slot, a pipeline of such commands.
//!
//! A `GET` costs its own way through channels, wake-ups and sockets. A key of an `MGET` costs its bytes alone. So a
//! read that finds others under way joins a batch, and the batch is sent after all tasks that are ready now have run.
//! It does not wait for answers to earlier batches. So a distant server does not delay it.
//!
//! To its caller each read is a `GET` of its own: sent after it was asked for, on the connection that was
//! picked for it, within its own deadline. A read that its batch has no answer for is sent alone.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::time::timeout;

use crate::connection::link::Link;
use crate::connection::read_queue::{Answer, Batch, Callers, Due};
use crate::keys::ValueName;
use crate::reply::{bytes, out_of_time, stored};

/// Reads a value with a command of its own.
async fn read_alone(link: &Link, name: &ValueName<'_>) -> Answer {
    stored(link.query(redis::cmd("GET").arg(name)).await)
}

/// Reads a value: in a batch, if other reads are under way. In a cluster its name has a slot.
pub(super) async fn read(
    link: &Arc<Link>,
    name: &ValueName<'_>,
    slot: Option<u16>,
    limit: Duration,
) -> Answer {
    let reads = &link.reads;
    let under_way = reads.begin();
    if let Some((answer, due)) = reads.join(name, slot, &under_way) {
        // The task runs on the runtime of the connection, because the connection answers only while that runtime
        // exists.
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

/// A batch that is sent after all tasks that are ready now have run. If the runtime ends before, it is dropped, and
/// each of its callers reads its value alone.
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

/// Puts the task at the end of the run queue, from which another thread can take it. Tokio's `yield_now` would resume
/// it only when this thread has nothing left to do.
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
    let (link, Batch { mgets, callers, .. }) = (&trip.0, batch);
    let answers = timeout(limit, ask(link, mgets)).await;
    let answers = match answers.unwrap_or_else(|_| Err(out_of_time())) {
        Ok(answers) => answers,
        Err(error) => callers.iter().map(|_| Err(error.clone())).collect(),
    };
    if let Some(size) = mean_size(&answers) {
        link.reads.note_size(size);
    }
    callers.into_iter().zip(answers).for_each(|(callers, answer)| tell(callers, answer));
}

/// An answer for each command, or the failure of all.
async fn ask(link: &Link, mgets: Vec<Cmd>) -> RedisResult<Vec<RedisResult<Value>>> {
    if let [mget] = &mgets[..] {
        return Ok(vec![link.query(mget).await]);
    }
    let mut pipeline = Pipeline::with_capacity(mgets.len());
    for mget in mgets {
        pipeline.add_command(mget);
    }
    pipeline.ignore_errors();
    link.pipeline(&pipeline).await
}

/// Gives the callers of one command their values. A caller that gets nothing reads its value alone.
fn tell(callers: Callers, answer: RedisResult<Value>) {
    match answer {
        Ok(Value::Array(values)) if values.len() == callers.len() => {
            for (caller, value) in callers.into_iter().zip(values) {
                // The caller may be gone.
                let _ = caller.send(Ok(bytes(value)));
            }
        }
        Err(error) if is_everyones(&error) => {
            for caller in callers {
                let _ = caller.send(Err(error.clone()));
            }
        }
        // The server may refuse the command, or one name in it. So the error is no answer for the other names.
        _ => {}
    }
}

/// Whether this error is the answer for every caller of the command: the connection failed, or the slot has another
/// server. While a slot moves, the old server still has some of its values. So that error is no answer for a single
/// value.
fn is_everyones(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => kind == ServerErrorKind::Moved,
        ErrorKind::Extension => false,
        _ => true,
    }
}

/// The mean size of the values that exist.
fn mean_size(answers: &[RedisResult<Value>]) -> Option<usize> {
    let (mut found, mut bytes) = (0, 0);
    for answer in answers {
        let Ok(Value::Array(values)) = answer else { continue };
        for value in values {
            if let Value::BulkString(value) = value {
                found += 1;
                bytes += value.len();
            }
        }
    }
    bytes.checked_div(found)
}
