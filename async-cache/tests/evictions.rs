//! What an L1 tells of the entries that leave it, and how long it keeps entries that nobody asks for.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use async_cache::testing::{No, ms};
use async_cache::{
    Engine, ErrorKind, EvictionCause, MemoryBackend, MemoryBackendBuilder, Result, TieredCache,
};

type Cache = TieredCache<u64, String>;
type Builder = MemoryBackendBuilder<String>;
type Told = (u64, Option<String>, EvictionCause);

const LONG: Duration = Duration::from_secs(60);

/// L1s on every engine, and one of quick_cache with weights, where each value is as heavy as all others.
fn every_l1() -> [(&'static str, Builder); 3] {
    let small = || MemoryBackend::builder().max_capacity(64);
    let weighed = small().weigher(|_: &[u8], _: &String| 1);
    [("quick", small().engine(Engine::Quick)), ("weighed", weighed), ("moka", small().engine(Engine::Moka))]
}

fn key_of(encoded: &[u8]) -> u64 {
    std::str::from_utf8(encoded).unwrap().parse().unwrap()
}

/// The L1, and what its listener is told.
fn told(l1: Builder) -> (MemoryBackend<String>, Receiver<Told>) {
    let (sender, told) = channel();
    let l1 = l1.on_evict(move |key, value, cause| {
        let _ = sender.send((key_of(key), value.map(ToString::to_string), cause));
    });
    (l1.build(), told)
}

/// A cache without an L2, whose entries remain fallbacks for long.
fn cache(l1: MemoryBackend<String>) -> Cache {
    TieredCache::builder().l1(l1).ttl(LONG).stale_for(10 * LONG).build().unwrap()
}

fn next(told: &Receiver<Told>) -> Told {
    told.recv_timeout(Duration::from_secs(60)).expect("an entry has left, and nobody was told")
}

/// Nothing more is told: everything is told in its order, so a marker comes next.
async fn nothing_more(cache: &Cache, told: &Receiver<Told>) {
    cache.insert(&999, "marker".to_owned()).await.unwrap();
    cache.invalidate(&999).await.unwrap();
    assert_eq!(next(told), (999, Some("marker".to_owned()), EvictionCause::Removed));
}

async fn load(cache: &Cache, key: u64, value: &'static str) -> Result<Arc<String>> {
    cache.get_or_load(&key, move || async move { Ok::<_, io::Error>(value.to_owned()) }).await
}

#[tokio::test(start_paused = true)]
async fn each_cause_is_told_with_the_key_and_the_value() {
    for (engine, l1) in every_l1() {
        let (l1, told) = told(l1);
        let cache = cache(l1);
        let ada = || Some("Ada".to_owned());

        load(&cache, 1, "Ada").await.unwrap();
        cache.invalidate(&1).await.unwrap();
        assert_eq!(next(&told), (1, ada(), EvictionCause::Removed), "{engine}: invalidated");

        load(&cache, 2, "Ada").await.unwrap();
        tokio::time::sleep(2 * LONG).await;
        load(&cache, 2, "Eve").await.unwrap();
        assert_eq!(next(&told), (2, ada(), EvictionCause::Replaced), "{engine}: loaded again");

        cache.get_or_load(&3, || async { Ok::<_, No>("Ada".to_owned()) }).stale_for(ms(0)).await.unwrap();
        tokio::time::sleep(2 * LONG).await;
        assert_eq!(next(&told), (3, ada(), EvictionCause::Expired), "{engine}: swept");

        cache.get_or_load_optional(&4, || async { Ok::<_, No>(None::<String>) }).await.unwrap();
        cache.invalidate(&4).await.unwrap();
        assert_eq!(next(&told), (4, None, EvictionCause::Removed), "{engine}: an absence");

        load(&cache, 5, "Ada").await.unwrap();
        cache.expire(&5).await.unwrap();
        nothing_more(&cache, &told).await;

        cache.shutdown().await;
        let mut rest = [next(&told), next(&told)];
        rest.sort_by_key(|told| told.0);
        let eve = (2, Some("Eve".to_owned()), EvictionCause::Removed);
        assert_eq!(rest, [eve, (5, ada(), EvictionCause::Removed)], "{engine}: shut down");
        drop(cache);
        assert!(told.recv().is_err(), "{engine}: the thread of the listener ends");
    }
}

/// Whatever leaves for want of room is told, once.
#[tokio::test]
async fn what_is_not_held_was_told() {
    for (engine, l1) in every_l1() {
        let (l1, told) = told(l1);
        let cache = cache(l1);
        for key in 0..2_000 {
            load(&cache, key, "Ada").await.unwrap();
        }
        let held = cache.stats().entries;
        assert!(held < 200, "{engine}: {held}");
        let mut times = HashMap::new();
        for _ in held..2_000 {
            let (key, value, cause) = next(&told);
            assert_eq!((value.as_deref(), cause), (Some("Ada"), EvictionCause::Size), "{engine}");
            *times.entry(key).or_insert(0) += 1;
        }
        assert!(times.values().all(|times| *times == 1), "{engine}");
        for key in 0..2_000 {
            let is_held = cache.get(&key).await.unwrap().is_some();
            assert_ne!(is_held, times.contains_key(&key), "{engine}: {key}");
        }
    }
}

/// A heavy value has a table of its own.
#[tokio::test(start_paused = true)]
async fn heavy_values_are_told_too() {
    let weighed =
        MemoryBackend::builder().max_capacity(100).weigher(|_: &[u8], value: &String| value.len() as u32);
    let (l1, told) = told(weighed);
    let cache = cache(l1);
    let heavy = |letter: &str| letter.repeat(60);
    let insert = async |key: u64, letter: &str| {
        let value = heavy(letter);
        cache.get_or_load(&key, move || async move { Ok::<_, No>(value) }).await
    };
    insert(1, "a").await.unwrap();
    insert(2, "b").await.unwrap();
    assert_eq!(next(&told), (1, Some(heavy("a")), EvictionCause::Size));
    tokio::time::sleep(2 * LONG).await;
    insert(2, "c").await.unwrap();
    assert_eq!(next(&told), (2, Some(heavy("b")), EvictionCause::Replaced));
    cache.expire(&2).await.unwrap();
    nothing_more(&cache, &told).await;
    cache.invalidate(&2).await.unwrap();
    assert_eq!(next(&told), (2, Some(heavy("c")), EvictionCause::Removed));
}

#[tokio::test]
async fn a_listener_that_panics_is_called_again() {
    for (engine, l1) in every_l1() {
        let (sender, told) = channel();
        let l1 = l1.on_evict(move |key, _, _| {
            assert_ne!(key, b"1", "on purpose");
            let _ = sender.send(key_of(key));
        });
        let cache = cache(l1.build());
        for key in [1, 2] {
            load(&cache, key, "Ada").await.unwrap();
            cache.invalidate(&key).await.unwrap();
        }
        assert_eq!(told.recv_timeout(LONG), Ok(2), "{engine}");
        assert_eq!(*load(&cache, 1, "Eve").await.unwrap(), "Eve", "{engine}");
    }
}

#[tokio::test]
async fn a_listener_that_blocks_holds_up_nobody_and_what_it_misses_is_counted() {
    for (engine, l1) in every_l1() {
        let (release, blocked) = channel::<()>();
        let l1 = l1.on_evict(move |_, _, _| _ = blocked.recv()).build();
        let cache = cache(l1.clone());
        for key in 0..9_000 {
            load(&cache, key, "Ada").await.unwrap();
            cache.invalidate(&key).await.unwrap();
        }
        // One is being told, and 8,192 wait.
        let missed = l1.missed_evictions();
        assert!((9_000 - 8_193..=9_000 - 8_192).contains(&missed), "{engine}: {missed}");
        drop(release);
    }
}

/// The listener runs under no lock, so it may ask the cache that tells it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_listener_may_use_the_cache() {
    for (engine, l1) in every_l1() {
        let (sender, seen) = channel();
        let asked: Arc<std::sync::OnceLock<Cache>> = Arc::default();
        let (runtime, own) = (tokio::runtime::Handle::current(), Arc::clone(&asked));
        let l1 = l1.on_evict(move |key, _, cause| {
            let Some(cache) = own.get().filter(|_| cause == EvictionCause::Removed) else { return };
            let _ = sender.send(runtime.block_on(load(cache, key_of(key), "Eve")).unwrap());
        });
        let cache = cache(l1.build());
        asked.set(cache.clone()).unwrap();
        load(&cache, 1, "Ada").await.unwrap();
        cache.invalidate(&1).await.unwrap();
        let seen = tokio::task::spawn_blocking(move || seen.recv_timeout(LONG)).await.unwrap();
        assert_eq!(*seen.unwrap(), "Eve", "{engine}");
    }
}

