//! Runs with all public methods and all safeguards.

use std::sync::atomic::{AtomicU64, Ordering};

use integration_tests::simulation::Off;
use integration_tests::simulation::whole::{Outcome, run};
use parking_lot::Mutex;

/// The number of seeds in one test run.
const SEEDS: u64 = if cfg!(debug_assertions) { 60 } else { 1_000 };

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn every_promise_is_kept_whatever_is_called() {
    if let Some(seed) = number("SEED") {
        let outcome = run(seed, Off::Nothing, true);
        assert!(
            outcome.breach.is_none(),
            "{}",
            outcome.breach.map_or_else(String::new, |told| told.to_string())
        );
        return;
    }
    let (seeds, next) = (number("SEEDS").unwrap_or(SEEDS), AtomicU64::new(0));
    let (total, failed) = (Mutex::new([0; 3]), Mutex::new(Vec::<(u64, Outcome)>::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds || failed.lock().len() >= 10 {
                        return;
                    }
                    let outcome = run(seed, Off::Nothing, false);
                    let parts = [outcome.answers, outcome.loads, outcome.changes];
                    total.lock().iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
                    if outcome.breach.is_some() {
                        failed.lock().push((seed, outcome));
                    }
                }
            });
        }
    });
    let [answers, loads, changes] = *total.lock();
    println!("{seeds} seeds: {answers} answers, {loads} loads and inserts, {changes} changes");
    let failed = failed.lock();
    for (_, outcome) in &*failed {
        println!("{}\n", outcome.breach.as_ref().map_or_else(String::new, ToString::to_string));
    }
    assert!(failed.is_empty(), "{} seeds fail", failed.len());
}

#[test]
fn a_seed_is_a_history() {
    for seed in 0..if cfg!(debug_assertions) { 10 } else { 100 } {
        let (first, second) = (run(seed, Off::Nothing, false), run(seed, Off::Nothing, false));
        assert_eq!(first.fingerprint, second.fingerprint, "seed {seed}");
    }
}
