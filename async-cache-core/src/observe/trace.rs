//! Spans and events for `tracing` (feature `tracing`). A hit has none.
//!
//! | span | around |
//! |---|---|
//! | `cache.lookup` | a lookup that L1 did not answer, in its caller's span |
//! | `cache.load` | lease, loader and fill, in the lookup that began it |
//! | `cache.change` | an invalidation, a clear or an insert |
//!
//! Each has `namespace`; a lookup has `key`, a digest of it, and a load the number of its `keys`. Events of [`TieredCache::subscribe`](crate::TieredCache::subscribe)
//! are logged, too: what an operator should know of as warnings, ends of it as information, the rest for debugging.

pub(crate) use imp::{change, event, load, lookup, not_encoded, wanted};

#[cfg(feature = "tracing")]
mod imp {
    use std::error::Error as _;

    use tracing::level_filters::LevelFilter;
    use tracing::{Instrument, debug, debug_span, info, warn};

    use crate::error::Error;
    use crate::observe::{Event, KeyHash};

    /// Whether anybody is there to be told.
    pub(crate) fn wanted() -> bool {
        LevelFilter::current() != LevelFilter::OFF
    }

    pub(crate) fn event(namespace: &str, event: &Event) {
        match event {
            Event::L1Suspended { cause } => {
                warn!(namespace, ?cause, "L1 no longer answers");
            }
            Event::L2Lost => {
                warn!(namespace, "L2 cannot be reached");
            }
            Event::L2Refused => {
                warn!(namespace, "L2 does not permit this node what it needs");
            }
            Event::InvalidationPending { pending } => {
                warn!(namespace, pending, "an invalidation could not be sent and is being retried");
            }
            Event::L1Resumed { held } => {
                info!(namespace, ?held, "L1 answers again");
            }
            Event::L2Regained => {
                info!(namespace, "L2 can be reached again");
            }
            Event::InvalidationLanded { pending } => {
                info!(namespace, pending, "retried invalidations have landed");
            }
            Event::Unreadable { key, cause } => {
                info!(namespace, %key, ?cause, "what L2 holds cannot be read, and is loaded anew");
            }
            Event::ChoiceAmended { key, to } => {
                warn!(namespace, %key, ?to, "a loader chose an option that cannot be");
            }
            Event::LoadFailed { key, kind } => {
                debug!(namespace, %key, ?kind, "a load failed");
            }
            other => {
                debug!(namespace, event = ?other);
            }
        }
    }

    /// Says why: an event has no room for it.
    pub(crate) fn not_encoded(namespace: &str, error: &Error) {
        let cause = error.source().map(ToString::to_string);
        warn!(namespace, %error, cause, "a value cannot be stored in L2");
    }

    pub(crate) fn lookup<F: Future>(
        namespace: &str,
        key: KeyHash,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        work.instrument(debug_span!("cache.lookup", namespace, %key))
    }

    pub(crate) fn load<F: Future>(
        namespace: &str,
        keys: usize,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        work.instrument(debug_span!("cache.load", namespace, keys))
    }

    pub(crate) fn change<F: Future>(namespace: &str, work: F) -> impl Future<Output = F::Output> + use<F> {
        work.instrument(debug_span!("cache.change", namespace))
    }
}

#[cfg(not(feature = "tracing"))]
mod imp {
    use crate::error::Error;
    use crate::observe::{Event, KeyHash};

    pub(crate) fn not_encoded(_: &str, _: &Error) {}

    pub(crate) fn wanted() -> bool {
        false
    }

    pub(crate) fn event(_: &str, _: &Event) {}

    pub(crate) fn lookup<F: Future>(_: &str, _: KeyHash, work: F) -> F {
        work
    }

    pub(crate) fn load<F: Future>(_: &str, _: usize, work: F) -> F {
        work
    }

    pub(crate) fn change<F: Future>(_: &str, work: F) -> F {
        work
    }
}
