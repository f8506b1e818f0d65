//! Runs with all safeguards.

use std::sync::atomic::{AtomicU64, Ordering};

use integration_tests::simulation::{Off, Outcome, run};
use parking_lot::Mutex;

/// The number of seeds in one test run. It takes a few minutes.
const SEEDS: u64 = if cfg!(debug_assertions) { 200 } else { 10_000 };

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[derive(Default)]
struct Total {
    outcome: Mutex<[u64; 4]>,
    failed: Mutex<Vec<(u64, Outcome)>>,
}

#[test]
fn every_seed_keeps_the_promise() {
    if let Some(seed) = number("SEED") {
        let outcome = run(seed, Off::Nothing, true);
        println!("{outcome:?}");
        assert_eq!(outcome.violation, None, "seed {seed}");
        return;
    }
    let (seeds, next, total) = (number("SEEDS").unwrap_or(SEEDS), AtomicU64::new(0), Total::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds || total.failed.lock().len() >= 10 {
                        return;
                    }
                    let outcome = run(seed, Off::Nothing, false);
                    let parts = [outcome.reads, outcome.at_risk, outcome.changes, outcome.loads];
                    total.outcome.lock().iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
                    if outcome.violation.is_some() {
                        total.failed.lock().push((seed, outcome));
                    }
                }
            });
        }
    });
    let [reads, at_risk, changes, loads] = *total.outcome.lock();
    println!("{seeds} seeds: {reads} reads, {at_risk} of them at risk, {changes} changes, {loads} loads");
    let failed = total.failed.lock();
    for (seed, outcome) in &*failed {
        println!("SEED={seed} fails: {:?}", outcome.violation);
    }
    assert!(failed.is_empty(), "{} seeds fail; SEED={} prints what happened", failed.len(), failed[0].0);
}

#[test]
fn a_seed_is_a_history() {
    for seed in 0..if cfg!(debug_assertions) { 20 } else { 200 } {
        let (first, second) = (run(seed, Off::Nothing, false), run(seed, Off::Nothing, false));
        assert_eq!(first.fingerprint, second.fingerprint, "seed {seed}");
        assert_ne!(first.fingerprint, run(seed + 1, Off::Nothing, false).fingerprint, "seed {seed}");
    }
}
