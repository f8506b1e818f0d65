//! The hot paths: their setup, and the counted code.

use std::hash::Hash;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_cache::{MemoryBackend, TieredCache, Verify, cached};
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use tokio::runtime::Runtime;

const KEYS: usize = 1000;

type Value = [u64; 12];
type Bare<K> = Cache<K, Arc<Value>, UnitWeighter, foldhash::quality::RandomState>;

/// Every case, and the number of runs to count.
pub(crate) const CASES: [(&str, usize); 16] = [
    ("bare_str", 10_000),
    ("bare_u64", 10_000),
    ("get_str", 10_000),
    ("get_u64", 10_000),
    ("get_str_over_l2", 10_000),
    ("get_u64_over_l2", 10_000),
    ("get_str_verified", 10_000),
    ("get_u64_verified", 10_000),
    ("get_or_load_str", 10_000),
    ("get_or_load_u64", 10_000),
    ("get_many_of_10", 2_000),
    ("by_hand", 10_000),
    ("decorated", 10_000),
    ("miss_and_fill", 2_000),
    ("encode_and_put", 2_000),
    ("read_and_decode", 2_000),
];

fn value(i: usize) -> Value {
    [i as u64; 12]
}

/// The counted function. Valgrind counts nothing outside it.
#[inline(never)]
fn measured(times: usize, mut operation: impl FnMut(usize)) {
    let mut at = 0;
    for _ in 0..times {
        operation(at);
        at += 1;
        if at == KEYS {
            at = 0;
        }
    }
}

/// A hit is ready at the first poll.
#[inline(always)]
fn hit<F: IntoFuture>(request: F) -> F::Output {
    let mut future = pin!(request.into_future());
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("not a hit"),
    }
}

fn bare<K: Hash + Eq>(keys: impl Iterator<Item = K>) -> Bare<K> {
    let capacity = KEYS * 2;
    let lifecycle = DefaultLifecycle::default();
    let cache = Bare::with(capacity, capacity as u64, UnitWeighter, Default::default(), lifecycle);
    keys.enumerate().for_each(|(i, key)| cache.insert(key, Arc::new(value(i))));
    cache
}

fn cache<K: async_cache::CacheKey>(
    runtime: &Runtime,
    keys: impl Iterator<Item = K>,
) -> TieredCache<K, Value> {
    let cache = TieredCache::builder().l1(MemoryBackend::new(KEYS as u64 * 2)).build().expect("a cache");
    fill(runtime, &cache, keys);
    cache
}

fn fill<K: async_cache::CacheKey>(
    runtime: &Runtime,
    cache: &TieredCache<K, Value>,
    keys: impl Iterator<Item = K>,
) {
    let entries = keys.enumerate().map(|(i, key)| (key, value(i)));
    runtime.block_on(cache.insert_many(entries).into_future()).expect("an insert");
}

/// A cache of two tiers whose node serves. With `verify` it samples one hit out of a hundred.
fn tiered<K: async_cache::CacheKey>(
    runtime: &Runtime,
    keys: impl Iterator<Item = K>,
    verify: Option<Verify<Value>>,
) -> TieredCache<K, Value> {
    let mut builder = TieredCache::builder()
        .namespace("rows")
        .l1(MemoryBackend::new(KEYS as u64 * 2))
        .l2(MemoryBackend::new(KEYS as u64 * 2))
        // The serving lease lasts for the whole count, in which no task runs that would extend it.
        .max_staleness(Duration::from_secs(600));
    if let Some(verify) = verify {
        builder = builder.verify(verify);
    }
    let cache = builder.build().expect("a cache");
    runtime.block_on(cache.ready()).expect("a node that serves");
    fill(runtime, &cache, keys);
    cache
}

fn numbers() -> impl Iterator<Item = u64> {
    (0..KEYS as u64).map(|i| 100_000 + i)
}

/// Counts a text key's hit, or a number's.
fn tiered_gets(runtime: &Runtime, case: &str, times: usize, texts: &[String]) {
    let verify = case.ends_with("_verified").then(|| Verify::sample(0.01));
    if case.starts_with("get_str") {
        let cache = tiered(runtime, texts.iter().cloned(), verify);
        measured(times, |i| drop(black_box(hit(cache.get(texts[i].as_str())))));
    } else {
        let cache = tiered(runtime, numbers(), verify);
        measured(times, |i| drop(black_box(hit(cache.get(&(100_000 + i as u64))))));
    }
}

