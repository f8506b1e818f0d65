//! What happens in a cache, told to those who listen.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::stream::{BoxStream, StreamExt, unfold};
use tokio::sync::broadcast::{Sender, channel, error::RecvError};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::ErrorKind;
use crate::observe::trace;

/// Events kept for a listener that does not keep up; what is beyond is dropped, oldest first.
const CAPACITY: usize = 1024;

/// Something that an operator of the cache may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A lookup was answered with a value that has expired, or that could not be verified.
    StaleServed {
        /// Which key.
        key: KeyHash,
        /// Why.
        cause: StaleCause,
    },
    /// A loader gave an error, panicked or timed out.
    LoadFailed {
        /// Which key.
        key: KeyHash,
        /// How.
        kind: ErrorKind,
    },
    /// A loaded or read value was not stored: an invalidation had met it, its lease was lost, others held the lease
    /// for too long, or L2 could not be asked.
    FillRejected {
        /// Which key.
        key: KeyHash,
    },
    /// A value was answered, but cannot be stored in L2: its codec cannot write it or read it back, or it is too
    /// large. With feature `tracing` a warning says why; an insert gives it as an error.
    NotEncoded {
        /// Which key.
        key: KeyHash,
    },
    /// A key of many is longer than [`MAX_KEY_BYTES`](crate::format::key::MAX_KEY_BYTES): it was loaded, and is not cached.
    KeyTooLong,
    /// What L2 holds cannot be read. It is a miss, and will be overwritten.
    Unreadable {
        /// Which key.
        key: KeyHash,
        /// Why.
        cause: UnreadableCause,
    },
    /// A loader chose a lifetime or a tag that cannot be. Its value was answered.
    ChoiceAmended {
        /// Which key.
        key: KeyHash,
        /// What was done instead.
        to: Amended,
    },
    /// L1 no longer answers.
    L1Suspended {
        /// Why.
        cause: SuspendCause,
    },
    /// L1 answers: for the first time since the cache was built, or again.
    L1Resumed {
        /// What became of what it held.
        held: Resumed,
    },
    /// L2 can no longer be reached, or not in time.
    L2Lost,
    /// L2 can be reached again.
    L2Regained,
    /// L2 does not permit this node something that it needs, so its L1 does not answer:
    /// [`ready`](crate::api::cache::TieredCache::ready) and the log say what. It is asked again, ever less often.
    L2Refused,
    /// Invalidations could not be sent and are being retried.
    InvalidationPending {
        /// How many are.
        pending: usize,
    },
    /// Retried invalidations have landed.
    InvalidationLanded {
        /// How many are still being retried.
        pending: usize,
    },
    /// This listener did not keep up, and has missed events.
    Dropped {
        /// How many.
        events: u64,
    },
}

/// How failed loads are logged (feature `tracing`); [`Event::LoadFailed`] is told in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum LoadFailureLog {
    /// As warnings, with the error and all its causes: what the loader's error says is logged. One for each call
    /// of a loader.
    #[default]
    Warn,
    /// For debugging alone, and without what the errors say: for loaders that log their errors themselves, or
    /// whose errors must not be seen.
    Off,
}

/// Why a value was served that has expired or could not be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StaleCause {
    /// `stale_while_revalidate`: it is being refreshed behind the answer.
    Revalidating,
    /// Loading failed, with an error of this kind.
    LoadFailed(ErrorKind),
    /// Loading takes longer than `soft_timeout`.
    SlowLoad,
    /// Loading failed less than `error_backoff` ago, or another node's refresh is awaited.
    Backoff,
    /// L2 cannot be reached, and the policy is [`Outage::ServeL1`](crate::options::Outage::ServeL1).
    Outage,
}

/// Why a stored value cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnreadableCause {
    /// It is not ours, cut short, or damaged.
    Corrupt,
    /// It was stored by another codec, another version of the value's type, or another version of this crate.
    OtherFormat,
    /// Its codec refuses the bytes.
    Codec,
}

