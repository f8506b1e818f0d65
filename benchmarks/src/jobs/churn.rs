//! L1 inserts under eviction, and hit ratios.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use async_cache::backend::{Entry, Expiry, LocalBackend, NodeId, Tick, Token};
use async_cache::key::Key;
use async_cache::{Engine, MemoryBackend, Tags};
use quick_cache::sync::Cache as QuickCache;
use serde_json::json;

use crate::Context;
use crate::contest::{Side, contest};
use crate::order::zipf;
use crate::report::{Figure, Table};
use crate::trace::trace;

const CAPACITY: usize = 100_000;
const INSERTS: usize = 100_000;

fn entry() -> Entry<u64> {
    Entry {
        value: Some(Arc::new(0)),
        life: Expiry::new(Tick::MAX, Tick::MAX, std::time::Duration::ZERO, std::time::Duration::ZERO),
        generation: 0,
        seq: 0,
        token: Token { node: NodeId(0), counter: 0 },
        tags: Tags::NONE,
    }
}

/// Returns the time of one insert in ns: the mean, and the mean of the slowest 100 consecutive inserts.
fn timed(next: &mut u64, mut insert: impl FnMut(u64)) -> (f64, f64) {
    let (start, mut slowest) = (Instant::now(), 0.0_f64);
    for _ in 0..INSERTS / 100 {
        let begun = Instant::now();
        for _ in 0..100 {
            *next += 1;
            insert(*next);
        }
        slowest = slowest.max(begun.elapsed().as_nanos() as f64 / 100.0);
    }
    (start.elapsed().as_nanos() as f64 / INSERTS as f64, slowest)
}

pub(crate) fn inserts(context: &Context) -> Table {
    let mut table = Table::new("L1 insert under eviction", "ns per insert");
    for (case, slowest) in [("mean", false), ("slowest 100 in a row", true)] {
        let pick = move |(mean, worst): (f64, f64)| if slowest { worst } else { mean };
        let mut sides = Vec::new();
        for (name, engine) in [("async-cache", Engine::Quick), ("async-cache on moka", Engine::Moka)] {
            let cache = MemoryBackend::builder().max_capacity(CAPACITY as u64).engine(engine).build();
            let mut next = 0;
            sides.push(Side::new(name, move || {
                pick(timed(&mut next, |n| cache.insert(&Key::from_encoded(&n.to_be_bytes()), entry())))
            }));
        }
        let (quick, mut next) = (QuickCache::<u64, Arc<u64>>::new(CAPACITY), 0);
        sides
            .push(Side::new("quick_cache", move || pick(timed(&mut next, |n| quick.insert(n, Arc::new(n))))));
        let (moka, mut next) = (moka::sync::Cache::<u64, Arc<u64>>::new(CAPACITY as u64), 0);
        sides.push(Side::new("moka", move || pick(timed(&mut next, |n| moka.insert(n, Arc::new(n))))));
        let ask = json!({ "capacity": CAPACITY, "inserts": INSERTS, "slowest": slowest });
        sides.extend(context.peers.sides("churn", &ask));
        table.row(case, Some("quick_cache"), contest(context.rounds, sides));
    }
    table
}

/// The fraction of lookups that hit. Each miss is inserted.
fn ratio(cache: &impl LocalBackend<u64>, order: &[u32]) -> f64 {
    let mut hits = 0_usize;
    for key in order {
        let key = Key::from_encoded(&key.to_be_bytes());
        if cache.get(key.as_bytes()).is_some() {
            hits += 1;
        } else {
            cache.insert(&key, entry());
        }
    }
    100.0 * hits as f64 / order.len() as f64
}

pub(crate) fn ratios() -> Table {
    let mut table = Table::new("L1 hit ratio", "% of lookups").more_is_better();
    let orders = [
        ("zipf 100,000", Some(zipf(100_000, 1_000_000, 11))),
        ("trace web12", trace("web12", true)),
        (
            "trace orm-busy, first million",
            trace("orm-busy", false).map(|mut keys| {
                keys.truncate(1_000_000);
                keys
            }),
        ),
    ];
    for (name, order) in orders {
        let Some(order) = order else {
            table.note(format!("{name}: the trace is not at hand"));
            continue;
        };
        let distinct = order.iter().collect::<HashSet<_>>().len();
        for share in [1, 5, 20] {
            let capacity = (distinct * share / 100) as u64;
            let of = |engine| {
                ratio(&MemoryBackend::builder().max_capacity(capacity).engine(engine).build(), &order)
            };
            let figures = vec![
                Figure::one("async-cache", of(Engine::Quick)),
                Figure::one("async-cache on moka", of(Engine::Moka)),
            ];
            table.row(
                format!("{name}, room for {share} % of its keys"),
                Some("async-cache on moka"),
                figures,
            );
        }
    }
    table
}