fn shared(runtime: &Runtime) -> TieredCache<u64, Value> {
    let cache = TieredCache::builder()
        .namespace("rows")
        .l2(MemoryBackend::new(KEYS as u64 * 2))
        .build()
        .expect("a cache");
    fill(runtime, &cache, 0..KEYS as u64);
    cache
}

/// A decorated function, and a handwritten equivalent.
#[cached(cache = cache, key = "{team}:{id}", skip(cache))]
async fn decorated(cache: &TieredCache<String, Value>, team: u32, id: u64) -> Value {
    value(id as usize + team as usize)
}

async fn by_hand(cache: &TieredCache<(u32, u64), Value>, team: u32, id: u64) -> Value {
    let load = move || async move { Ok::<_, std::convert::Infallible>(value(id as usize + team as usize)) };
    match cache.get_or_load(&(team, id), load).await {
        Ok(value) => Value::clone(&value),
        Err(_) => value(0),
    }
}

/// Runs one case.
pub(crate) fn run(case: &str, times: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let texts: Vec<String> = (0..KEYS).map(|i| format!("user:{i:05}")).collect();
    let load = |i: usize| move || async move { Ok::<_, std::convert::Infallible>(value(i)) };
    match case {
        "bare_str" => {
            let cache = bare(texts.iter().cloned());
            measured(times, |i| drop(black_box(cache.get(texts[i].as_str()))));
        }
        "bare_u64" => {
            let cache = bare(numbers());
            measured(times, |i| drop(black_box(cache.get(&(100_000 + i as u64)))));
        }
        "get_str" => {
            let cache = cache(&runtime, texts.iter().cloned());
            measured(times, |i| drop(black_box(hit(cache.get(texts[i].as_str())))));
        }
        "get_u64" => {
            let cache = cache(&runtime, numbers());
            measured(times, |i| drop(black_box(hit(cache.get(&(100_000 + i as u64))))));
        }
        "get_str_over_l2" | "get_u64_over_l2" | "get_str_verified" | "get_u64_verified" => {
            tiered_gets(&runtime, case, times, &texts);
        }
        "get_or_load_str" => {
            let cache = cache(&runtime, texts.iter().cloned());
            measured(times, |i| drop(black_box(hit(cache.get_or_load(texts[i].as_str(), load(i))))));
        }
        "get_or_load_u64" => {
            let cache = cache(&runtime, numbers());
            measured(times, |i| drop(black_box(hit(cache.get_or_load(&(100_000 + i as u64), load(i))))));
        }
        "get_many_of_10" => {
            let cache = cache(&runtime, texts.iter().cloned());
            let of = |i: usize| texts[i..].iter().take(10).map(String::as_str);
            measured(times, |i| drop(black_box(hit(cache.get_many(of(i.min(KEYS - 10)))))));
        }
        "by_hand" => {
            let cache = cache(&runtime, (0..KEYS as u64).map(|i| (9, i)));
            measured(times, |i| _ = black_box(hit(by_hand(&cache, 9, i as u64))));
        }
        "decorated" => {
            let cache = cache(&runtime, (0..KEYS).map(|i| format!("9:{i}")));
            measured(times, |i| _ = black_box(hit(decorated(&cache, 9, i as u64))));
        }
        "miss_and_fill" => {
            let cache = cache(&runtime, numbers());
            let mut next = 1_000_000;
            measured(times, |i| {
                next += 1;
                drop(black_box(runtime.block_on(cache.get_or_load(&next, load(i)))));
            });
        }
        "encode_and_put" => {
            let cache = shared(&runtime);
            measured(times, |i| {
                drop(black_box(runtime.block_on(cache.insert(&(i as u64), value(i)).into_future())));
            });
        }
        "read_and_decode" => {
            let cache = shared(&runtime);
            measured(times, |i| drop(black_box(runtime.block_on(cache.get(&(i as u64))))));
        }
        _ => panic!("no such case: {case}"),
    }
}