/// What was done about a loader's choice that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Amended {
    /// The value is cached, with the nearest option that can be.
    Clamped,
    /// The value is not cached: without a lifetime, or without a tag that it should have had.
    Uncached,
}

/// Why L1 stopped answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SuspendCause {
    /// The connection that invalidations arrive on was lost.
    BusLost,
    /// Invalidations were missed.
    Missed,
    /// The server was replaced, or lost its memory.
    ServerChanged,
    /// Nothing was heard for `max_staleness`.
    Silence,
}

/// What became of what L1 held when it came to answer again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resumed {
    /// Nothing had been missed: it answers.
    Kept,
    /// Something may have been missed: each entry is verified on its next use. At the start of a process there may be none.
    InDoubt,
}

/// A key, to be told from others in events and not to be read from them: a 64-bit digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(u64);

impl KeyHash {
    pub(crate) fn of(key: &[u8]) -> Self {
        Self(xxh3_64(key))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where events are told. With no listener, telling one costs a relaxed load.
#[derive(Debug)]
pub(crate) struct Events {
    namespace: Arc<str>,
    listeners: Arc<AtomicUsize>,
    sender: OnceLock<Sender<Event>>,
}

impl Events {
    pub(crate) fn of(namespace: &Arc<str>) -> Self {
        Self { namespace: Arc::clone(namespace), listeners: Arc::default(), sender: OnceLock::new() }
    }

    /// Tells an event, which is made only if somebody listens.
    #[inline]
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if self.listeners.load(Ordering::Relaxed) > 0 || trace::wanted() {
            self.send(event());
        }
    }

    #[cold]
    fn send(&self, event: Event) {
        trace::event(&self.namespace, &event);
        if let Some(sender) = self.sender.get() {
            // No listener any more: nobody to tell.
            let _ = sender.send(event);
        }
    }

    pub(crate) fn subscribe(&self) -> EventStream {
        let receiver = self.sender.get_or_init(|| channel(CAPACITY).0).subscribe();
        let listening = Listening::new(&self.listeners);
        let stream = unfold(receiver, |mut receiver| async {
            let event = match receiver.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(events)) => Event::Dropped { events },
                Err(RecvError::Closed) => return None,
            };
            Some((event, receiver))
        });
        EventStream { events: stream.boxed(), _listening: listening }
    }
}

/// Counts a listener for as long as it lives.
#[derive(Debug)]
struct Listening(Arc<AtomicUsize>);

impl Listening {
    fn new(listeners: &Arc<AtomicUsize>) -> Self {
        listeners.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(listeners))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream of [`Event`]s from the moment of its making: [`TieredCache::subscribe`](crate::api::cache::TieredCache::subscribe).
///
/// It holds up to 1,024 events for a listener that does not keep up; older ones are dropped, and
/// [`Event::Dropped`] stands in their place. It ends when the cache has been dropped.
#[must_use = "a stream does nothing until it is polled"]
pub struct EventStream {
    events: BoxStream<'static, Event>,
    _listening: Listening,
}

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.get_mut().events.poll_next_unpin(cx)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_that_sleeps_is_told_how_much_it_missed() {
        let events = Events::of(&"rows".into());
        let mut stream = events.subscribe();
        for pending in 0..CAPACITY + 10 {
            events.tell(|| Event::InvalidationPending { pending });
        }
        assert_eq!(stream.next().await, Some(Event::Dropped { events: 10 }));
        assert_eq!(stream.next().await, Some(Event::InvalidationPending { pending: 10 }));
        drop(events);
        assert_eq!(stream.count().await, CAPACITY - 1);
    }

    #[tokio::test]
    async fn nothing_is_made_for_nobody() {
        let events = Events::of(&"rows".into());
        events.tell(|| unreachable!("nobody listens"));
        drop(events.subscribe());
        events.tell(|| unreachable!("nobody listens any more"));
    }
}
