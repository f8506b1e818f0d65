//! Tags on one node without a fleet: it numbers its changes itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_cache_core::testing::{No, Source, ms};
use async_cache_core::{ErrorKind, Loaded, StoreOptions, TieredCache, TieredCacheBuilder};
use async_cache_memory::MemoryBackend;

type Cache = TieredCache<String, u64>;

fn builder() -> TieredCacheBuilder<String, u64> {
    TieredCache::builder().namespace("rows").l1(MemoryBackend::new(10_000))
}

async fn present(cache: &Cache, key: &str) -> bool {
    cache.contains(key).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_way_to_give_a_tag() {
    let cache = builder().tag("all").build().unwrap();
    let chosen = || async { Ok::<_, No>(Loaded::new(1).tag("chosen").tags(["x", "y"])) };
    cache.get_or_load("both", chosen).tag("asked").await.unwrap();
    cache.get_or_load("asked", || async { Ok::<_, No>(1) }).tags(["asked", "z"]).await.unwrap();
    cache.insert("inserted", 1).tag("put").await.unwrap();
    cache.insert_many([("many-1".to_owned(), 1), ("many-2".to_owned(), 2)]).tag("put").await.unwrap();
    cache.refresh("refreshed", || async { Ok::<_, No>(1) }).tag("fresh").await.unwrap();
    let nothing = || async { Ok::<_, No>(None::<u64>) };
    cache.get_or_load_optional("absent", nothing).tag("gone").await.unwrap();

    for (tag, gone) in [
        ("nobody's", &[][..]),
        ("chosen", &["both"]),
        ("z", &["asked"]),
        ("put", &["inserted", "many-1", "many-2"]),
        ("fresh", &["refreshed"]),
    ] {
        let before: Vec<bool> =
            futures_util::future::join_all(gone.iter().map(|key| present(&cache, key))).await;
        assert!(before.iter().all(|present| *present), "{tag}");
        cache.invalidate_tag(tag).await.unwrap();
        for key in gone {
            assert!(!present(&cache, key).await, "{key} has {tag}");
        }
    }
    let source = Source::new();
    let load = source.clone();
    let absent = move || async move { load.now().await.map(|_| None::<u64>) };
    assert_eq!(cache.get_or_load_optional("absent", absent.clone()).await.unwrap(), None);
    assert_eq!(source.loads(), 0, "the absence was cached");
    cache.invalidate_tags(["gone", "more"]).await.unwrap();
    assert_eq!(cache.get_or_load_optional("absent", absent).await.unwrap(), None);
    assert_eq!(source.loads(), 1, "an absence has tags, too");

    cache.insert("k", 1).await.unwrap();
    cache.invalidate_tag("all").await.unwrap();
    assert!(!present(&cache, "k").await, "the cache's own tag");
    assert_eq!(cache.stats().invalidations_sent, 4 + 7 + 1);
}

#[tokio::test(start_paused = true)]
async fn an_absence_in_a_batch_has_the_tags_of_the_data_loader() {
    let (cache, calls) = (builder().build().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&calls);
    let none = move |keys: Vec<String>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<HashMap<_, _>, No>(keys.into_iter().map(|key| (key, None::<Loaded<u64>>)).collect()) }
    };
    let loader = cache.data_loader(none).options(StoreOptions::new().tag("row")).build();
    for _ in 0..2 {
        assert_eq!(loader.load("k".to_owned()).await.unwrap(), None);
        assert_eq!(calls.load(Ordering::Relaxed), 1, "the absence is cached");
    }
    cache.invalidate_tag("row").await.unwrap();
    assert_eq!(loader.load("k".to_owned()).await.unwrap(), None);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_tag_voids_what_was_there_and_nothing_later() {
    let cache = builder().build().unwrap();
    for round in 1..=3 {
        cache.insert("k", round).tag("t").await.unwrap();
        cache.insert("other", round).tag("u").await.unwrap();
        assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&round));
        cache.invalidate_tag("t").await.unwrap();
        assert_eq!(cache.get("k").await.unwrap(), None);
        assert_eq!(cache.get_many(["k", "other"]).await.unwrap().iter().flatten().count(), 1);
    }
}

