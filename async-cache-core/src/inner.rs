//! Everything that the handles of one cache share.

use std::fmt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::{LocalBackend, Region};
use crate::changes::retry::Pending;
use crate::error::{BoxError, Error, ErrorKind, Result, guard};
use crate::faults::mutant::Switch;
use crate::format::codec::{Codec, RoundTrip};
use crate::format::frame::Format;
use crate::format::key::Key;
use crate::liveness::background::Background;
use crate::liveness::early_events::Door;
use crate::liveness::node::Node;
use crate::liveness::watch::Watch;
use crate::local::stripes::Fence;
use crate::observe::{Amended, Counters, Event, Events, KeyHash, LoadFailureLog, Stats, trace};
use crate::options::{Options, Outage, StoreOptions};
use crate::remote::miss_rate::Odds;

/// What is said where there is no runtime to work on.
pub(crate) const OUTSIDE_TOKIO: &str = "this was called outside a Tokio runtime, on which all but hits in L1 depend: call it from a task of one, or within `Runtime::block_on`";

pub(crate) struct Shared<V> {
    pub(crate) namespace: Arc<str>,
    pub(crate) l1: Option<Box<dyn LocalBackend<V>>>,
    pub(crate) l2: Option<L2<V>>,
    pub(crate) node: Node,
    pub(crate) fence: Fence<V>,
    pub(crate) pending: Pending,
    pub(crate) odds: Odds,
    pub(crate) counters: Counters,
    pub(crate) events: Events,
    pub(crate) watch: Watch,
    pub(crate) defaults: Options,
    pub(crate) outage: Outage,
    pub(crate) failure_log: LoadFailureLog,
    pub(crate) switch: Switch,
    pub(crate) closing: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) background: Arc<Background>,
    /// What the shared tier tells its news to.
    pub(crate) door: Arc<Door<V>>,
}

/// The shared tier, and how values are written there.
pub(crate) struct L2<V> {
    pub(crate) region: Arc<dyn Region>,
    pub(crate) codec: Arc<dyn Codec<V>>,
    pub(crate) format: Format,
    pub(crate) round_trip: RoundTrip,
    /// What the value is called in the namespace record.
    pub(crate) schema: Arc<str>,
}

impl<V: 'static> L2<V> {
    /// Encodes a value. Its own code runs there, and a panic of it is this value's error: a batch has
    /// others, and those who wait for a load have its value all the same.
    pub(crate) fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), BoxError> {
        let before = out.len();
        guard::call("encoding a value", || self.codec.encode(value, out))?;
        if self.round_trip.is_due() {
            guard::call("reading a value back", || {
                self.round_trip.check(&*self.codec, value, &out[before..])
            })?;
        }
        Ok(())
    }

    /// Decodes a value. One at which this panics is as good as damaged: what is stored would make everybody
    /// panic who reads it, until it expires.
    pub(crate) fn decode(&self, payload: &[u8]) -> Result<V, BoxError> {
        guard::call("decoding a value", || self.codec.decode(payload))
    }
}

impl<V: 'static> Shared<V> {
    pub(crate) fn l1(&self) -> Option<&dyn LocalBackend<V>> {
        self.l1.as_deref()
    }

    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closing.is_cancelled() {
            return Err(self.error(ErrorKind::Shutdown, "the cache has been shut down"));
        }
        // Schedules have no runtime: their threads are not Tokio's.
        if !cfg!(all(test, shuttle)) && tokio::runtime::Handle::try_current().is_err() {
            return Err(self.error(ErrorKind::Config, OUTSIDE_TOKIO));
        }
        self.background.ensure();
        Ok(())
    }

    pub(crate) fn check_options(&self, options: &Options) -> Result<()> {
        let checked = options.validate().and_then(|()| options.store.check_tiers(self.l1.is_some()));
        checked.map_err(|error| error.in_namespace(&self.namespace))
    }

    pub(crate) fn check_store_options(&self, options: &StoreOptions) -> Result<()> {
        let checked = options.validate().and_then(|()| options.check_tiers(self.l1.is_some()));
        checked.map_err(|error| error.in_namespace(&self.namespace))
    }

    pub(crate) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, message).in_namespace(&self.namespace)
    }

    /// Counts a failed operation on L2 and says where it happened.
    pub(crate) fn l2_failed(&self, error: Error) -> Error {
        self.counters.l2_errors.add(1);
        self.look_around(Some(&error));
        error.in_namespace(&self.namespace)
    }

    /// Counts and tells that a loader chose what cannot be.
    #[cold]
    pub(crate) fn amended(&self, key: &Key, to: Amended) {
        self.counters.amended_choices.add(1);
        self.events.tell(|| Event::ChoiceAmended { key: KeyHash::of(key.as_bytes()), to });
    }

    /// Counts and tells that a value cannot be shared: who waits for it has it all the same.
    #[cold]
    pub(crate) fn not_encoded(&self, key: &Key, error: &Error) {
        self.counters.codec_failures.add(1);
        self.events.tell(|| Event::NotEncoded { key: KeyHash::of(key.as_bytes()) });
        trace::not_encoded(&self.namespace, error);
    }

    /// Counts, tells and logs that one call of a loader gave an error for a key, or for as many of them.
    #[cold]
    pub(crate) fn load_failed(&self, key: &Key, keys: usize, error: &Error) {
        self.counters.load_failures.add(1);
        self.tell_failed(key, error);
        self.log_failed(key, keys, error);
    }

    pub(crate) fn tell_failed(&self, key: &Key, error: &Error) {
        let key = KeyHash::of(key.as_bytes());
        self.events.tell(|| Event::LoadFailed { key, kind: error.kind() });
    }

    pub(crate) fn log_failed(&self, key: &Key, keys: usize, error: &Error) {
        trace::load_failed(&self.namespace, self.failure_log, KeyHash::of(key.as_bytes()), keys, error);
    }

    /// Counts and tells that a value was not stored: an invalidation had met it, its lease was lost, or L2
    /// could not be asked.
    #[cold]
    pub(crate) fn rejected(&self, key: &Key) {
        self.counters.fills_rejected.add(1);
        self.events.tell(|| Event::FillRejected { key: KeyHash::of(key.as_bytes()) });
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            l1_suspended: self.l1.is_some() && !self.node.is_serving(),
            l2_refused: self.watch.refusal().is_some(),
            entries: self.l1().map_or(0, LocalBackend::len),
            l1_refused: self.l1().map_or(0, LocalBackend::refused),
            in_flight: self.fence.in_flight() as u64,
            pending_invalidations: self.pending.len() as u64,
            ..self.counters.snapshot()
        }
    }

    /// Begins the end: L1 stops answering, loads and background work stop.
    pub(crate) fn close(&self) {
        self.closing.cancel();
        self.node.retire();
        if let Some(l2) = &self.l2 {
            l2.region.close();
        }
        self.tasks.close();
        #[cfg(feature = "metrics")]
        crate::observe::publish(self);
        if let Some(l1) = self.l1() {
            // A value whose end panics does not keep the cache from its own.
            let close = || {
                l1.close();
                Ok(())
            };
            drop(guard::call("dropping values", close));
        }
    }
}

impl<V> fmt::Debug for Shared<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredCache")
            .field("namespace", &self.namespace)
            .field("node", &self.node.id)
            .field("l1", &self.l1.is_some())
            .field("l2", &self.l2.as_ref().map(|l2| &l2.region))
            .finish_non_exhaustive()
    }
}
