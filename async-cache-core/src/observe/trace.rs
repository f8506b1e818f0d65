//! Spans for `tracing` (feature `tracing`). A hit has none.
//!
//! | span | around |
//! |---|---|
//! | `cache.lookup` | a lookup that L1 did not answer, in its caller's span |
//! | `cache.load` | lease, loader and fill, in the span of the lookup that began the load |
//! | `cache.change` | an invalidation, a clear or an insert |
//!
//! Inside these, each stage has a span of its own: `cache.read`, `cache.lease` and `cache.fill` for commands of
//! lookups, `cache.put`, `cache.invalidate`, `cache.invalidate_tags` and `cache.clear` for commands of changes,
//! and `cache.wait` for a wait, with `for` as in the metrics. The spans of a loader are directly in `cache.load`.
//!
//! All spans and events have the target `async_cache`. A task of the cache runs in the span of its caller. This
//! holds for loaders, batches and refreshes, even if a filter removes the spans of this crate.
//!
//! Each span has `namespace`. A lookup also has `key`, a digest of its key, and a load has the number of its
//! `keys`. The events of [`TieredCache::subscribe`](crate::api::cache::TieredCache::subscribe) are logged, too:
//! at warn or info level if an operator should know them, and at debug level otherwise.

#[cfg(feature = "tracing")]
pub(crate) use imp::TARGET;
pub(crate) use imp::{change, digest, here, load, lookup, stage};

#[cfg(feature = "tracing")]
mod imp {
    use tracing::level_filters::LevelFilter;
    use tracing::{Instrument, debug_span};

    use crate::observe::event::KeyHash;
    use crate::observe::stage::Stage;

    /// The target of all spans and events.
    pub(crate) const TARGET: &str = "async_cache";

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

    /// Runs a stage of a lookup or change in a span of its own.
    pub(crate) fn stage<F: Future>(
        namespace: &str,
        stage: Stage,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let span = match stage {
            Stage::Read => debug_span!(target: TARGET, "cache.read", namespace),
            Stage::Lease => debug_span!(target: TARGET, "cache.lease", namespace),
            Stage::Fill => debug_span!(target: TARGET, "cache.fill", namespace),
            Stage::Put => debug_span!(target: TARGET, "cache.put", namespace),
            Stage::Invalidate => debug_span!(target: TARGET, "cache.invalidate", namespace),
            Stage::InvalidateTags => debug_span!(target: TARGET, "cache.invalidate_tags", namespace),
            Stage::Clear => debug_span!(target: TARGET, "cache.clear", namespace),
            Stage::WaitForFlight => debug_span!(target: TARGET, "cache.wait", namespace, r#for = "flight"),
            Stage::WaitForLease => debug_span!(target: TARGET, "cache.wait", namespace, r#for = "lease"),
        };
        work.instrument(span)
    }
}

#[cfg(not(feature = "tracing"))]
mod imp {
    use crate::observe::stage::Stage;

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

    pub(crate) fn stage<F: Future>(_: &str, _: Stage, work: F) -> F {
        work
    }
}