/// The tag of a load is known when it ends. 1. a load reads version 1; 2. version 2 is committed and
/// the tag invalidated; 3. a get joins the load; 4. the load ends, and names the tag.
#[tokio::test(start_paused = true)]
async fn a_load_of_before_answers_those_of_before_alone() {
    for chosen_by_the_loader in [true, false] {
        let (cache, source) = (builder().build().unwrap(), Source::new());
        let ask = |held: bool| {
            let (cache, source) = (cache.clone(), source.clone());
            async move {
                let load = move || async move {
                    let version = if held { source.held().await? } else { source.now().await? };
                    let loaded = Loaded::new(version);
                    Ok::<_, No>(if chosen_by_the_loader { loaded.tag("t") } else { loaded })
                };
                let asked = cache.get_or_load("k", load);
                let asked = if chosen_by_the_loader { asked } else { asked.tag("t") };
                *asked.await.unwrap()
            }
        };
        let leader = tokio::spawn(ask(true));
        source.begun(1).await;
        let before = tokio::spawn(ask(false));
        tokio::time::sleep(ms(1)).await;
        source.write();
        cache.invalidate_tag("t").await.unwrap();
        let after: Vec<_> = (0..10).map(|_| tokio::spawn(ask(false))).collect();
        tokio::time::sleep(ms(1)).await;
        assert_eq!(source.loads(), 1, "everyone waits for the load under way");
        source.let_go(1);
        assert_eq!(leader.await.unwrap(), 1);
        assert_eq!(before.await.unwrap(), 1, "it asked before the invalidation");
        for after in after {
            assert_eq!(after.await.unwrap(), 2, "it asked after the invalidation");
        }
        assert_eq!(source.loads(), 2, "those who ask again load once");
        assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&2));
        assert!(cache.is_idle());
    }
}

/// Invalidations of other tags neither spoil a load nor send anyone to ask again.
#[tokio::test(start_paused = true)]
async fn other_tags_disturb_nobody() {
    let (cache, source) = (builder().build().unwrap(), Source::new());
    let ask = || {
        let (cache, source) = (cache.clone(), source.clone());
        tokio::spawn(async move { cache.get_or_load("k", move || source.slow(ms(100))).tag("t").await })
    };
    let first = ask();
    source.begun(1).await;
    cache.invalidate_tags(["u", "v"]).await.unwrap();
    let second = ask();
    for asked in [first, second] {
        assert_eq!(*asked.await.unwrap().unwrap(), 1);
    }
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&1));
    assert_eq!(source.loads(), 1);
}

/// A tag invalidated all the time: whoever asks is answered, after two loads at most.
#[tokio::test(start_paused = true)]
async fn a_tag_invalidated_all_the_time_starves_nobody() {
    let (cache, source) = (builder().build().unwrap(), Source::new());
    let hammer = tokio::spawn({
        let (cache, source) = (cache.clone(), source.clone());
        async move {
            loop {
                source.write();
                cache.invalidate_tag("t").await.unwrap();
                tokio::time::sleep(ms(1)).await;
            }
        }
    });
    for _ in 0..20 {
        let asked = tokio::time::Instant::now();
        let calls = (0..20).map(|_| {
            let source = source.clone();
            cache.get_or_load("k", move || source.slow(ms(50))).tag("t")
        });
        for outcome in futures_util::future::join_all(calls).await {
            outcome.unwrap();
        }
        assert!(asked.elapsed() <= ms(150), "{:?}", asked.elapsed());
        tokio::time::sleep(ms(7)).await;
    }
    hammer.abort();
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_value_keeps_its_tags() {
    let cache = builder().ttl(ms(100)).stale_for(Duration::from_secs(60)).build().unwrap();
    cache.get_or_load("k", || async { Ok::<_, No>(Loaded::new(1).tag("t")) }).await.unwrap();
    tokio::time::advance(ms(150)).await;
    let unchanged = |context: async_cache_core::LoadContext<u64>| async move {
        assert!(context.previous().is_some());
        Ok::<_, No>(Loaded::unchanged())
    };
    assert_eq!(*cache.get_or_load_with("k", unchanged).await.unwrap(), 1);
    assert!(present(&cache, "k").await);
    cache.invalidate_tag("t").await.unwrap();
    assert!(!present(&cache, "k").await);
}

/// What a tag voids is no fallback for a load that fails.
#[tokio::test(start_paused = true)]
async fn what_a_tag_voids_does_not_come_back_as_a_fallback() {
    let cache = builder().ttl(ms(100)).stale_for(Duration::from_secs(60)).build().unwrap();
    cache.insert("k", 1).tag("t").await.unwrap();
    cache.insert("kept", 1).tag("u").await.unwrap();
    tokio::time::advance(ms(150)).await;
    let failing = || async { Err::<u64, _>(No(1)) };
    assert_eq!(*cache.get_or_load("k", failing).await.unwrap(), 1, "a stale value stands in");
    cache.invalidate_tag("t").await.unwrap();
    assert_eq!(cache.get_or_load("k", failing).await.unwrap_err().kind(), ErrorKind::Loader);
    assert_eq!(*cache.get_or_load("kept", failing).await.unwrap(), 1);
}

/// A tag is invalidated while a value that has it is refreshed in the background.
#[tokio::test(start_paused = true)]
async fn a_refresh_of_before_does_not_bring_the_value_back() {
    let options = |builder: TieredCacheBuilder<String, u64>| {
        builder.ttl(ms(100)).stale_for(Duration::from_secs(60)).stale_while_revalidate(true)
    };
    let (cache, source) = (options(builder()).build().unwrap(), Source::new());
    cache.insert("k", 1).tag("t").await.unwrap();
    tokio::time::advance(ms(150)).await;
    let load = source.clone();
    assert_eq!(*cache.get_or_load("k", move || load.held()).tag("t").await.unwrap(), 1, "stale, at once");
    source.begun(1).await;
    source.write();
    cache.invalidate_tag("t").await.unwrap();
    let load = source.clone();
    let after = cache.get_or_load("k", move || load.now()).tag("t");
    source.let_go(1);
    assert_eq!(*after.await.unwrap(), 2);
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&2));
}

