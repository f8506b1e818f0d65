//! L1 hits.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;

use async_cache::{Engine, MemoryBackend, TieredCache};
use quick_cache::sync::Cache as QuickCache;
use serde_json::json;
use tokio::runtime::Runtime;

use super::{ready, runtime};
use crate::Context;
use crate::contest::{Side, contest};
use crate::order::{self, zipf};
use crate::report::Table;

const LOOKUPS: usize = 200_000;

/// The differences of a case from `zipf 100,000, &str, 64 B, 1 thread, get`.
struct Case {
    name: &'static str,
    keys: usize,
    key: &'static str,
    bytes: usize,
    threads: usize,
    verb: &'static str,
}

const BASE: Case =
    Case { name: "zipf 100,000", keys: 100_000, key: "str", bytes: 64, threads: 1, verb: "get" };

fn cases() -> [Case; 8] {
    [
        BASE,
        Case { name: "get_or_load", verb: "get_or_load", ..BASE },
        Case { name: "u64 keys", key: "u64", ..BASE },
        Case { name: "values of 1 KiB", bytes: 1024, ..BASE },
        Case { name: "1,000 hot keys", keys: 1000, ..BASE },
        Case { name: "2 threads", threads: 2, ..BASE },
        Case { name: "4 threads", threads: 4, ..BASE },
        Case { name: "8 threads", threads: 8, ..BASE },
    ]
}

pub(crate) fn run(context: &Context) -> Table {
    let mut table = Table::new("L1 hit", "ns per lookup, all threads together");
    let runtime = runtime();
    for case in cases() {
        let order = zipf(case.keys, LOOKUPS, 7);
        let texts: Vec<String> = (0..case.keys).map(|i| format!("user:{i:06}")).collect();
        let mut sides = match case.key {
            "u64" => numbers(&runtime, &case, &order),
            _ => strings(&runtime, &case, &order, &texts),
        };
        let ask = json!({
            "keys": case.keys, "key": case.key, "bytes": case.bytes, "threads": case.threads,
            "verb": case.verb, "lookups": LOOKUPS, "redis": context.redis.url(),
        });
        sides.extend(context.peers.sides("l1", &ask));
        table.row(case.name, Some("quick_cache"), contest(context.rounds, sides));
    }
    table.note("Other cases differ from the first, `get` of `&str` keys with values of 64 B on one thread, as they say.");
    table.note("A `HashMap` that is only read shares nothing but what nobody writes: as much as its figure falls with a second thread, so much does the machine give.");
    table
}

fn timed(threads: usize, order: &[u32], lookup: impl Fn(usize) + Sync) -> f64 {
    order::timed(threads, order, || (), lookup)
}

fn load(bytes: usize) -> std::future::Ready<Result<Vec<u8>, Infallible>> {
    std::future::ready(Ok(vec![0; bytes]))
}

fn ours<K: async_cache::CacheKey>(
    runtime: &Runtime,
    engine: Engine,
    case: &Case,
    key: impl Fn(usize) -> K,
) -> TieredCache<K, Vec<u8>> {
    let _inside = runtime.enter();
    let l1 = MemoryBackend::builder().max_capacity(case.keys as u64 * 2).engine(engine).build();
    let cache = TieredCache::builder().l1(l1).build().expect("a cache");
    let entries = (0..case.keys).map(|i| (key(i), vec![0; case.bytes]));
    runtime.block_on(cache.insert_many(entries).into_future()).expect("an insert");
    cache
}

fn strings<'a>(runtime: &Runtime, case: &'a Case, order: &'a [u32], texts: &'a [String]) -> Vec<Side<'a>> {
    let mut sides = Vec::new();
    let bytes = case.bytes;
    for (name, engine) in [("async-cache", Engine::Quick), ("async-cache on moka", Engine::Moka)] {
        let cache = ours(runtime, engine, case, |i| texts[i].clone());
        sides.push(Side::new(name, move || match case.verb {
            "get" => timed(case.threads, order, |at| drop(black_box(ready(cache.get(texts[at].as_str()))))),
            _ => timed(case.threads, order, |at| {
                drop(black_box(ready(cache.get_or_load(texts[at].as_str(), move || load(bytes)))));
            }),
        }));
    }
    let quick = QuickCache::<String, Arc<Vec<u8>>>::new(case.keys * 2);
    let moka = moka::sync::Cache::<String, Arc<Vec<u8>>>::new(case.keys as u64 * 2);
    for text in texts {
        quick.insert(text.clone(), Arc::new(vec![0; case.bytes]));
        moka.insert(text.clone(), Arc::new(vec![0; case.bytes]));
    }
    sides.push(Side::new("quick_cache", move || {
        timed(case.threads, order, |at| drop(black_box(quick.get(texts[at].as_str()))))
    }));
    sides.push(Side::new("moka", move || {
        timed(case.threads, order, |at| drop(black_box(moka.get(texts[at].as_str()))))
    }));
    let map: HashMap<&str, Vec<u8>> = texts.iter().map(|text| (text.as_str(), vec![0; case.bytes])).collect();
    sides.push(Side::new("HashMap, only read", move || {
        timed(case.threads, order, |at| _ = black_box(map.get(texts[at].as_str())))
    }));
    sides
}

fn numbers<'a>(runtime: &Runtime, case: &'a Case, order: &'a [u32]) -> Vec<Side<'a>> {
    let mut sides = Vec::new();
    for (name, engine) in [("async-cache", Engine::Quick), ("async-cache on moka", Engine::Moka)] {
        let cache = ours(runtime, engine, case, |i| i as u64);
        sides.push(Side::new(name, move || {
            timed(case.threads, order, |at| drop(black_box(ready(cache.get(&(at as u64))))))
        }));
    }
    let quick = QuickCache::<u64, Arc<Vec<u8>>>::new(case.keys * 2);
    let moka = moka::sync::Cache::<u64, Arc<Vec<u8>>>::new(case.keys as u64 * 2);
    for i in 0..case.keys as u64 {
        quick.insert(i, Arc::new(vec![0; case.bytes]));
        moka.insert(i, Arc::new(vec![0; case.bytes]));
    }
    sides.push(Side::new("quick_cache", move || {
        timed(case.threads, order, |at| drop(black_box(quick.get(&(at as u64)))))
    }));
    sides.push(Side::new("moka", move || {
        timed(case.threads, order, |at| drop(black_box(moka.get(&(at as u64)))))
    }));
    sides
}
