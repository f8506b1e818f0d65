//! Whether the background work of a cache still has a runtime to run on.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The background work, which ends with its runtime, although the cache may live on: a static one is used by
/// one test after the other, each with a runtime of its own. Whoever needs the work next begins it again.
pub(crate) struct Background {
    begin: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// The runtime has dropped work of the current turn.
    dropped: AtomicBool,
    /// Ends the current turn.
    turn: Mutex<CancellationToken>,
    /// For those who wait for what the work was to bring about.
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

    /// Begins the work, on the current runtime, and says how to begin it on another.
    pub(crate) fn start(&self, begin: impl Fn() + Send + Sync + 'static) {
        let _ = self.begin.set(Box::new(begin));
        self.begin();
    }

    fn begin(&self) {
        if let Some(begin) = self.begin.get() {
            begin();
        }
    }

    /// Begins the work again on the current runtime, if the one it ran on has ended.
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
        // Of several workers of the old runtime, some may not have ended yet.
        std::mem::replace(&mut *turn, CancellationToken::new()).cancel();
        drop(turn);
        self.begin();
    }

    /// To be held by a piece of work for as long as it runs.
    pub(crate) fn piece(self: &Arc<Self>) -> Piece {
        Piece { background: Arc::clone(self), turn: self.turn.lock().clone(), ended: false }
    }
}

/// A piece of background work: where it is dropped before its turn has ended, its runtime has.
pub(crate) struct Piece {
    background: Arc<Background>,
    turn: CancellationToken,
    ended: bool,
}

impl Piece {
    /// Does the work until its turn ends.
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
