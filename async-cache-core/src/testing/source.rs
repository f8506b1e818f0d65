//! A database of one row. It counts its queries, and a test can block them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

/// The error of a failing query, with the number of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct No(pub usize);

impl std::fmt::Display for No {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "query {} was refused", self.0)
    }
}

impl std::error::Error for No {}

/// A row whose value is its version, starting at 1. Clones are the same row.
#[derive(Clone, Debug, Default)]
pub struct Source(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    version: AtomicU64,
    loads: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
    /// The number of loads that have read the row and may return it.
    go: Semaphore,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            version: AtomicU64::new(1),
            loads: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            go: Semaphore::new(0),
        }
    }
}

impl Source {
    /// A row at version 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Commits a new version.
    pub fn write(&self) -> u64 {
        self.0.version.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The committed version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::SeqCst)
    }

    /// Queries begun.
    #[must_use]
    pub fn loads(&self) -> usize {
        self.0.loads.load(Ordering::SeqCst)
    }

    /// The most queries that ran at once.
    #[must_use]
    pub fn most_running(&self) -> usize {
        self.0.most_running.load(Ordering::SeqCst)
    }

    fn begin(&self) -> u64 {
        self.0.loads.fetch_add(1, Ordering::SeqCst);
        let running = self.0.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most_running.fetch_max(running, Ordering::SeqCst);
        self.version()
    }

    /// Reads the row, then takes `time`.
    pub fn slow(&self, time: Duration) -> impl Future<Output = Result<u64, No>> + Send + 'static + use<> {
        let source = self.clone();
        async move {
            let version = source.begin();
            tokio::time::sleep(time).await;
            source.0.running.fetch_sub(1, Ordering::SeqCst);
            Ok(version)
        }
    }

    /// Reads the row.
    pub fn now(&self) -> impl Future<Output = Result<u64, No>> + Send + 'static + use<> {
        self.slow(Duration::ZERO)
    }

    /// Reads the row, then waits for [`let_go`](Self::let_go): the value may be old by then.
    pub fn held(&self) -> impl Future<Output = Result<u64, No>> + Send + 'static + use<> {
        let source = self.clone();
        async move {
            let version = source.begin();
            source.0.go.acquire().await.expect("never closed").forget();
            source.0.running.fetch_sub(1, Ordering::SeqCst);
            Ok(version)
        }
    }

    /// Fails after 100 ms.
    pub fn failing(&self) -> impl Future<Output = Result<u64, No>> + Send + 'static + use<> {
        let source = self.clone();
        async move {
            source.begin();
            tokio::time::sleep(Duration::from_millis(100)).await;
            source.0.running.fetch_sub(1, Ordering::SeqCst);
            Err(No(source.loads()))
        }
    }

    /// Lets this many blocked queries return.
    pub fn let_go(&self, loads: usize) {
        self.0.go.add_permits(loads);
    }

    /// Waits until this many loads have begun.
    pub async fn begun(&self, loads: usize) {
        until("the load has begun", || self.loads() >= loads).await;
    }
}

/// Waits for a condition. Panics if it does not become true within ten seconds of this runtime's time.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Milliseconds.
#[must_use]
pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
