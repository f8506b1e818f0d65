//! What a hit and an entry allocate.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use async_cache_core::TieredCache;
use async_cache_memory::{Engine, MemoryBackend};
use quick_cache::sync::Cache;

/// Hits are to be those that are shipped.
fn runtime() -> tokio::runtime::Runtime {
    async_cache_core::testing::real_time();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn load(value: u64) -> std::future::Ready<Result<u64, Infallible>> {
    std::future::ready(Ok(value))
}

#[test]
fn a_hit_does_not_allocate() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let l1 = MemoryBackend::builder().max_capacity(100).engine(Engine::Quick).build();
    let texts: TieredCache<String, u64> = TieredCache::builder().l1(l1).build().unwrap();
    let numbers: TieredCache<u64, u64> = TieredCache::builder().l1(MemoryBackend::new(100)).build().unwrap();
    let pairs: TieredCache<(u32, String), u64> =
        TieredCache::builder().l1(MemoryBackend::new(100)).build().unwrap();
    let pair = (7, "a longer name than fits into a key".to_owned());
    runtime.block_on(async {
        texts.insert("user:42", 1).await.unwrap();
        texts.insert("user:43", 1).tags(["team:9"]).await.unwrap();
        numbers.insert(&42, 2).await.unwrap();
        pairs.insert(&pair, 3).await.unwrap();
    });
    let hits = |times: usize| {
        runtime.block_on(async {
            for _ in 0..times {
                black_box(texts.get("user:42").await.unwrap().unwrap());
                black_box(texts.get("user:43").await.unwrap().unwrap());
                black_box(numbers.get(&42).await.unwrap().unwrap());
                black_box(pairs.get(&pair).await.unwrap().unwrap());
                black_box(texts.get_or_load("user:42", || load(4)).await.unwrap());
                black_box(numbers.get_or_load(&42, || load(5)).ttl(Duration::from_secs(9)).await.unwrap());
            }
        });
    };
    // The first hit of a thread takes its seat among the counters.
    hits(1);
    assert_eq!(measure(|| hits(1000)).count_total, 0);
    assert_eq!(texts.stats().l1_hits + numbers.stats().l1_hits + pairs.stats().l1_hits, 6 * 1001);
}

const ENTRIES: usize = 100_000;

/// Bytes held per entry by what `build` makes.
fn held<T>(build: impl FnOnce() -> T) -> f64 {
    let mut kept = None;
    let measured = measure(|| kept = Some(build()));
    drop(black_box(kept));
    measured.bytes_current as f64 / ENTRIES as f64
}

/// Key and value count on both sides. What an entry has besides (life, sequence, generation, token)
/// takes 35 bytes more than the key's own allocation there, growth of the tables included.
#[test]
fn an_entry_takes_little_more_than_in_the_bare_engine() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let name = |i: usize| format!("user:{i:06}");
    let bare = held(|| {
        let cache = Cache::<String, Arc<[u8; 100]>>::new(ENTRIES);
        (0..ENTRIES).for_each(|i| cache.insert(name(i), Arc::new([0; 100])));
        cache
    });
    let ours = held(|| {
        let l1 = MemoryBackend::new(ENTRIES as u64);
        let cache: TieredCache<String, [u8; 100]> = TieredCache::builder().l1(l1).build().unwrap();
        let entries = (0..ENTRIES).map(|i| (name(i), [0; 100]));
        runtime.block_on(cache.insert_many(entries).into_future()).unwrap();
        cache
    });
    println!("bytes per entry: {ours:.0}, bare engine {bare:.0}: {:.2} ×", ours / bare);
    assert!(ours < bare * 1.2, "{ours:.0} bytes per entry, {bare:.0} in the bare engine");
}
