//! Samples of hits, for the verifier. A hit itself only draws a random number.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::backend::{Entry, Tick};
use crate::error::BoxError;
use crate::format::key::Key;
use crate::local::request::Answer;
use crate::options::Verify;

/// The maximum number of samples that wait for their check. Further ones are dropped, and counted.
const WAITING: usize = 64;

/// The result of a loader that runs once more. It is `None` if the loader found the previous value unchanged.
type Reloading<V> = BoxFuture<'static, Result<Option<Answer<V>>, BoxError>>;

/// A loader that runs once more.
pub(crate) struct Rerun<V> {
    pub(crate) loader: Box<dyn FnOnce() -> Reloading<V> + Send>,
    /// How long it may take: the `load_timeout` of the lookup.
    pub(crate) limit: Duration,
}

/// A hit to be checked.
pub(crate) struct Sample<V> {
    pub(crate) key: Key,
    /// The entry that answered.
    pub(crate) entry: Entry<V>,
    /// A time at which the lookup had begun, and had not read the entry yet.
    pub(crate) begun: Tick,
    pub(crate) rerun: Option<Rerun<V>>,
}

/// Chooses hits, and hands them to the verifier.
pub(crate) struct Sampler<V> {
    pub(crate) verify: Verify<V>,
    threshold: u32,
    samples: Sender<Sample<V>>,
    /// Only the verifier locks it, and a verifier that starts again.
    pub(crate) waiting: Mutex<Receiver<Sample<V>>>,
}

impl<V> Sampler<V> {
    pub(crate) fn new(verify: Verify<V>) -> Self {
        let (samples, waiting) = channel(WAITING);
        Self { threshold: verify.threshold(), verify, samples, waiting: Mutex::new(waiting) }
    }

    /// Draws whether a lookup is chosen.
    pub(crate) fn draws(&self) -> bool {
        fastrand::u32(..) <= self.threshold
    }

    /// Hands a hit to the verifier. Returns whether there was room for it.
    pub(crate) fn offer(&self, sample: Sample<V>) -> bool {
        self.samples.try_send(sample).is_ok()
    }
}
