//! Each engine against what `LocalBackend` promises, and against its own builder.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_cache_core::LocalBackend;
use async_cache_core::Tags;
use async_cache_core::backend::{Entry, Expiry, NodeId, Tick, Token};
use async_cache_core::key::Key;
use async_cache_memory::{Engine, MemoryBackend};

const ENGINES: [Engine; 2] = [Engine::Quick, Engine::Moka];

fn key(name: &str) -> Key {
    Key::from_encoded(name.as_bytes())
}

fn entry(value: u64) -> Entry<u64> {
    let life = Expiry::new(Tick::MAX, Tick::MAX, Duration::ZERO, Duration::ZERO);
    let token = Token { node: NodeId(1), counter: value };
    Entry { value: Some(Arc::new(value)), life, generation: 0, seq: value, token, tags: Tags::NONE }
}

fn value(cache: &MemoryBackend<u64>, name: &str) -> Option<u64> {
    cache.get(name.as_bytes()).and_then(|entry| entry.value).map(|value| *value)
}

#[test]
fn what_is_stored_is_found_replaced_and_removed() {
    for engine in ENGINES {
        let cache = MemoryBackend::builder().max_capacity(100).engine(engine).build();
        assert_eq!(value(&cache, "a"), None, "{engine:?}");
        cache.insert(&key("a"), entry(1));
        cache.insert(&key("b"), entry(2));
        cache.insert(&key("a"), entry(3));
        assert_eq!(
            (value(&cache, "a"), value(&cache, "b"), cache.len()),
            (Some(3), Some(2), 2),
            "{engine:?}"
        );
        cache.remove(b"a");
        assert_eq!((value(&cache, "a"), value(&cache, "b"), cache.len()), (None, Some(2), 1), "{engine:?}");
        cache.clear();
        assert_eq!((value(&cache, "b"), cache.is_empty()), (None, true), "{engine:?}");
    }
}

#[test]
fn capacity_bounds_what_is_held() {
    for engine in ENGINES {
        for capacity in [1, 10, 1000] {
            let cache = MemoryBackend::builder().max_capacity(capacity).engine(engine).build();
            for n in 0..20_000 {
                cache.insert(&key(&n.to_string()), entry(n));
            }
            // Shards round up, each by less than one entry.
            assert!((1..=capacity + 64).contains(&cache.len()), "{engine:?}: {} of {capacity}", cache.len());
        }
    }
}

#[test]
fn weights_are_summed_taken_once_and_never_nothing() {
    for engine in ENGINES {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let cache = MemoryBackend::builder()
            .max_capacity(10_000)
            .engine(engine)
            .weigher(move |_: &[u8], value: &u64| {
                counted.fetch_add(1, Ordering::Relaxed);
                *value as u32
            })
            .build();
        for n in 0..2000 {
            cache.insert(&key(&n.to_string()), entry(100));
        }
        assert_eq!(calls.load(Ordering::Relaxed), 2000, "{engine:?}");
        assert!((50..=110).contains(&cache.len()), "{engine:?}: {}", cache.len());
        for n in 0..20_000 {
            cache.insert(&key(&format!("weightless {n}")), entry(0));
        }
        assert!(cache.len() <= 10_100, "{engine:?}: {}", cache.len());
    }
}

#[test]
fn what_cannot_be_kept_does_not_leave_the_value_before_it() {
    for engine in ENGINES {
        let cache = MemoryBackend::builder()
            .max_capacity(10_000)
            .engine(engine)
            .weigher(|_: &[u8], value: &u64| {
                assert!(*value != 13, "cannot weigh this");
                *value as u32
            })
            .build();
        cache.insert(&key("a"), entry(1));
        cache.insert(&key("a"), entry(1_000_000));
        let _ = cache.len();
        assert_eq!(value(&cache, "a"), None, "{engine:?}: heavier than the whole");

        cache.insert(&key("a"), entry(2));
        let inserted = panic::catch_unwind(AssertUnwindSafe(|| cache.insert(&key("a"), entry(13))));
        assert!(inserted.is_ok(), "{engine:?}: the weigher's panic is the insert's");
        assert_eq!(value(&cache, "a"), None, "{engine:?}: the weigher panicked");
        cache.insert(&key("a"), entry(3));
        assert_eq!(value(&cache, "a"), Some(3), "{engine:?}: goes on after it");
    }
}

/// One thread stores ever higher versions and removes them, others read: nobody sees a version
/// below the last one that was replaced or removed before the read began.
#[test]
fn what_was_replaced_or_removed_never_comes_back() {
    for engine in ENGINES {
        let cache = MemoryBackend::<u64>::builder().max_capacity(64).engine(engine).build();
        let least = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let before = least.load(Ordering::SeqCst);
                        if before == u64::MAX {
                            break;
                        }
                        let seen = value(&cache, "hot").unwrap_or(u64::MAX);
                        assert!(seen >= before, "{engine:?}: {seen} after {before} had replaced it");
                    }
                });
            }
            scope.spawn(|| {
                for version in 1..30_000 {
                    cache.insert(&key("hot"), entry(version));
                    least.store(version, Ordering::SeqCst);
                    // Others push it out, now and then.
                    cache.insert(&key(&version.to_string()), entry(version));
                    if version % 3 == 0 {
                        cache.remove(b"hot");
                        least.store(version + 1, Ordering::SeqCst);
                    }
                }
                least.store(u64::MAX, Ordering::SeqCst);
            });
        });
    }
}