/// The engine measures real time, so the test measures how long it let the used entry alone.
#[tokio::test]
async fn an_entry_that_nobody_asks_for_is_dropped_and_one_in_use_stays() {
    let idle = ms(400);
    for _ in 0..50 {
        let (l1, told) = told(MemoryBackend::builder().time_to_idle(idle));
        let cache = cache(l1);
        let mut used = Instant::now();
        load(&cache, 1, "Ada").await.unwrap();
        load(&cache, 2, "Eve").await.unwrap();
        let mut longest = Duration::ZERO;
        let first = loop {
            let found = cache.get(&2).await.unwrap();
            longest = longest.max(used.elapsed());
            used = Instant::now();
            assert!(found.is_some() || longest > idle / 2, "an entry in use was dropped");
            match told.try_recv() {
                Ok(told) => break told,
                Err(_) => tokio::time::sleep(ms(1)).await,
            }
        };
        if longest < idle / 2 {
            assert_eq!(first, (1, Some("Ada".to_owned()), EvictionCause::Idle));
            assert_eq!(cache.get(&1).await.unwrap(), None);
            return;
        }
    }
    panic!("this machine never ran the test for {idle:?} without a pause");
}

/// Lets real time pass.
fn idle_for(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::thread::yield_now();
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_entry_is_freed_though_nobody_uses_the_cache() {
    let (l1, told) = told(MemoryBackend::builder().time_to_idle(ms(20)));
    let cache = cache(l1);
    load(&cache, 1, "Ada").await.unwrap();
    idle_for(ms(40));
    tokio::time::sleep(2 * LONG).await;
    assert_eq!(next(&told), (1, Some("Ada".to_owned()), EvictionCause::Idle));
}

#[tokio::test(start_paused = true)]
async fn an_idle_entry_is_no_fallback() {
    for (time_to_idle, found) in [(LONG, Ok("Ada".to_owned())), (ms(20), Err(ErrorKind::Loader))] {
        let cache = cache(MemoryBackend::builder().time_to_idle(time_to_idle).build());
        load(&cache, 1, "Ada").await.unwrap();
        tokio::time::sleep(2 * LONG).await;
        idle_for(ms(40));
        let failing = cache.get_or_load(&1, || async { Err::<String, _>(No(0)) }).await;
        assert_eq!(failing.map(|name| name.to_string()).map_err(|error| error.kind()), found);
    }
}

/// What is idle here is not idle in the fleet.
#[tokio::test]
async fn l2_answers_for_an_idle_entry() {
    let idle = MemoryBackend::builder().time_to_idle(ms(20)).build();
    let cache: Cache =
        TieredCache::builder().namespace("idle").l1(idle).l2(MemoryBackend::new(10)).build().unwrap();
    load(&cache, 1, "Ada").await.unwrap();
    idle_for(ms(40));
    assert_eq!(*load(&cache, 1, "Eve").await.unwrap(), "Ada");
    assert_eq!(cache.stats().loads, 1);
}

#[tokio::test]
async fn a_time_that_cannot_be_is_an_error_that_names_it() {
    let build = |l1: Builder| {
        Cache::builder().l1(l1.build()).build().map(drop).map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::Config);
            error.to_string()
        })
    };
    for wrong in [Duration::ZERO, Duration::MAX] {
        let message = build(MemoryBackend::builder().time_to_idle(wrong)).unwrap_err();
        assert!(message.contains("`time_to_idle` of 1 ms to 100 years"), "{message}");
    }
    let message = build(MemoryBackend::builder().engine(Engine::Quick).time_to_idle(LONG)).unwrap_err();
    assert!(message.contains("`Engine::Moka`") && message.contains("leave `engine` out"), "{message}");
    build(MemoryBackend::builder().engine(Engine::Moka).time_to_idle(LONG)).unwrap();
}
