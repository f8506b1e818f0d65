//! Observes the caches of a node process at intervals: how long L1 serves, and the statistics of the caches.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_cache::Stats;

use crate::ledger::{Count, Global, LOOK_EVERY, Ledger, now};
use crate::node::Handle;

/// Runs while the process lives.
pub(crate) fn watch(handles: &[Arc<Handle>], runtime: &tokio::runtime::Handle) {
    let Some(ledger) = handles.first().map(|handle| handle.ledger) else { return };
    let mut known: HashMap<usize, [u64; 3]> = HashMap::new();
    let mut last = now();
    let mut was_quiet = false;
    handles.iter().for_each(|handle| ledger.add(handle.index, Count::Starts, 1));
    loop {
        std::thread::sleep(LOOK_EVERY);
        let at = now();
        let passed = at - last;
        last = at;
        let quiet = ledger.global(Global::Fault).load(Ordering::Relaxed) == 0;
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
            let counts =
                [sum(|stats| stats.l1_hits), sum(|stats| stats.lease_waits), sum(|stats| stats.flushes)];
            let before = known.entry(handle.index).or_default();
            for (count, at) in [Count::L1Hits, Count::Waits, Count::Flushes].into_iter().zip(0..) {
                ledger.add(handle.index, count, counts[at] - before[at]);
            }
            *before = counts;
        }
        if ledger.global(Global::Resting).load(Ordering::Acquire) > 0 {
            rest(handles, runtime, ledger);
        }
        was_quiet = quiet;
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
