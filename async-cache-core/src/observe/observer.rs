//! Counts, sends and logs what happens in a cache, in one place.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{BoxError, Error, ErrorKind};
use crate::observe::event::{
    Amended, Event, Evidence, KeyHash, Knowledge, LoadFailureLog, StaleCause, UnreadableCause,
};
use crate::observe::events::Events;
use crate::observe::log::Log;
#[cfg(feature = "metrics")]
use crate::observe::metrics::Instruments;
use crate::observe::stage::{Stage, Timer};
use crate::observe::stats::Counters;
use crate::observe::trace;

/// The counters, events and logs of one cache. It takes encoded keys.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(crate) namespace: Arc<str>,
    pub(crate) counters: Counters,
    pub(crate) events: Events,
    pub(crate) log: Arc<Log>,
    #[cfg(feature = "metrics")]
    pub(crate) instruments: Instruments,
    failure_log: LoadFailureLog,
}

impl Observer {
    /// `policy` is what lookups do in an outage, as the log shows it.
    pub(crate) fn new(
        namespace: Arc<str>,
        failure_log: LoadFailureLog,
        policy: &dyn fmt::Debug,
    ) -> Arc<Self> {
        let log = Arc::new(Log::of(&namespace, policy));
        Arc::new(Self {
            counters: Counters::default(),
            events: Events::of(&log),
            log,
            #[cfg(feature = "metrics")]
            instruments: Instruments::of(&namespace),
            namespace,
            failure_log,
        })
    }

    /// Runs a stage in a span of its own, and records its duration if it ends. Without the features `metrics`
    /// and `tracing` it is `work` itself.
    #[cfg(feature = "metrics")]
    pub(crate) async fn stage<F: Future>(&self, stage: Stage, work: F) -> F::Output {
        let timer = Timer::start();
        let output = trace::stage(&self.namespace, stage, work).await;
        self.instruments.stage(stage, timer.took());
        output
    }

    #[cfg(not(feature = "metrics"))]
    pub(crate) fn stage<F: Future>(&self, stage: Stage, work: F) -> impl Future<Output = F::Output> + use<F> {
        trace::stage(&self.namespace, stage, work)
    }

    /// Records the end of a wait for another node's load.
    pub(crate) fn waited_for_lease(&self, timer: Timer) {
        #[cfg(feature = "metrics")]
        self.instruments.stage(Stage::WaitForLease, timer.took());
        #[cfg(not(feature = "metrics"))]
        let _ = timer;
    }

    /// Records how long a loader ran.
    pub(crate) fn loaded(&self, timer: Timer) {
        #[cfg(feature = "metrics")]
        self.instruments.loaded(timer.took());
        #[cfg(not(feature = "metrics"))]
        let _ = timer;
    }

    /// Records how long a message of the bus was under way.
    pub(crate) fn lagged(&self, lag: Duration) {
        #[cfg(feature = "metrics")]
        self.instruments.lagged(lag);
        #[cfg(not(feature = "metrics"))]
        let _ = lag;
    }

    /// Makes an error that names the namespace.
    pub(crate) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, message).in_namespace(&self.namespace)
    }

    /// Notes that a loader chose an invalid option. `why` names it and its value.
    #[cold]
    pub(crate) fn amended(&self, key: &[u8], to: Amended, why: &str) {
        self.counters.amended_choices.add(1);
        self.events.tell(|| Event::ChoiceAmended { key: KeyHash::of(key), to });
        self.log.amended(KeyHash::of(key), to, why);
    }

    /// Notes that a value cannot be stored in L2. Its callers still get it.
    #[cold]
    pub(crate) fn not_encoded(&self, key: &[u8], error: &Error) {
        self.counters.codec_failures.add(1);
        self.events.tell(|| Event::NotEncoded { key: KeyHash::of(key) });
        self.log.not_encoded(error);
    }

    /// Notes that a stored value in L2 cannot be read. `error` is that of the codec, if there is one.
    #[cold]
    pub(crate) fn unreadable(&self, key: &[u8], cause: UnreadableCause, error: Option<&BoxError>) {
        self.counters.unreadable.add(1);
        self.events.tell(|| Event::Unreadable { key: KeyHash::of(key), cause });
        self.log.unreadable(KeyHash::of(key), cause, error);
    }

    /// Notes that one call of a loader failed for a key, or for `keys` keys of which `key` is one.
    #[cold]
    pub(crate) fn load_failed(&self, key: &[u8], keys: usize, error: &Error) {
        self.counters.load_failures.add(1);
        self.tell_failed(key, error);
        self.log_failed(key, keys, error);
    }

    /// Sends the event of a failed load, without counting or logging it.
    pub(crate) fn tell_failed(&self, key: &[u8], error: &Error) {
        self.events.tell(|| Event::LoadFailed { key: KeyHash::of(key), kind: error.kind() });
    }

    /// Logs a failed load, without counting it or sending its event.
    pub(crate) fn log_failed(&self, key: &[u8], keys: usize, error: &Error) {
        self.log.load_failed(self.failure_log, KeyHash::of(key), keys, error);
    }

    /// Notes that a value was not stored: an invalidation came in the meantime, its lease was lost, or L2 could
    /// not be asked.
    #[cold]
    pub(crate) fn fill_rejected(&self, key: &[u8]) {
        self.counters.fills_rejected.add(1);
        self.events.tell(|| Event::FillRejected { key: KeyHash::of(key) });
    }

    /// Notes that the verifier reports a hit.
    #[cold]
    pub(crate) fn stale_hit(&self, key: &[u8], evidence: Evidence, knew: Knowledge) {
        match evidence.is_proof() {
            true => self.counters.stale_hits.add(1),
            false => self.counters.suspected_hits.add(1),
        }
        self.events.tell(|| Event::StaleHit { key: KeyHash::of(key), evidence, knew });
    }

    /// Notes that a lookup was answered with an expired or unverified value.
    pub(crate) fn stale_served(&self, key: &[u8], cause: StaleCause) {
        self.counters.stale_served.add(1);
        self.events.tell(|| Event::StaleServed { key: KeyHash::of(key), cause });
    }
}
