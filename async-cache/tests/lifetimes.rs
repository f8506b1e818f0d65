//! How long a value answers: three times belong to it, when L1 must ask, when it is no longer fresh, when it is gone.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use async_cache::testing::{Source, ms, until};
use async_cache::{Event, MemoryBackend, TieredCache, TieredCacheBuilder};
use futures_util::{FutureExt, StreamExt};

type Cache = TieredCache<String, u64>;
type Builder = TieredCacheBuilder<String, u64>;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn build(l2: &MemoryBackend, options: impl FnOnce(Builder) -> Builder) -> Cache {
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(10_000)).l2(l2.clone());
    options(builder).build().unwrap()
}

async fn node(l2: &MemoryBackend, options: impl FnOnce(Builder) -> Builder) -> Cache {
    let cache = build(l2, options);
    until("the node serves", || cache.is_serving()).await;
    cache
}

/// A shared tier that has been in use for an hour, and a node on it: its clock is far from zero.
async fn old_tier(options: impl FnOnce(Builder) -> Builder) -> (MemoryBackend, Cache) {
    let l2 = MemoryBackend::new(10_000);
    let first = node(&l2, options).await;
    tokio::time::sleep(secs(3600)).await;
    until("the node serves", || first.is_serving()).await;
    (l2, first)
}

/// The ways to look a key up. Each reads before anything has told this node the server's time.
#[derive(Debug, Clone, Copy)]
enum Way {
    Get,
    GetMany,
    GetOrLoad,
    Optional,
    Batch,
    DataLoader,
    Contains,
}

const WAYS: [Way; 7] =
    [Way::Get, Way::GetMany, Way::GetOrLoad, Way::Optional, Way::Batch, Way::DataLoader, Way::Contains];

impl Way {
    /// What is found, with a loader that finds nothing where it takes one.
    async fn look(self, cache: &Cache, key: &str) -> Option<u64> {
        let missing = || async { Ok::<_, std::io::Error>(None::<u64>) };
        let batch = |_: Vec<String>| async {
            Ok::<_, std::io::Error>(std::collections::HashMap::<String, u64>::new())
        };
        let found = match self {
            Self::Get => cache.get(key).await.unwrap(),
            Self::GetMany => cache.get_many([key]).await.unwrap().remove(0),
            Self::GetOrLoad => cache.get_or_load(key, || async { Ok::<u64, std::io::Error>(0) }).await.ok(),
            Self::Optional => cache.get_or_load_optional(key, missing).await.unwrap(),
            Self::Batch => {
                let found = cache.get_many_or_load(&[key.to_owned()], batch).await.unwrap();
                found.into_iter().next().flatten()
            }
            Self::DataLoader => cache.data_loader(batch).build().load(key.to_owned()).await.unwrap(),
            Self::Contains => return cache.contains(key).await.unwrap().then_some(1),
        };
        found.map(|value| *value)
    }
}

/// A value of two seconds, read by a node that knows nothing yet, and again once it serves.
#[tokio::test(start_paused = true)]
async fn what_a_node_reads_first_ends_with_its_ttl() {
    for way in WAYS {
        let (l2, a) = old_tier(|builder| builder).await;
        a.insert("k", 1).ttl(secs(2)).await.unwrap();
        let b = build(&l2, |builder| builder);
        assert!(!b.is_serving());
        assert_eq!(way.look(&b, "k").await, Some(1), "{way:?}");
        until("the node serves", || b.is_serving()).await;
        assert_eq!(way.look(&b, "k").await, Some(1), "{way:?}, serving");
        tokio::time::sleep(secs(3)).await;
        let found = way.look(&b, "k").await;
        assert!(
            matches!((way, found), (Way::GetOrLoad, Some(0)) | (_, None)),
            "{way:?} past the ttl: {found:?}"
        );
    }
}

