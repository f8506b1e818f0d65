//! Whether the runtime of a cache's background tasks still exists.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The background tasks. They end with their runtime, but the cache may live longer. For example, a static
/// cache is used by several tests, each with its own runtime. The next call that needs the tasks starts them
/// again.
pub(crate) struct Background {
    begin: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// The runtime has dropped tasks of the current turn.
    dropped: AtomicBool,
    /// Ends the tasks of the current turn.
    turn: Mutex<CancellationToken>,
    /// Notifies callers that wait for a result of the tasks.
    pub(crate) news: Notify,
}

impl Background {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            begin: OnceLock::new(),
            dropped: AtomicBool::new(false),
            turn: Mutex::default(),
            news: Notify::new(),
        })
    }

    /// Starts the tasks on the current runtime. `begin` can start them on another runtime later.
    pub(crate) fn start(&self, begin: impl Fn() + Send + Sync + 'static) {
        let _ = self.begin.set(Box::new(begin));
        self.begin();
    }

    fn begin(&self) {
        if let Some(begin) = self.begin.get() {
            begin();
        }
    }

    /// Starts the tasks again on the current runtime, if their old runtime has ended.
    pub(crate) fn ensure(&self) {
        if self.dropped.load(Ordering::Acquire) {
            self.begin_again();
        }
    }

    #[cold]
    fn begin_again(&self) {
        let mut turn = self.turn.lock();
        if !self.dropped.swap(false, Ordering::AcqRel) {
            return;
        }
        // The old runtime has several workers. Some of them may still run tasks of the old turn.
        std::mem::replace(&mut *turn, CancellationToken::new()).cancel();
        drop(turn);
        self.begin();
    }

    /// A guard. A background task holds it while it runs.
    pub(crate) fn piece(self: &Arc<Self>) -> Piece {
        Piece { background: Arc::clone(self), turn: self.turn.lock().clone(), ended: false }
    }
}

/// The guard of one background task. If it is dropped before its turn has ended, the runtime has ended.
pub(crate) struct Piece {
    background: Arc<Background>,
    turn: CancellationToken,
    ended: bool,
}

impl Piece {
    /// Runs the task until its turn ends.
    pub(crate) async fn run(mut self, work: impl Future<Output = ()>) {
        self.turn.run_until_cancelled(work).await;
        self.ended = true;
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let turn = self.background.turn.lock();
        if !self.ended && !self.turn.is_cancelled() {
            self.background.dropped.store(true, Ordering::Release);
            self.turn.cancel();
        }
        drop(turn);
        self.background.news.notify_waiters();
    }
}
