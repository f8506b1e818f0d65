//! The heartbeats to one master of a cluster that wait to be sent together.

use async_cache_core::backend::RunId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::connection::failure::Failure;

/// A heartbeat of one partition of one namespace.
pub(crate) struct Beat {
    /// `M` of the partition.
    pub(crate) meta: Vec<u8>,
    pub(crate) record: String,
    pub(crate) known_seq: u64,
    pub(crate) node: String,
    pub(crate) number: u64,
    /// Whether the node is subscribed, so that the echo will arrive.
    pub(crate) is_heard: bool,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// The server that has executed a heartbeat, and its time in ms.
pub(crate) type Answer = Result<(RunId, u64), Failure>;

/// What the caller that adds a heartbeat has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// It is the first heartbeat of a command. Let all tasks run that are ready now, then send it together
    /// with the heartbeats that they have added.
    Soon,
    /// Another caller sends it.
    Nothing,
}

/// The heartbeats of one master. If they are dropped, each caller gets an error.
#[derive(Default)]
pub(crate) struct BeatQueue(Mutex<Vec<Beat>>);

impl BeatQueue {
    pub(crate) fn add(&self, beat: Beat) -> Due {
        let mut beats = self.0.lock();
        beats.push(beat);
        if beats.len() == 1 { Due::Soon } else { Due::Nothing }
    }

    pub(crate) fn take(&self) -> Vec<Beat> {
        std::mem::take(&mut self.0.lock())
    }
}
