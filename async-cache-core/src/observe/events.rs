//! The sender of events, and the stream of a listener.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::stream::{BoxStream, StreamExt, unfold};
use tokio::sync::broadcast::{Sender, channel, error::RecvError};

use crate::observe::event::Event;
use crate::observe::log::{Log, wanted};

/// The number of events that are kept for a slow listener. Beyond it the oldest are dropped.
const CAPACITY: usize = 1024;

/// Sends events to listeners. Without a listener, sending costs one relaxed load.
#[derive(Debug)]
pub(crate) struct Events {
    log: Arc<Log>,
    listeners: Arc<AtomicUsize>,
    sender: OnceLock<Sender<Event>>,
}

impl Events {
    pub(crate) fn of(log: &Arc<Log>) -> Self {
        Self { log: Arc::clone(log), listeners: Arc::default(), sender: OnceLock::new() }
    }

    /// Sends an event. The event is made only if there is a listener.
    #[inline]
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if self.listeners.load(Ordering::Relaxed) > 0 || wanted() {
            self.send(event());
        }
    }

    #[cold]
    fn send(&self, event: Event) {
        self.log.event(&event);
        if let Some(sender) = self.sender.get() {
            // Sending fails if there is no listener any more.
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

/// Counts a listener while it lives.
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

/// A stream of the [`Event`]s since it was made by
/// [`TieredCache::subscribe`](crate::api::cache::TieredCache::subscribe).
///
/// It keeps up to 1,024 events for a slow listener. Beyond that the oldest are dropped, and [`Event::Dropped`]
/// takes their place. The stream ends when the cache has been dropped.
///
/// ```
/// # use async_cache_core::{Result, TieredCache}; use async_cache_memory::MemoryBackend;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
/// use futures_util::StreamExt;
/// let mut events = users.subscribe();
/// let _ = users.get_or_load(&42, || async { Err::<String, _>(std::io::Error::other("no database")) }).await;
/// println!("{:?}", events.next().await); // a load has failed: of which key, and how
/// # Ok(()) }
/// ```
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
        let events = Events::of(&Arc::new(Log::of(&"rows".into(), &"")));
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
        let events = Events::of(&Arc::new(Log::of(&"rows".into(), &"")));
        events.tell(|| unreachable!("nobody listens"));
        drop(events.subscribe());
        events.tell(|| unreachable!("nobody listens any more"));
    }
}
