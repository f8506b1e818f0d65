//! Spans and events for `tracing` (feature `tracing`). A hit has none.
//!
//! | span | around |
//! |---|---|
//! | `cache.lookup` | a lookup that L1 did not answer, in its caller's span |
//! | `cache.load` | lease, loader and fill, in the span of the lookup that began the load |
//! | `cache.change` | an invalidation, a clear or an insert |
//!
//! All spans and events have the target `async_cache`. A task of the cache runs in the span of its caller. This
//! holds for loaders, batches and refreshes, even if a filter removes the spans of this crate.
//!
//! Each span has `namespace`. A lookup also has `key`, a digest of its key, and a load has the number of its
//! `keys`. The events of [`TieredCache::subscribe`](crate::api::cache::TieredCache::subscribe) are logged, too:
//! at warn or info level if an operator should know them, and at debug level otherwise.

pub(crate) use imp::{
    Digest, change, digest, event, here, load, load_failed, lookup, lost, not_encoded, refused, wanted,
};

#[cfg(feature = "tracing")]
mod imp {
    use std::error::Error as _;

    use tracing::level_filters::LevelFilter;
    use tracing::{Instrument, debug, debug_span, info, warn};

    use crate::error::{Error, ErrorKind};
    use crate::observe::event::{Event, KeyHash, LoadFailureLog};

    /// The target of all spans and events.
    const TARGET: &str = "async_cache";

    /// Whether a subscriber may be interested.
    pub(crate) fn wanted() -> bool {
        LevelFilter::current() != LevelFilter::OFF
    }

    pub(crate) fn event(namespace: &str, event: &Event) {
        match event {
            Event::L1Suspended { cause } => {
                warn!(target: TARGET, namespace, ?cause, "L1 no longer answers");
            }
            Event::InvalidationPending { pending } => {
                warn!(target: TARGET, namespace, pending, "an invalidation could not be sent and is being retried");
            }
            Event::L1Resumed { held } => {
                info!(target: TARGET, namespace, ?held, "L1 answers again");
            }
            Event::L2Regained => {
                info!(target: TARGET, namespace, "L2 can be reached again");
            }
            Event::InvalidationLanded { pending } => {
                info!(target: TARGET, namespace, pending, "retried invalidations have landed");
            }
            Event::Unreadable { key, cause } => {
                info!(target: TARGET, namespace, %key, ?cause, "a value stored in L2 cannot be read, and is loaded again");
            }
            Event::ChoiceAmended { key, to } => {
                warn!(target: TARGET, namespace, %key, ?to, "a loader chose an invalid option");
            }
            // These are logged with their causes where they happen.
            Event::LoadFailed { .. } | Event::L2Lost | Event::L2Refused => {}
            other => {
                debug!(target: TARGET, namespace, event = ?other);
            }
        }
    }

    /// Logs the cause, if it is known. An event has no room for it.
    pub(crate) fn lost(namespace: &str, why: Option<&Error>) {
        let cause = why.map(|error| format!("{error:#}"));
        warn!(target: TARGET, namespace, cause, "L2 cannot be reached");
    }

    /// Logs the cause, because an event has no room for it.
    pub(crate) fn refused(namespace: &str, why: &Error) {
        warn!(target: TARGET, namespace, cause = format!("{why:#}"), "L2 does not permit this node what it needs");
    }

    /// Logs the cause, because an event has no room for it.
    pub(crate) fn not_encoded(namespace: &str, error: &Error) {
        let cause = error.source().map(ToString::to_string);
        warn!(target: TARGET, namespace, %error, cause, "a value cannot be stored in L2");
    }

    /// The digest of a key, if spans are collected.
    pub(crate) type Digest = Option<KeyHash>;

    /// Takes the digest of a key, if spans are collected.
    pub(crate) fn digest(key: &[u8]) -> Digest {
        (LevelFilter::current() >= LevelFilter::DEBUG).then(|| KeyHash::of(key))
    }

    pub(crate) fn lookup<F: Future>(
        namespace: &str,
        key: Digest,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let key = key.map(tracing::field::display);
        work.instrument(debug_span!(target: TARGET, "cache.lookup", namespace, key))
    }

    pub(crate) fn load<F: Future>(
        namespace: &str,
        keys: usize,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        // `here` keeps the load in the span of its caller even if a filter removes this span.
        here(work.instrument(debug_span!(target: TARGET, "cache.load", namespace, keys)))
    }

    pub(crate) fn change<F: Future>(namespace: &str, work: F) -> impl Future<Output = F::Output> + use<F> {
        here(work.instrument(debug_span!(target: TARGET, "cache.change", namespace)))
    }

    /// Runs a task in the span of the task that begins it.
    pub(crate) fn here<F: Future>(work: F) -> impl Future<Output = F::Output> + use<F> {
        work.in_current_span()
    }

    /// Logs keys that could not be loaded.
    pub(crate) fn load_failed(
        namespace: &str,
        log: LoadFailureLog,
        key: KeyHash,
        keys: usize,
        error: &Error,
    ) {
        let kind = error.kind();
        match log {
            LoadFailureLog::Warn if kind != ErrorKind::Shutdown => {
                let cause = format_args!("{error:#}");
                warn!(target: TARGET, namespace, %key, keys, ?kind, %cause, "a load failed");
            }
            LoadFailureLog::Warn | LoadFailureLog::Off => {
                debug!(target: TARGET, namespace, %key, keys, ?kind, "a load failed");
            }
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod imp {
    use crate::error::Error;
    use crate::observe::event::{Event, KeyHash, LoadFailureLog};

    pub(crate) fn lost(_: &str, _: Option<&Error>) {}

    pub(crate) fn refused(_: &str, _: &Error) {}

    pub(crate) fn not_encoded(_: &str, _: &Error) {}

    pub(crate) fn wanted() -> bool {
        false
    }

    pub(crate) fn event(_: &str, _: &Event) {}

    /// Stands for a digest that nothing reads.
    pub(crate) struct Digest;

    pub(crate) fn digest(_: &[u8]) -> Digest {
        Digest
    }

    pub(crate) fn lookup<F: Future>(_: &str, _: Digest, work: F) -> F {
        work
    }

    pub(crate) fn load<F: Future>(_: &str, _: usize, work: F) -> F {
        work
    }

    pub(crate) fn change<F: Future>(_: &str, work: F) -> F {
        work
    }

    pub(crate) fn here<F: Future>(work: F) -> F {
        work
    }

    pub(crate) fn load_failed(_: &str, _: LoadFailureLog, _: KeyHash, _: usize, _: &Error) {}
}
