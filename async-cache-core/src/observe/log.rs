//! What a cache logs with `tracing` (feature `tracing`).
//!
//! Faults are warnings, with their cause where it is known. At most ten warnings of one kind are logged in a
//! minute. The next one has the number of those that were suppressed, if there were any.

pub(crate) use imp::{Log, wanted};

#[cfg(feature = "tracing")]
mod imp {
    use std::error::Error as _;
    use std::fmt::Debug;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use tracing::level_filters::LevelFilter;
    use tracing::{debug, info, warn};

    use crate::error::{BoxError, Error, ErrorKind, without_values};
    use crate::observe::event::{Amended, Event, KeyHash, LoadFailureLog, Refused, UnreadableCause};
    use crate::observe::limits::Limits;
    use crate::observe::trace::TARGET;

    /// Whether a subscriber may be interested.
    pub(crate) fn wanted() -> bool {
        LevelFilter::current() != LevelFilter::OFF
    }

    /// The kinds of warnings.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Warning {
        LoadFailed,
        NotEncoded,
        ChoiceAmended,
        L1Suspended,
        L2Lost,
        L2Refused,
        L2Failed,
        InvalidationPending,
        StaleHit,
    }

    impl Warning {
        const KINDS: usize = Self::StaleHit as usize + 1;
    }

    /// The log of one cache.
    #[derive(Debug)]
    pub(crate) struct Log {
        namespace: Arc<str>,
        /// What lookups do while L2 cannot be reached.
        policy: String,
        limits: Limits<{ Warning::KINDS }>,
        /// Whether L1 has begun to answer before.
        has_answered: AtomicBool,
        retried: Retried,
    }

    /// Counts the pending invalidations that land, until none is pending.
    #[derive(Debug, Default)]
    struct Retried {
        pending: AtomicUsize,
        landed: AtomicUsize,
    }

    impl Retried {
        /// Notes how many are pending. Returns how many have landed, if none is pending any more.
        fn note(&self, pending: usize) -> Option<usize> {
            let before = self.pending.swap(pending, Ordering::Relaxed);
            self.landed.fetch_add(before.saturating_sub(pending), Ordering::Relaxed);
            (pending == 0).then(|| self.landed.swap(0, Ordering::Relaxed))
        }
    }

    /// A warning that is logged.
    struct Admitted {
        /// The number of suppressed warnings before this one, if there were any.
        suppressed: Option<u64>,
    }

    impl Admitted {
        fn after(suppressed: u64) -> Self {
            Self { suppressed: (suppressed > 0).then_some(suppressed) }
        }
    }

    impl Log {
        pub(crate) fn of(namespace: &Arc<str>, policy: &dyn Debug) -> Self {
            Self {
                namespace: Arc::clone(namespace),
                policy: format!("{policy:?}"),
                limits: Limits::default(),
                has_answered: AtomicBool::new(false),
                retried: Retried::default(),
            }
        }

        /// Returns nothing if this warning is suppressed. Nobody counts warnings that no subscriber would get.
        fn admit(&self, warning: Warning) -> Option<Admitted> {
            if LevelFilter::current() < LevelFilter::WARN {
                return None;
            }
            self.limits.admit(warning as usize).map(Admitted::after)
        }

        pub(crate) fn event(&self, event: &Event) {
            let namespace = &*self.namespace;
            match event {
                Event::L1Suspended { cause } => {
                    let Some(Admitted { suppressed }) = self.admit(Warning::L1Suspended) else { return };
                    let outage_policy = &*self.policy;
                    warn!(target: TARGET, namespace, %cause, outage_policy, suppressed, "L1 may have missed changes");
                }
                Event::InvalidationPending { pending } => {
                    self.retried.note(*pending);
                    let Some(Admitted { suppressed }) = self.admit(Warning::InvalidationPending) else {
                        return;
                    };
                    warn!(target: TARGET, namespace, pending, suppressed, "an invalidation could not be sent and is being retried");
                }
                // The start of a cache is no recovery: nothing was held, and there was no fault.
                Event::L1Resumed { .. } if !self.has_answered.swap(true, Ordering::Relaxed) => {
                    info!(target: TARGET, namespace, "L1 answers");
                }
                Event::L1Resumed { held } => {
                    info!(target: TARGET, namespace, ?held, "L1 answers again");
                }
                Event::L2Regained => {
                    info!(target: TARGET, namespace, "L2 can be reached again");
                }
                Event::InvalidationLanded { pending } => {
                    // One line for all, although each partition lands on its own.
                    match self.retried.note(*pending) {
                        Some(landed) => {
                            info!(target: TARGET, namespace, landed, "retried invalidations have landed");
                        }
                        None => {
                            debug!(target: TARGET, namespace, pending, "a retried invalidation has landed");
                        }
                    }
                }
                Event::StaleHit { key, evidence, knew } => {
                    let Some(Admitted { suppressed }) = self.admit(Warning::StaleHit) else { return };
                    warn!(target: TARGET, namespace, %key, ?evidence, proved = evidence.is_proof(), ?knew, suppressed, "L1 answers with a value that is older than `max_staleness` allows");
                }
                // These are logged with their causes where they happen.
                Event::LoadFailed { .. }
                | Event::ChoiceAmended { .. }
                | Event::L2Lost
                | Event::L2Refused { .. }
                | Event::Unreadable { .. } => {}
                other => {
                    debug!(target: TARGET, namespace, event = ?other);
                }
            }
        }

        /// Logs the cause, if it is known. An event has no room for it.
        pub(crate) fn lost(&self, why: Option<&Error>) {
            let Some(Admitted { suppressed }) = self.admit(Warning::L2Lost) else { return };
            let cause = why.map(|error| format!("{error:#}"));
            warn!(target: TARGET, namespace = &*self.namespace, cause, suppressed, "L2 cannot be reached");
        }

        /// Logs an operation that failed although L2 can be reached, and the number of partitions in which it failed.
        pub(crate) fn l2_failed(&self, error: &Error, partitions: usize) {
            let Some(admitted) = self.admit(Warning::L2Failed) else { return };
            self.failure(error, (partitions > 1).then_some(partitions), admitted);
        }

        /// Logs a failed attempt that is repeated, if no failure was logged in the last minute.
        pub(crate) fn attempt_failed(&self, error: &Error) {
            if LevelFilter::current() < LevelFilter::WARN {
                return;
            }
            if let Some(suppressed) = self.limits.admit_repetition(Warning::L2Failed as usize) {
                self.failure(error, None, Admitted::after(suppressed));
            }
        }

        fn failure(&self, error: &Error, partitions: Option<usize>, Admitted { suppressed }: Admitted) {
            let cause = format!("{error:#}");
            warn!(target: TARGET, namespace = &*self.namespace, %cause, partitions, suppressed, "an operation on L2 failed");
        }

        /// Logs the cause, because an event has no room for it.
        pub(crate) fn refused(&self, what: Refused, why: &Error) {
            let Some(Admitted { suppressed }) = self.admit(Warning::L2Refused) else { return };
            let cause = format!("{why:#}");
            warn!(target: TARGET, namespace = &*self.namespace, %what, %cause, suppressed, "L2 does not permit this node what it needs");
        }

        /// Logs the cause, because an event has no room for it.
        pub(crate) fn not_encoded(&self, error: &Error) {
            let Some(Admitted { suppressed }) = self.admit(Warning::NotEncoded) else { return };
            let cause = error.source().map(ToString::to_string);
            warn!(target: TARGET, namespace = &*self.namespace, %error, cause, suppressed, "a value cannot be stored in L2");
        }

        /// Logs the option and its value, because an event has no room for them.
        pub(crate) fn amended(&self, key: KeyHash, to: Amended, why: &str) {
            let Some(Admitted { suppressed }) = self.admit(Warning::ChoiceAmended) else { return };
            warn!(target: TARGET, namespace = &*self.namespace, %key, ?to, cause = why, suppressed, "a loader chose an invalid option");
        }

        /// Logs a stored value that is a miss. `error` is that of the codec, if the codec could not read the value.
        pub(crate) fn unreadable(&self, key: KeyHash, cause: UnreadableCause, error: Option<&BoxError>) {
            if LevelFilter::current() < LevelFilter::INFO {
                return;
            }
            let error = error.map(|error| without_values(&error.to_string()));
            info!(target: TARGET, namespace = &*self.namespace, %key, %cause, error, "a value stored in L2 cannot be read, and is loaded again");
        }

        /// Logs keys that could not be loaded.
        pub(crate) fn load_failed(&self, log: LoadFailureLog, key: KeyHash, keys: usize, error: &Error) {
            let (namespace, kind) = (&*self.namespace, error.kind());
            match log {
                LoadFailureLog::Warn if kind != ErrorKind::Shutdown => {
                    let Some(Admitted { suppressed }) = self.admit(Warning::LoadFailed) else { return };
                    let cause = format!("{error:#}");
                    warn!(target: TARGET, namespace, %key, keys, ?kind, %cause, suppressed, "a load failed");
                }
                LoadFailureLog::Warn | LoadFailureLog::Off => {
                    debug!(target: TARGET, namespace, %key, keys, ?kind, "a load failed");
                }
            }
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod imp {
    use std::fmt::Debug;
    use std::sync::Arc;

    use crate::error::{BoxError, Error};
    use crate::observe::event::{Amended, Event, KeyHash, LoadFailureLog, Refused, UnreadableCause};

    pub(crate) fn wanted() -> bool {
        false
    }

    /// Stands for a log that nobody reads.
    #[derive(Debug)]
    pub(crate) struct Log;

    #[expect(clippy::unused_self, reason = "the log with the feature has these methods")]
    impl Log {
        pub(crate) fn of(_: &Arc<str>, _: &dyn Debug) -> Self {
            Self
        }

        pub(crate) fn event(&self, _: &Event) {}

        pub(crate) fn lost(&self, _: Option<&Error>) {}

        pub(crate) fn l2_failed(&self, _: &Error, _: usize) {}

        pub(crate) fn attempt_failed(&self, _: &Error) {}

        pub(crate) fn refused(&self, _: Refused, _: &Error) {}

        pub(crate) fn not_encoded(&self, _: &Error) {}

        pub(crate) fn amended(&self, _: KeyHash, _: Amended, _: &str) {}

        pub(crate) fn unreadable(&self, _: KeyHash, _: UnreadableCause, _: Option<&BoxError>) {}

        pub(crate) fn load_failed(&self, _: LoadFailureLog, _: KeyHash, _: usize, _: &Error) {}
    }
}