/// Past its ttl, but kept as a fallback: the first call of a node finds it there.
#[tokio::test(start_paused = true)]
async fn a_first_call_does_not_take_an_expired_value_for_a_fresh_one() {
    for way in WAYS {
        let (l2, a) = old_tier(|builder| builder).await;
        a.insert("k", 1).ttl(secs(2)).stale_for(secs(600)).await.unwrap();
        tokio::time::sleep(secs(3)).await;
        let b = build(&l2, |builder| builder);
        let found = way.look(&b, "k").await;
        assert!(matches!((way, found), (Way::GetOrLoad, Some(0)) | (_, None)), "{way:?}: {found:?}");
        assert_eq!(b.stats().l2_hits, 0, "{way:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_absence_read_first_ends_with_its_negative_ttl() {
    for way in [Way::Get, Way::GetMany, Way::Optional, Way::Batch] {
        let (l2, a) = old_tier(|builder| builder.negative_ttl(secs(2))).await;
        a.get_or_load_optional("k", || async { Ok::<_, std::io::Error>(None::<u64>) }).await.unwrap();
        let b = build(&l2, |builder| builder);
        assert_eq!(way.look(&b, "k").await, None);
        until("the node serves", || b.is_serving()).await;
        assert_eq!(way.look(&b, "k").await, None);
        tokio::time::sleep(secs(3)).await;
        let source = Source::new();
        let load = source.clone();
        let found =
            b.get_or_load_optional("k", move || async move { load.now().await.map(Some) }).await.unwrap();
        assert_eq!((found.as_deref(), source.loads()), (Some(&1), 1), "{way:?}");
    }
}

/// A fallback is gone `stale_for` after its ttl, also for the node whose first call found it.
#[tokio::test(start_paused = true)]
async fn a_fallback_found_by_a_first_call_ends_with_its_time() {
    let options = |builder: Builder| builder.ttl(secs(2)).stale_for(secs(4)).error_backoff(ms(1));
    let (l2, a) = old_tier(options).await;
    a.insert("k", 1).await.unwrap();
    tokio::time::sleep(secs(3)).await;
    let (b, source) = (build(&l2, options), Source::new());
    let failing = || {
        let source = source.clone();
        b.get_or_load("k", move || source.failing())
    };
    assert_eq!(*failing().await.unwrap(), 1);
    until("the node serves", || b.is_serving()).await;
    assert_eq!(*failing().await.unwrap(), 1);
    tokio::time::sleep(secs(4)).await;
    failing().await.unwrap_err();
    let load = source.clone();
    b.get_or_load("k", move || load.failing()).soft_timeout(ms(1)).await.unwrap_err();
}

/// Four hundred hot keys, asked for at once by a process that has just started.
#[tokio::test(start_paused = true)]
async fn hot_keys_of_a_starting_process_do_not_outlive_their_ttl() {
    let (l2, a) = old_tier(|builder| builder.ttl(secs(3))).await;
    a.insert_many((0..400).map(|n| (n.to_string(), n))).await.unwrap();
    let (b, source) = (build(&l2, |builder| builder.ttl(secs(3))), Source::new());
    let all = || async {
        let one = |n: u64| {
            let (b, source) = (b.clone(), source.clone());
            async move { *b.get_or_load(&n.to_string(), move || source.now()).await.unwrap() }
        };
        futures_util::future::join_all((0..400).map(one)).await
    };
    assert_eq!(all().await, (0..400).collect::<Vec<_>>());
    until("the node serves", || b.is_serving()).await;
    assert_eq!(all().await, (0..400).collect::<Vec<_>>());
    assert_eq!(source.loads(), 0);
    tokio::time::sleep(secs(4)).await;
    all().await;
    assert_eq!(source.loads(), 400, "keys outlived their ttl");
}

/// The cap means "ask L2".
#[tokio::test(start_paused = true)]
async fn past_its_cap_in_l1_a_value_is_asked_for_and_no_older_than_before() {
    for revalidate in [true, false] {
        let l2 = MemoryBackend::new(1_000);
        let options = |builder: Builder| {
            builder.ttl(secs(60)).l1_ttl(ms(200)).stale_for(secs(60)).stale_while_revalidate(revalidate)
        };
        let (cache, source) = (node(&l2, options).await, Source::new());
        let mut events = cache.subscribe();
        for _ in 0..300 {
            let load = source.clone();
            assert_eq!(*cache.get_or_load("k", move || load.now()).await.unwrap(), 1);
            tokio::time::sleep(ms(10)).await;
        }
        let stats = cache.stats();
        assert_eq!((source.loads(), stats.stale_served), (1, 0), "{stats:?}");
        assert!((12..=16).contains(&stats.l2_hits), "L2 is asked once a cap: {stats:?}");
        assert!(
            std::iter::from_fn(|| events.next().now_or_never().flatten())
                .all(|event| !matches!(event, Event::StaleServed { .. }))
        );
    }
}

/// Likewise where most lookups miss, so that the lease is asked for at once; one key alone or many.
#[tokio::test(start_paused = true)]
async fn past_its_cap_in_l1_a_value_is_not_loaded_again_while_most_lookups_miss() {
    for way in [Way::GetOrLoad, Way::Batch, Way::DataLoader] {
        let l2 = MemoryBackend::new(1_000);
        let cache = node(&l2, |builder| builder.ttl(secs(60)).l1_ttl(ms(200)).stale_for(secs(60))).await;
        for cold in 0..100 {
            assert_eq!(
                *cache.get_or_load(&format!("cold {cold}"), move || Source::new().now()).await.unwrap(),
                1
            );
        }
        let other = node(&l2, |builder| builder).await;
        other.insert("k", 7).ttl(secs(60)).stale_for(secs(60)).await.unwrap();
        let before = cache.stats();
        for _ in 0..100 {
            assert_eq!(way.look(&cache, "k").await, Some(7), "{way:?}");
            tokio::time::sleep(ms(50)).await;
        }
        let stats = cache.stats();
        assert_eq!((stats.loads - before.loads, stats.stale_served), (0, 0), "{way:?}: {stats:?}");
    }
}
