//! The order of keys in a round, and its timing. The driver and the Rust peers both
//! compile this file, so their figures are comparable.

use std::sync::Barrier;
use std::time::Instant;

/// Zipf-distributed indices below `keys`: the index of rank r has the weight 1 ÷ r^0.99.
pub(crate) fn zipf(keys: usize, length: usize, seed: u64) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sum = 0.0;
    let cumulated: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += (rank as f64).powf(-0.99);
            sum
        })
        .collect();
    // Ranks are spread over the keys, so hot keys are not neighbours in memory.
    let mut spread: Vec<u32> = (0..keys as u32).collect();
    random.shuffle(&mut spread);
    (0..length)
        .map(|_| {
            let drawn = random.f64() * sum;
            spread[cumulated.partition_point(|weight| *weight < drawn).min(keys - 1)]
        })
        .collect()
}

/// Runs `lookup` over the order. Each thread takes a part of it, and keeps the result of `enter`. Returns ns
/// per lookup.
pub(crate) fn timed<G>(
    threads: usize,
    order: &[u32],
    enter: impl Fn() -> G + Sync,
    lookup: impl Fn(usize) + Sync,
) -> f64 {
    let start_line = Barrier::new(threads + 1);
    let (enter, lookup, start_line) = (&enter, &lookup, &start_line);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let _inside = enter();
                    let share = order.len() / threads;
                    start_line.wait();
                    order[share * thread..][..share].iter().for_each(|at| lookup(*at as usize));
                })
            })
            .collect();
        start_line.wait();
        let start = Instant::now();
        running.into_iter().for_each(|thread| thread.join().expect("a thread"));
        start.elapsed().as_nanos() as f64 / order.len() as f64
    })
}
