//! Orders that wait for their replies.

use std::time::Duration;

use tokio::sync::{SemaphorePermit, mpsc};

use crate::orders::Reply;
use crate::serve::answer::Refusal;
use crate::serve::hub::Hub;

/// The longest that a reply may take: a rush waits for a query, and for other instances.
pub(crate) const REPLY_WITHIN: Duration = Duration::from_secs(45);

/// An order under way.
pub(crate) struct Asked<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) id: u64,
    pub(crate) instance: u16,
    pub(crate) replies: mpsc::Receiver<Reply>,
    /// Returned when the order is over.
    #[expect(dead_code, reason = "held, not read")]
    pub(crate) permit: SemaphorePermit<'a>,
}

impl Asked<'_> {
    /// The next reply. A reply that says why the order failed is an error.
    pub(crate) async fn reply(&mut self) -> Result<Reply, Refusal> {
        match tokio::time::timeout(REPLY_WITHIN, self.replies.recv()).await {
            Ok(Some(Reply::Failed(why))) => {
                Err(Refusal::unavailable(format!("instance {}: {why}", self.instance + 1)))
            }
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(gone(self.instance)),
            Err(_) => Err(Refusal::unavailable(format!(
                "instance {} has not replied within {REPLY_WITHIN:?}",
                self.instance + 1
            ))),
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.hub.pending.lock().remove(&self.id);
    }
}

pub(crate) fn gone(instance: u16) -> Refusal {
    Refusal::unavailable(format!("instance {} has ended", instance + 1))
}
