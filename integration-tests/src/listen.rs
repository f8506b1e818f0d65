//! Waiting for what happens elsewhere.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_cache_core::backend::{BusEvent, Listener};
use parking_lot::Mutex;

/// How long a condition may take to come true before the test has failed.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `probe` gives something.
///
/// # Panics
///
/// If it does not within [`PATIENCE`].
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

/// A listener that notes every event.
#[derive(Debug, Default)]
pub struct Recorder {
    events: Mutex<Vec<BusEvent>>,
}

impl Recorder {
    /// A listener that has heard nothing.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Everything heard so far.
    #[must_use]
    pub fn events(&self) -> Vec<BusEvent> {
        self.events.lock().clone()
    }

    /// Forgets what was heard.
    pub fn forget(&self) {
        self.events.lock().clear();
    }

    /// Waits for an event of which `want` gives something, past or future.
    ///
    /// # Panics
    ///
    /// If there is none within [`PATIENCE`].
    pub async fn wait<T: Debug>(&self, what: &str, want: impl Fn(&BusEvent) -> Option<T>) -> T {
        eventually(what, || self.events.lock().iter().find_map(&want)).await
    }

    /// Waits until the event has been heard.
    ///
    /// # Panics
    ///
    /// If it is not within [`PATIENCE`].
    pub async fn heard(&self, event: &BusEvent) {
        self.wait(&format!("{event:?}"), |heard| (heard == event).then_some(())).await;
    }
}

impl Listener for Recorder {
    fn notify(&self, event: BusEvent) {
        self.events.lock().push(event);
    }
}
