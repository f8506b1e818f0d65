//! Observes the caches of a node process at intervals: how long L1 serves, and the statistics of the caches.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_cache::Stats;

use crate::ledger::{Count, Global, LOOK_EVERY, Ledger, now};
use crate::node::Handle;
use crate::promise::Promise;
use crate::verifier::Reports;

/// The counts of the caches that are added up in the ledger.
const COUNTED: [(Count, Figure); 6] = [
    (Count::L1Hits, |stats| stats.l1_hits),
    (Count::Waits, |stats| stats.lease_waits),
    (Count::Flushes, |stats| stats.flushes),
    (Count::Verified, |stats| stats.verified_hits),
    (Count::Unverified, |stats| stats.verify_skipped),
    (Count::Suspected, |stats| stats.suspected_hits),
];

/// A figure of a cache.
type Figure = fn(&Stats) -> u64;

/// Runs while the process lives.
pub(crate) fn watch(handles: &[Arc<Handle>], runtime: &tokio::runtime::Handle) {
    let Some(ledger) = handles.first().map(|handle| handle.ledger) else { return };
    let mut known: HashMap<usize, [u64; COUNTED.len()]> = HashMap::new();
    let mut reports = Reports::of(handles);
    let mut last = now();
    let mut was_quiet = false;
    let mut unharmed = Unharmed::default();
    handles.iter().for_each(|handle| ledger.add(handle.index, Count::Starts, 1));
    loop {
        std::thread::sleep(LOOK_EVERY);
        let at = now();
        let passed = at - last;
        last = at;
        let quiet = ledger.global(Global::Fault).load(Ordering::Relaxed) == 0;
        unharmed.look(handles, ledger, passed);
        for handle in handles {
            let serving =
                handle.cache.is_serving() && handle.lives.is_serving() && handle.desk.cache.is_serving();
            let add = |count, when| ledger.add(handle.index, count, if when { passed } else { 0 });
            add(Count::TotalNs, true);
            add(Count::SuspendedNs, !serving);
            add(Count::QuietNs, quiet && was_quiet);
            add(Count::QuietSuspendedNs, quiet && was_quiet && !serving);
            let all = [handle.cache.stats(), handle.lives.stats(), handle.desk.cache.stats()];
            let sum = |of: fn(&Stats) -> u64| all.iter().map(of).sum::<u64>();
            let gauge = |count, value| ledger.count(handle.index, count).store(value, Ordering::Release);
            gauge(Count::Serving, u64::from(serving));
            gauge(Count::Pending, sum(|stats| stats.pending_invalidations));
            gauge(Count::SeenAt, at);
            gauge(Count::InFlight, sum(|stats| stats.in_flight));
            gauge(Count::Entries, sum(|stats| stats.entries));
            let counts = COUNTED.map(|(_, of)| sum(of));
            let before = known.entry(handle.index).or_default();
            for (at, (count, _)) in COUNTED.into_iter().enumerate() {
                ledger.add(handle.index, count, counts[at] - before[at]);
            }
            *before = counts;
        }
        reports.look(ledger);
        if ledger.global(Global::Resting).load(Ordering::Acquire) > 0 {
            rest(handles, runtime, ledger);
        }
        was_quiet = quiet;
    }
}

/// The partitions that a fault of other servers must not concern.
#[derive(Debug, Default)]
struct Unharmed {
    /// Those of the last look, by namespace.
    last: [u64; 3],
    /// Whether this fault has been reported.
    told: bool,
}

/// After a pause of this process or of the checker for a moment, partitions are not judged for this time.
const PAUSE_FELT_NS: u64 = 2_000_000_000;

impl Unharmed {
    /// Adds the time since the last look, if the same partitions were concerned, and reports a suspended one.
    fn look(&mut self, handles: &[Arc<Handle>], ledger: &Ledger, passed: u64) {
        let now_unharmed = Global::UNHARMED.map(|global| ledger.global(global).load(Ordering::Acquire));
        let last = std::mem::replace(&mut self.last, now_unharmed);
        if last != now_unharmed || last == [0; 3] {
            self.told = false;
            return;
        }
        let paused_at = ledger.global(Global::PausedAt).load(Ordering::Acquire);
        if paused_at.saturating_add(PAUSE_FELT_NS) > now() {
            return;
        }
        for handle in handles {
            let serving = [
                handle.cache.serving_partitions(),
                handle.lives.serving_partitions(),
                handle.desk.cache.serving_partitions(),
            ];
            let (mut watched, mut suspended) = (0, Vec::new());
            for (space, (serving, bits)) in serving.iter().zip(last).enumerate() {
                let unharmed = (0..serving.len()).filter(|at| bits >> at & 1 == 1);
                for partition in unharmed {
                    watched += 1;
                    if !serving[partition] {
                        suspended.push((space, partition));
                    }
                }
            }
            ledger.add(handle.index, Count::UnharmedNs, passed * watched);
            ledger.add(handle.index, Count::UnharmedSuspendedNs, passed * suspended.len() as u64);
            // The fault may have ended in between.
            let goes_on =
                Global::UNHARMED.map(|global| ledger.global(global).load(Ordering::Acquire)) == last;
            if !suspended.is_empty() && goes_on && !std::mem::replace(&mut self.told, true) {
                let what = format!(
                    "handle {}: L1 is suspended for (namespace, partition) {suspended:?}",
                    handle.index
                );
                ledger.accuse(Promise::Isolation, None, what);
            }
        }
    }
}

/// Notes what is left after the traffic has ended.
fn rest(handles: &[Arc<Handle>], runtime: &tokio::runtime::Handle, ledger: &Ledger) {
    let Some(first) = handles.first() else { return };
    let gauge =
        |handle: &Handle, count, value| ledger.count(handle.index, count).store(value, Ordering::Release);
    for handle in handles {
        let idle = handle.cache.is_idle() && handle.lives.is_idle() && handle.desk.cache.is_idle();
        gauge(handle, Count::Rested, u64::from(idle));
    }
    gauge(first, Count::Tasks, runtime.metrics().num_alive_tasks() as u64);
    gauge(first, Count::RssBytes, rss_bytes());
}

/// The memory of this process in bytes, as the kernel counts its pages.
fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
