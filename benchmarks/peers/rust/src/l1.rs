//! L1 hits: the driver's cases with `&str` keys.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use cached::ConcurrentCached;
use multi_tier_cache::{CacheManager, L1Cache, L2Cache, MokaCacheConfig};
use serde_json::Value;
use tokio::runtime::Handle;

use crate::Round;

/// The driver's order of keys: the same distribution, if not the same draw.
fn zipf(keys: usize, length: usize) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut sum = 0.0;
    let cumulated: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += (rank as f64).powf(-0.99);
            sum
        })
        .collect();
    let mut spread: Vec<u32> = (0..keys as u32).collect();
    random.shuffle(&mut spread);
    let mut draw = || {
        let drawn = random.f64() * sum;
        spread[cumulated.partition_point(|weight| *weight < drawn).min(keys - 1)]
    };
    (0..length).map(|_| draw()).collect()
}

fn timed(threads: usize, order: &[u32], lookup: impl Fn(usize) + Sync) -> f64 {
    let start_line = Barrier::new(threads + 1);
    let (lookup, start_line) = (&lookup, &start_line);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
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

pub fn side(side: &str, ask: &Value, runtime: &Handle) -> Result<Round, String> {
    let number = |name: &str| ask[name].as_u64().expect("a number") as usize;
    let (keys, bytes, threads) = (number("keys"), number("bytes"), number("threads"));
    if ask["key"] != "str" || ask["verb"] != "get" {
        return Err("is driven with `get` of `&str` keys only".to_owned());
    }
    let order = zipf(keys, number("lookups"));
    let texts: Vec<String> = (0..keys).map(|i| format!("user:{i:06}")).collect();
    let value = || Arc::new(vec![0_u8; bytes]);
    match side {
        "foyer" => {
            let cache: foyer::Cache<String, Arc<Vec<u8>>> = foyer::CacheBuilder::new(keys * 2)
                .with_eviction_config(foyer::S3FifoConfig::default())
                .build();
            texts.iter().for_each(|text| drop(cache.insert(text.clone(), value())));
            Ok(Box::new(move || {
                timed(threads, &order, |at| {
                    drop(black_box(cache.get(texts[at].as_str()).map(|entry| Arc::clone(entry.value()))));
                })
            }))
        }
        "cached" => {
            let cache: cached::ShardedLruCache<String, Arc<Vec<u8>>> =
                cached::ShardedLruCache::builder().max_size(keys * 2).build().map_err(|e| format!("{e:?}"))?;
            texts.iter().for_each(|text| drop(cache.cache_set(text.clone(), value())));
            Ok(Box::new(move || timed(threads, &order, |at| drop(black_box(cache.cache_get(&texts[at]))))))
        }
        "multi-tier-cache" => {
            let url = ask["redis"].as_str().ok_or("needs Redis even for its L1")?.to_owned();
            let (handle, capacity) = (runtime.clone(), keys as u64 * 2);
            let cache = runtime
                .block_on(async {
                    let hour = Duration::from_secs(3600);
                    let l1 = MokaCacheConfig { max_capacity: capacity, time_to_live: hour, time_to_idle: hour };
                    let (l1, l2) = (Arc::new(L1Cache::new(l1)?), Arc::new(L2Cache::with_url(&url).await?));
                    let cache = CacheManager::new(l1, l2).await?;
                    let stored = bytes::Bytes::from(serde_json::to_vec(&"x".repeat(bytes)).expect("JSON"));
                    for text in &texts {
                        let strategy = multi_tier_cache::CacheStrategy::MediumTerm;
                        cache.set_with_strategy(text, stored.clone(), strategy).await?;
                    }
                    Ok::<_, multi_tier_cache::CacheError>(cache)
                })
                .map_err(|error| error.to_string())?;
            Ok(Box::new(move || {
                timed(threads, &order, |at| {
                    let found = handle.block_on(cache.get_typed::<String>(&texts[at]));
                    drop(black_box(found));
                })
            }))
        }
        _ => Err("is not driven yet".to_owned()),
    }
}
