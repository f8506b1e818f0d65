//! The life of one cache: open, in use, closed.

use std::pin::pin;
use std::sync::Arc;

use futures_util::future;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::Listener;
use crate::error::{ErrorKind, Result};
use crate::liveness::background::Background;
use crate::liveness::questions::Questions;
use crate::liveness::state::Liveness;
use crate::observe::Observer;

/// The error message of a call outside a Tokio runtime.
pub(crate) const OUTSIDE_TOKIO: &str = "this was called outside a Tokio runtime, on which all but hits in L1 depend: call it from a task of one, or within `Runtime::block_on`";

/// Whether a cache is open, and its tasks.
pub(crate) struct Lifecycle {
    pub(crate) closing: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) background: Arc<Background>,
    /// What tools have asked this node.
    pub(crate) questions: Questions,
    observer: Arc<Observer>,
    /// The listener that L2 notifies. L2 itself holds it weakly.
    _listener: Arc<dyn Listener>,
}

impl Lifecycle {
    pub(crate) fn new(observer: Arc<Observer>, listener: Arc<dyn Listener>) -> Self {
        Self {
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            background: Background::new(),
            questions: Questions::new(),
            observer,
            _listener: listener,
        }
    }

    /// Refuses work if the cache is closed or there is no runtime. Starts the background tasks again if their
    /// runtime has ended.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closing.is_cancelled() {
            return Err(self.observer.error(ErrorKind::Shutdown, "the cache has been shut down"));
        }
        // Schedules have no runtime: their threads do not belong to Tokio.
        if !cfg!(all(test, shuttle)) && tokio::runtime::Handle::try_current().is_err() {
            return Err(self.observer.error(ErrorKind::Config, OUTSIDE_TOKIO));
        }
        self.background.ensure();
        Ok(())
    }

    /// Waits until the node serves.
    pub(crate) async fn ready(&self, liveness: &Liveness) -> Result<()> {
        loop {
            // The registration comes before the check, so that a notification between the check and the wait
            // is not missed.
            let mut news = pin!(liveness.news.notified());
            news.as_mut().enable();
            // The background tasks make the node serve. If they end with another runtime, this loop starts
            // them again.
            let mut ended = pin!(self.background.news.notified());
            ended.as_mut().enable();
            self.check_open()?;
            if liveness.node.is_serving() {
                return Ok(());
            }
            if let Some(refusal) = liveness.refusals.of_serving() {
                return Err(refusal);
            }
            self.closing.run_until_cancelled(future::select(news, ended)).await;
        }
    }
}