#[tokio::test(start_paused = true)]
async fn wrong_tags_are_refused_by_name() {
    let cache = builder().build().unwrap();
    let long = "t".repeat(129);
    let load = || async { Ok::<_, No>(1) };
    let many: Vec<String> = (0..33).map(|n| n.to_string()).collect();
    let errors = [
        (cache.get_or_load("k", load).tag("").await.unwrap_err(), "empty"),
        (cache.get_or_load("k", load).tag(&long).await.unwrap_err(), "128"),
        (cache.get_or_load("k", load).tags(&many).await.unwrap_err(), "32"),
        (cache.insert("k", 1).tag(&long).await.unwrap_err(), "128"),
        (cache.insert("k", 1).tags(&many).await.unwrap_err(), "32"),
        (cache.invalidate_tag("").await.unwrap_err(), "empty"),
        (cache.invalidate_tags(["a", &long]).await.unwrap_err(), "128"),
        (builder().tag("").build().unwrap_err(), "empty"),
    ];
    for (error, says) in errors {
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(says) && error.to_string().contains("`rows`"), "{error}");
    }
    let chosen = move || async move { Ok::<_, No>(Loaded::new(1).tags(&many)) };
    assert_eq!(*cache.get_or_load("k", chosen).await.unwrap(), 1, "a loaded value is answered");
    assert!(!present(&cache, "k").await, "and not cached without its tags");
    // Any number of tags may be invalidated at once.
    cache.insert("k", 1).tag("77").await.unwrap();
    cache.invalidate_tags((0..100).map(|n| n.to_string())).await.unwrap();
    assert!(!present(&cache, "k").await);
}

/// Far more tags than the table holds: no invalidation is forgotten, and younger entries stay.
#[tokio::test(start_paused = true)]
async fn more_tags_than_the_table_holds() {
    let cache = builder().build().unwrap();
    cache.insert("k", 1).tags(["first", "x"]).await.unwrap();
    cache.invalidate_tag("first").await.unwrap();
    cache.insert("young", 1).tag("y").await.unwrap();
    cache.invalidate_tags((0..100_000).map(|n| format!("tag-{n}"))).await.unwrap();
    assert!(!present(&cache, "k").await);
    cache.insert("younger", 1).tag("y").await.unwrap();
    assert!(present(&cache, "younger").await);
    cache.invalidate_tag("y").await.unwrap();
    assert!(!present(&cache, "young").await && !present(&cache, "younger").await);
}
