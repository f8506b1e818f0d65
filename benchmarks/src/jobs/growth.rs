//! How costs grow with entries and with nodes.

use std::hint::black_box;
use std::time::Instant;

use async_cache::{MemoryBackend, TieredCache};

use super::{fanout, ready, runtime};
use crate::Context;
use crate::report::{Figure, Table};

pub(crate) fn entries(context: &Context) -> Table {
    let mut table = Table::new("Growth with entries: L1 insert and hit, uniform keys", "ns");
    let runtime = runtime();
    let _inside = runtime.enter();
    let _ = context;
    for (entries, name) in
        [(1_000_u64, "10^3"), (10_000, "10^4"), (100_000, "10^5"), (1_000_000, "10^6"), (10_000_000, "10^7")]
    {
        let cache: TieredCache<u64, u64> =
            TieredCache::builder().l1(MemoryBackend::new(entries)).build().expect("a cache");
        let start = Instant::now();
        for i in 0..entries {
            ready(cache.insert(&i, i).into_future()).expect("an insert");
        }
        let insert = start.elapsed().as_nanos() as f64 / entries as f64;
        let mut random = fastrand::Rng::with_seed(3);
        let drawn: Vec<u64> = (0..500_000).map(|_| random.u64(..entries)).collect();
        let mut samples = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            let hits =
                drawn.iter().filter(|key| ready(cache.get(black_box(*key))).is_ok_and(|v| v.is_some()));
            black_box(hits.count());
            samples.push(start.elapsed().as_nanos() as f64 / drawn.len() as f64);
        }
        table.row(
            format!("{name} entries"),
            None,
            vec![Figure::of("hit".to_owned(), Ok(samples)), Figure::one("insert", insert)],
        );
    }
    table
}

pub(crate) fn nodes(context: &Context) -> Table {
    let mut table = fanout::run(context, &[1, 8, 64]);
    "Growth with nodes: an invalidation reaching them".clone_into(&mut table.title);
    table
}
