//! Functions that wait for events and conditions.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_cache_core::backend::{BusEvent, Listener};
use parking_lot::Mutex;

/// The maximum time until a condition is true. After it the test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `probe` returns a value.
///
/// # Panics
///
/// If it returns none within [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until a lookup, or another operation, has the wanted outcome.
///
/// # Panics
///
/// If it has another one for [`PATIENCE`].
pub async fn eventually_is(what: &str, mut outcome: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !outcome().await {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A listener that records every event.
#[derive(Debug, Default)]
pub struct Recorder {
    events: Mutex<Vec<BusEvent>>,
}

impl Recorder {
    /// Makes a listener without events.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The events so far.
    #[must_use]
    pub fn events(&self) -> Vec<BusEvent> {
        self.events.lock().clone()
    }

    /// Removes the events so far.
    pub fn forget(&self) {
        self.events.lock().clear();
    }

    /// Waits for an event for which `want` returns a value. Earlier events count, too.
    ///
    /// # Panics
    ///
    /// If there is none within [`PATIENCE`].
    pub async fn wait<T: Debug>(&self, what: &str, want: impl Fn(&BusEvent) -> Option<T>) -> T {
        eventually(what, || self.events.lock().iter().find_map(&want)).await
    }

    /// Waits until the event has arrived.
    ///
    /// # Panics
    ///
    /// If it does not arrive within [`PATIENCE`].
    pub async fn heard(&self, event: &BusEvent) {
        self.wait(&format!("{event:?}"), |heard| (heard == event).then_some(())).await;
    }
}

impl Listener for Recorder {
    fn notify(&self, event: BusEvent) {
        self.events.lock().push(event);
    }
}
