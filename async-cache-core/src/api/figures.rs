//! The counters and gauges of a cache, collected from its parts.

use crate::backend::LocalBackend;
use crate::inner::Inner;
use crate::observe::Stats;

/// The present counters and gauges.
pub(crate) fn stats<V: 'static>(inner: &Inner<V>) -> Stats {
    Stats {
        l1_hits: inner.local.hits.get(),
        l1_suspended: inner.local.exists() && !inner.local.liveness.node.is_serving(),
        l2_refused: inner.local.liveness.refusals.exist(),
        l2_breaker_open: inner.local.liveness.is_cut_off(),
        entries: inner.local.engine().map_or(0, LocalBackend::len),
        l1_refused: inner.local.engine().map_or(0, LocalBackend::refused),
        in_flight: inner.local.stripes.in_flight() as u64,
        pending_invalidations: inner.local.liveness.unsent.len() as u64,
        ..inner.observer.counters.snapshot()
    }
}

/// Copies the counters and gauges to the installed recorder until the cache is closed.
#[cfg(feature = "metrics")]
pub(crate) async fn run<V: Send + Sync + 'static>(inner: std::sync::Arc<Inner<V>>) {
    let mut ticks = tokio::time::interval(std::time::Duration::from_secs(1));
    for tick in 0_u64.. {
        ticks.tick().await;
        if tick % DESCRIBE_EVERY == 0 {
            crate::observe::describe();
        }
        publish(&inner);
        // It may have been closed meanwhile, by another thread whose figures these have replaced.
        if inner.lifecycle.closing.is_cancelled() {
            publish(&inner);
        }
    }
}

/// The number of seconds after which the metrics are described again. The recorder may have been installed since.
#[cfg(feature = "metrics")]
const DESCRIBE_EVERY: u64 = 60;

/// Copies the counters and gauges to the installed recorder.
#[cfg(feature = "metrics")]
pub(crate) fn publish<V: 'static>(inner: &Inner<V>) {
    let closed = inner.lifecycle.closing.is_cancelled();
    let stats = if closed { last_stats(inner) } else { stats(inner) };
    let age =
        || if closed { std::time::Duration::ZERO } else { inner.local.liveness.node.serving_lease_age() };
    inner.observer.instruments.publish(&stats, inner.remote.as_ref().map(|_| age()));
}

/// The figures that a closed cache leaves behind. A recorder keeps the last value of a gauge, so those of its
/// state are 0: nothing is suspended or refused any more. Invalidations that were not sent stay counted.
#[cfg(feature = "metrics")]
fn last_stats<V: 'static>(inner: &Inner<V>) -> Stats {
    Stats {
        l1_suspended: false,
        l2_refused: false,
        l2_breaker_open: false,
        entries: 0,
        in_flight: 0,
        ..stats(inner)
    }
}
