//! Reads of one key each that meet on a connection: they share a command.
//!
//! What a `GET` costs is its own way through channels, wake-ups and sockets; a key of an `MGET` costs
//! its bytes. So a read that finds others under way lets the tasks run that can run now, and goes with
//! theirs. It waits for no answer: however far the server is, batches do not wait for one another.
//!
//! To a caller it is a `GET` of its own: sent after it was asked for, on the connection that was picked
//! for it, within its own deadline. Where a batch has no answer for it, it is read alone.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, Value};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::commands::region::{bytes, stored};
use crate::connection::link::Link;
use crate::connection::slots::out_of_time;
use crate::keys::ValueName;

/// Reads under way that still go alone.
const FEW: usize = 2;
/// Most keys of a batch.
const KEYS: usize = 128;
/// Bytes of values expected of a batch at most: the first value waits for the last.
const BYTES: usize = 256 << 10;
/// A batch of fewer keys is not worth the detour.
const WORTH: usize = 4;
/// The size of values before any is known.
const UNKNOWN: usize = 16 << 10;
/// Batches under way with which a connection has enough to do.
const CROWD: usize = 4;
/// Most batches under way.
const BATCHES: usize = 64;

type Answer = RedisResult<Option<Bytes>>;

/// The reads of one connection.
pub(crate) struct Gather {
    /// Reads under way.
    reads: AtomicUsize,
    /// Batches under way.
    batches: AtomicUsize,
    /// Bytes to expect of a value.
    size: AtomicUsize,
    gathered: Mutex<Batch>,
}

/// Names, and whom to tell of their values. Dropped, it sends them alone.
#[derive(Default)]
struct Batch {
    mget: Option<Cmd>,
    tell: Vec<oneshot::Sender<Answer>>,
}

/// What is to be done for a batch that was added to.
enum Due {
    /// It is full.
    Now(Batch),
    /// It has just begun.
    Soon,
    /// Somebody will see to it.
    Seen,
}

impl Gather {
    pub(crate) fn new() -> Self {
        Self {
            reads: AtomicUsize::new(0),
            batches: AtomicUsize::new(0),
            size: AtomicUsize::new(UNKNOWN),
            gathered: Mutex::default(),
        }
    }

    /// Whether another connection is of use: for more batches, or because values are so large that
    /// none are made.
    pub(crate) fn is_crowded(&self) -> bool {
        self.batches.load(Ordering::Relaxed) >= CROWD || self.room() < WORTH
    }

    /// Keys of a batch.
    fn room(&self) -> usize {
        (BYTES / self.size.load(Ordering::Relaxed).max(1)).min(KEYS)
    }

    fn add(&self, name: &ValueName<'_>, room: usize) -> (oneshot::Receiver<Answer>, Due) {
        let (tell, told) = oneshot::channel();
        let mut batch = self.gathered.lock();
        batch.mget.get_or_insert_with(|| redis::cmd("MGET")).arg(name);
        batch.tell.push(tell);
        let due = match batch.tell.len() {
            full if full >= room => Due::Now(std::mem::take(&mut *batch)),
            1 => Due::Soon,
            _ => Due::Seen,
        };
        (told, due)
    }

    fn take(&self) -> Batch {
        std::mem::take(&mut *self.gathered.lock())
    }

    /// Follows larger values at once and smaller ones slowly: too small a batch costs little.
    fn note(&self, size: usize) {
        let known = self.size.load(Ordering::Relaxed);
        let next = if size >= known { size } else { known - (known - size).div_ceil(8) };
        if next != known {
            self.size.store(next, Ordering::Relaxed);
        }
    }
}

impl Link {
    /// Reads a value: with others, if there are any.
    pub(crate) async fn get(self: &Arc<Self>, name: &ValueName<'_>, limit: Duration) -> Answer {
        let gather = &self.gather;
        let others = gather.reads.fetch_add(1, Ordering::Relaxed);
        let _under_way = UnderWay(&gather.reads);
        let room = gather.room();
        if others >= FEW && room >= WORTH && gather.batches.load(Ordering::Relaxed) < BATCHES {
            let (told, due) = gather.add(name, room);
            // Where the connection lives: what it is asked there goes nowhere without that anyway.
            match due {
                Due::Now(batch) => drop(self.runtime.spawn(batch.read(Trip::of(self), limit))),
                Due::Soon => drop(self.runtime.spawn(Soon(Some(Arc::clone(self))).read(limit))),
                Due::Seen => {}
            }
            if let Ok(answer) = told.await {
                return answer;
            }
        }
        let value = stored(self.query(redis::cmd("GET").arg(name)).await)?;
        if let Some(value) = &value {
            gather.note(value.len());
        }
        Ok(value)
    }
}

/// A read under way.
struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A batch under way.
struct Trip(Arc<Link>);

impl Trip {
    fn of(link: &Arc<Link>) -> Self {
        link.gather.batches.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(link))
    }
}

impl Drop for Trip {
    fn drop(&mut self) {
        self.0.gather.batches.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A batch that sets out when the tasks have run that can. If that never comes, because the runtime ends,
/// who waits for it is told.
struct Soon(Option<Arc<Link>>);

impl Soon {
    async fn read(mut self, limit: Duration) {
        end_of_the_queue().await;
        if let Some(link) = self.0.take() {
            link.gather.take().read(Trip::of(&link), limit).await;
        }
    }
}

impl Drop for Soon {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            drop(link.gather.take());
        }
    }
}

/// Not Tokio's `yield_now`, which comes back when this very thread has nothing left to do: from the queue
/// another one takes it.
async fn end_of_the_queue() {
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

impl Batch {
    async fn read(self, trip: Trip, limit: Duration) {
        let Some(mget) = self.mget else { return };
        let link = &trip.0;
        let read = timeout(limit, link.query::<Value>(&mget)).await;
        match read.unwrap_or_else(|_| Err(out_of_time())) {
            Ok(Value::Array(values)) if values.len() == self.tell.len() => {
                if let Some(size) = mean_size(&values) {
                    link.gather.note(size);
                }
                for (tell, value) in self.tell.into_iter().zip(values) {
                    // Its caller may be gone.
                    let _ = tell.send(Ok(bytes(value)));
                }
            }
            Err(error) if !is_an_answer(&error) => {
                for tell in self.tell {
                    let _ = tell.send(Err(error.clone()));
                }
            }
            // What the server has against one name, or the command, is no answer to the others.
            _ => {}
        }
    }
}

/// Whether an error is the server's.
fn is_an_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// Of those that are there.
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
