//! What loaders choose that cannot be: the value is answered all the same.

use std::collections::HashMap;
use std::time::Duration;

use async_cache::{Amended, Event, Loaded, MemoryBackend, TieredCache};
use futures_util::{FutureExt, StreamExt};

type Numbers = TieredCache<u64, u64>;
type Io<T> = Result<T, std::io::Error>;

fn caches() -> [Numbers; 3] {
    let builder = || Numbers::builder().namespace("numbers");
    let l1 = || MemoryBackend::new(100);
    [
        builder().l1(l1()).build().unwrap(),
        builder().l2(MemoryBackend::new(100)).build().unwrap(),
        builder().l1(l1()).l2(MemoryBackend::new(100)).build().unwrap(),
    ]
}

/// The value is answered, by each way to load it; says what was told, and whether it is cached then.
async fn answered(cache: &Numbers, choose: fn(Loaded<u64>) -> Loaded<u64>) -> (Amended, bool) {
    let mut events = cache.subscribe();
    let load = move || async move { Io::Ok(choose(Loaded::new(7))) };
    assert_eq!(*cache.get_or_load(&1, load).await.unwrap(), 7);
    let told = std::iter::from_fn(|| events.next().now_or_never().flatten());
    let amended = |event| if let Event::ChoiceAmended { to, .. } = event { Some(to) } else { None };
    let to = told.into_iter().find_map(amended).expect("it is told");
    let cached = cache.get(&1).await.unwrap().is_some();

    let many = move |keys: Vec<u64>| async move {
        let value = |key| (key, if key == 2 { choose(Loaded::new(7)) } else { Loaded::new(7) });
        Io::Ok(keys.into_iter().map(value).collect::<HashMap<_, _>>())
    };
    let found = cache.get_many_or_load(&[2, 3], many).await.unwrap();
    assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), [Some(&7), Some(&7)]);
    assert!(cache.get(&3).await.unwrap().is_some(), "its neighbour is cached");
    assert_eq!(cache.stats().amended_choices, 2);
    assert_eq!(*cache.refresh(&1, load).await.unwrap(), 7);
    assert_eq!((cache.stats().amended_choices, cache.stats().load_failures), (3, 0));
    (to, cached)
}

/// Cached without it, a tag's invalidation would pass the value by.
#[tokio::test]
async fn a_value_whose_lifetime_or_tags_cannot_be_is_answered_and_not_cached() {
    let choices: [fn(Loaded<u64>) -> Loaded<u64>; 4] = [
        |value| value.ttl(Duration::ZERO),
        |value| value.tag(""),
        |value| value.tag("t".repeat(129)),
        |value| value.tags((0..33).map(|n| n.to_string())),
    ];
    for choose in choices {
        for cache in caches() {
            assert_eq!(answered(&cache, choose).await, (Amended::Uncached, false));
        }
    }
}

#[tokio::test]
async fn an_option_out_of_range_is_the_nearest_one_that_can_be() {
    for cache in caches() {
        let (to, _) = answered(&cache, |value| value.ttl(Duration::from_micros(400))).await;
        assert_eq!(to, Amended::Clamped);
    }
    for cache in caches().into_iter().skip(1) {
        let (to, cached) = answered(&cache, |value| value.l1_ttl(Duration::ZERO)).await;
        assert_eq!((to, cached), (Amended::Clamped, true), "L2 keeps it");
    }
    let choices: [fn(Loaded<u64>) -> Loaded<u64>; 6] = [
        |value| value.ttl(Duration::MAX),
        |value| value.l1_ttl(Duration::MAX),
        |value| value.stale_for(Duration::MAX),
        |value| value.refresh_ahead(f64::NAN),
        |value| value.refresh_ahead(-1.0),
        |value| value.ttl_jitter(1.0),
    ];
    for choose in choices {
        for cache in caches() {
            assert_eq!(answered(&cache, choose).await, (Amended::Clamped, true));
        }
    }
}

/// Each set is within the limit.
#[tokio::test]
async fn tags_of_the_call_and_of_the_loader_may_be_too_many_together() {
    for cache in caches() {
        let tags = |from: u32| (from..from + 20).map(|n| n.to_string());
        let load = move || async move { Io::Ok(Loaded::new(7).tags(tags(100))) };
        assert_eq!(*cache.get_or_load(&1, load).tags(tags(0)).await.unwrap(), 7);
        assert_eq!((cache.get(&1).await.unwrap(), cache.stats().amended_choices), (None, 1));
    }
}

/// A value that is cached goes on with all its tags or not at all.
#[tokio::test]
async fn an_unchanged_value_whose_tags_become_too_many_is_not_cached() {
    let cache = Numbers::builder().l1(MemoryBackend::new(100)).build().unwrap();
    let tags = |from: u32| (from..from + 20).map(|n| n.to_string());
    cache.insert(&1, 7).tags(tags(0)).await.unwrap();
    let load = move |_| async move { Io::Ok(Loaded::unchanged().tags(tags(100))) };
    assert_eq!(*cache.refresh_with(&1, load).await.unwrap(), 7);
    assert_eq!(cache.get(&1).await.unwrap(), None);
}

/// Nothing is cached under it, and the others go on.
#[tokio::test]
async fn a_key_that_is_too_long_is_not_the_error_of_a_whole_batch() {
    let l1 = || MemoryBackend::new(100);
    for l2 in [false, true] {
        let builder = TieredCache::<String, usize>::builder().namespace("lengths").l1(l1());
        let builder = if l2 { builder.l2(MemoryBackend::new(100)) } else { builder };
        let cache = builder.build().unwrap();
        let mut events = cache.subscribe();
        let (long, longer) = ("x".repeat(2048), "x".repeat(4096));
        let lengths = |keys: Vec<String>| async move {
            Io::Ok(keys.into_iter().map(|key| (key.clone(), key.len())).collect::<HashMap<_, _>>())
        };
        let asked = ["a", &long, "bc", &long, &longer];
        for _ in 0..2 {
            let found = cache.get_many_or_load(asked, lengths).await.unwrap();
            let found: Vec<_> = found.iter().map(Option::as_deref).collect();
            assert_eq!(found, [Some(&1), Some(&2048), Some(&2), Some(&2048), Some(&4096)]);
        }
        let told: Vec<_> = std::iter::from_fn(|| events.next().now_or_never().flatten()).collect();
        assert_eq!(told.iter().filter(|event| **event == Event::KeyTooLong).count(), 4, "{told:?}");
        let found = cache.get_many(["a", "bc"]).await.unwrap();
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true]);

        let loader = cache.data_loader(lengths).build();
        let found = loader.load_many(asked.map(String::from)).await;
        let found: Vec<_> = found.into_iter().map(|found| *found.unwrap().unwrap()).collect();
        assert_eq!(found, [1, 2048, 2, 2048, 4096]);

        cache.invalidate_many(asked).await.unwrap();
        assert!(cache.get("a").await.unwrap().is_none(), "the others are invalidated");
    }
}
