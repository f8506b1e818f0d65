//! A task in the background, and its end.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// The runtime on which the task will run. `what` is started.
pub(crate) fn runtime(what: &str) -> Result<Handle, Error> {
    Handle::try_current().map_err(|_| {
        Error::Config(format!("the {what} was started outside a Tokio runtime: start it from a task of one"))
    })
}

/// A running task. Dropping it ends the task without waiting.
#[derive(Debug)]
pub(crate) struct Task {
    stop: CancellationToken,
    /// Taken by the first call of `shutdown`.
    task: Mutex<Option<JoinHandle<()>>>,
    shutdown_limit: Duration,
}

impl Task {
    /// Of a task that ends when `stop` is cancelled.
    pub(crate) fn new(task: JoinHandle<()>, stop: CancellationToken, shutdown_limit: Duration) -> Self {
        Self { stop, task: Mutex::new(Some(task)), shutdown_limit }
    }

    /// Lets the task finish what is under way, for as long as the limit. A second call returns at once.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        let task = self.task.lock().take();
        if let Some(mut task) = task
            && tokio::time::timeout(self.shutdown_limit, &mut task).await.is_err()
        {
            task.abort();
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
    }
}
