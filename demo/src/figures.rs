//! The results of a run, as one object.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::clock::{MILLISECOND, SECOND};
use crate::referee::{MAX_STALENESS, Referee};

/// Nanoseconds, up to a minute, to two digits.
#[derive(Debug, Clone)]
pub(crate) struct Durations(Histogram<u64>);

impl Default for Durations {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, 60 * SECOND, 2).expect("the bounds are in order"))
    }
}

impl std::ops::Deref for Durations {
    type Target = Histogram<u64>;
    fn deref(&self) -> &Histogram<u64> {
        &self.0
    }
}

impl Durations {
    pub(crate) fn saturating_record(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds);
    }
}

/// The durations of reads, by the source of the answer.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    pub(crate) l1: Durations,
    pub(crate) l2: Durations,
    pub(crate) loaded: Durations,
    pub(crate) waited: Durations,
    pub(crate) stale: Durations,
}

/// All results of the demo.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    pub(crate) mode: String,
    pub(crate) instances: usize,
    pub(crate) products: u32,
    pub(crate) traffic_seconds: f64,
    pub(crate) requests: u64,
    pub(crate) requests_per_second: f64,
    pub(crate) failed_requests: u64,
    pub(crate) l1_hits: u64,
    pub(crate) l2_hits: u64,
    pub(crate) loads: u64,
    pub(crate) waits: u64,
    pub(crate) l1_hit_percent: f64,
    pub(crate) l2_hit_percent: f64,
    pub(crate) database_queries: u64,
    pub(crate) database_queries_saved: u64,
    pub(crate) database_queries_saved_percent: f64,
    pub(crate) max_concurrent_loads_of_one_key: usize,
    /// Loads that began during another load of their key, without a write to it in between.
    pub(crate) duplicate_loads: u64,
    pub(crate) writes: u64,
    pub(crate) failed_writes: u64,
    pub(crate) cold_key: ColdKey,
    pub(crate) invalidation_lag: Quantiles,
    pub(crate) max_staleness_ms: f64,
    pub(crate) checked_reads: u64,
    pub(crate) at_risk_reads: u64,
    pub(crate) behind_reads: u64,
    pub(crate) furthest_behind_ms: f64,
    pub(crate) stale_reads: u64,
    pub(crate) latency: Outcomes,
    pub(crate) by_instance: Vec<OfInstance>,
}

/// One key that no tier had, and that many tasks asked for at once.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ColdKey {
    pub(crate) tasks: u32,
    pub(crate) failed_tasks: u32,
    pub(crate) loads: u64,
    pub(crate) loader_ms: f64,
    pub(crate) slowest_caller_ms: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcomes {
    pub(crate) l1_hit: Quantiles,
    pub(crate) l2_hit: Quantiles,
    pub(crate) load: Quantiles,
    pub(crate) wait: Quantiles,
}

/// A distribution of durations.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// The statistics that the cache of one instance reports.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct OfInstance {
    pub(crate) requests: u64,
    /// Reads answered without their own query.
    pub(crate) hit_percent: f64,
    pub(crate) l1_entries: u64,
    pub(crate) l1_suspended: bool,
    pub(crate) l1_hits: u64,
    pub(crate) l2_hits: u64,
    pub(crate) loads: u64,
    pub(crate) coalesced_waits: u64,
    pub(crate) lease_waits: u64,
    pub(crate) invalidations_sent: u64,
    pub(crate) invalidations_received: u64,
    pub(crate) fills_rejected: u64,
    pub(crate) flushes: u64,
    pub(crate) l2_errors: u64,
}

/// Inputs that the referee does not have.
#[derive(Debug, Clone)]
pub(crate) struct Circumstances {
    pub(crate) mode: String,
    pub(crate) products: u32,
    pub(crate) loader_ms: u64,
}

impl Figures {
    pub(crate) fn of(referee: &Referee, circumstances: &Circumstances) -> Self {
        let seen = &referee.seen;
        let took = seen.last.saturating_sub(seen.first.unwrap_or(seen.last));
        let seconds = took as f64 / SECOND as f64;
        let [l1, l2] = [&seen.latencies.l1, &seen.latencies.l2].map(|durations| durations.len());
        let (loads, waits) = (seen.latencies.loaded.len(), seen.latencies.waited.len());
        let saved = seen.requests.saturating_sub(loads);
        let cold = referee.cold;
        Self {
            mode: circumstances.mode.clone(),
            instances: referee.instances().len(),
            products: circumstances.products,
            traffic_seconds: round(seconds),
            requests: seen.requests,
            requests_per_second: if took == 0 { 0.0 } else { (seen.requests as f64 / seconds).round() },
            failed_requests: seen.failed,
            l1_hits: l1,
            l2_hits: l2,
            loads,
            waits,
            l1_hit_percent: percent(l1, seen.requests),
            l2_hit_percent: percent(l2, seen.requests),
            database_queries: seen.queries,
            database_queries_saved: saved,
            database_queries_saved_percent: percent(saved, seen.requests),
            max_concurrent_loads_of_one_key: seen.most_concurrent,
            duplicate_loads: seen.duplicates,
            writes: seen.writes,
            failed_writes: seen.writes_failed,
            cold_key: ColdKey {
                tasks: cold.tasks,
                failed_tasks: cold.failed,
                loads: cold.loads,
                loader_ms: circumstances.loader_ms as f64,
                slowest_caller_ms: ms(cold.slowest_ns),
            },
            invalidation_lag: Quantiles::of(&referee.lag.durations()),
            max_staleness_ms: ms(MAX_STALENESS),
            checked_reads: seen.checked,
            at_risk_reads: seen.at_risk,
            behind_reads: seen.behind,
            furthest_behind_ms: ms(seen.furthest_behind),
            stale_reads: seen.stale,
            latency: Outcomes {
                l1_hit: Quantiles::of(&seen.latencies.l1),
                l2_hit: Quantiles::of(&seen.latencies.l2),
                load: Quantiles::of(&seen.latencies.loaded),
                wait: Quantiles::of(&seen.latencies.waited),
            },
            by_instance: referee.instances().iter().map(OfInstance::of).collect(),
        }
    }
}

impl OfInstance {
    fn of(seat: &crate::referee::Seat) -> Self {
        let tiers = &seat.tiers;
        Self {
            requests: seat.requests,
            hit_percent: percent(seat.requests - seat.loaded, seat.requests),
            l1_entries: tiers.l1_entries,
            l1_suspended: tiers.l1_suspended,
            l1_hits: tiers.l1_hits,
            l2_hits: tiers.l2_hits,
            loads: tiers.loads,
            coalesced_waits: tiers.waits,
            lease_waits: tiers.lease_waits,
            invalidations_sent: tiers.invalidations_sent,
            invalidations_received: tiers.invalidations_received,
            fills_rejected: tiers.fills_rejected,
            flushes: tiers.flushes,
            l2_errors: tiers.l2_errors,
        }
    }
}

impl Quantiles {
    fn of(durations: &Durations) -> Self {
        let at = |quantile| ms(durations.value_at_quantile(quantile));
        Self { count: durations.len(), p50_ms: at(0.5), p99_ms: at(0.99), max_ms: ms(durations.max()) }
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { round(100.0 * part as f64 / whole as f64) }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Milliseconds, to the tenth of a microsecond.
fn ms(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / MILLISECOND as f64 * 10_000.0).round() / 10_000.0
}
