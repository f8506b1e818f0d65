//! Soft invalidation: a value is not fresh any more on any node, and remains a fallback.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use async_cache::testing::{self, No, until};
use async_cache::{Error, ErrorKind, MemoryBackend, Source, TieredCache, TieredCacheBuilder};

type Cache = TieredCache<u64, String>;
type Builder = TieredCacheBuilder<u64, String>;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The tiers of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tiers {
    L1,
    L2,
    Both,
}

const ALL: [Tiers; 3] = [Tiers::L1, Tiers::L2, Tiers::Both];

async fn node(tiers: Tiers, l2: &MemoryBackend, options: impl FnOnce(Builder) -> Builder) -> Cache {
    let mut builder = TieredCache::builder().namespace("users").stale_for(secs(60)).ttl(secs(30));
    if tiers != Tiers::L2 {
        builder = builder.l1(MemoryBackend::new(100));
    }
    if tiers != Tiers::L1 {
        builder = builder.l2(l2.clone());
    }
    let cache = options(builder).build().unwrap();
    until("the node serves", || cache.is_serving()).await;
    cache
}

async fn fail() -> io::Result<String> {
    Err(io::Error::other("the source is down"))
}

fn load(text: &str) -> std::future::Ready<io::Result<String>> {
    std::future::ready(Ok(text.to_owned()))
}

/// The ways to expire key 1, which has the tag `t`. Key 2 has another tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Key,
    Many,
    Tag,
    Tags,
    Encoded,
}

const WAYS: [Way; 5] = [Way::Key, Way::Many, Way::Tag, Way::Tags, Way::Encoded];

impl Way {
    async fn expire(self, cache: &Cache) -> Result<async_cache::Stamp, Error> {
        match self {
            Self::Key => cache.expire(&1).await,
            Self::Many => cache.expire_many([&1, &9]).await,
            Self::Tag => cache.expire_tag("t").await,
            Self::Tags => cache.expire_tags(["s", "t"]).await,
            Self::Encoded => {
                let key = async_cache::key::Key::encode(&1_u64).unwrap();
                cache.invalidator().expire_many(vec![key]).await
            }
        }
    }
}

async fn fill(cache: &Cache) {
    cache.insert(&1, "old".to_owned()).tag("t").await.unwrap();
    cache.insert(&2, "other".to_owned()).tag("u").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_expired_value_is_not_fresh_and_answers_when_the_load_fails() {
    for tiers in ALL {
        for way in WAYS {
            let what = format!("{tiers:?} {way:?}");
            let cache = node(tiers, &MemoryBackend::new(100), |builder| builder.error_backoff(secs(1))).await;
            fill(&cache).await;
            way.expire(&cache).await.unwrap();
            assert!(cache.get(&1).await.unwrap().is_none(), "{what}: it is not fresh");
            assert_eq!(cache.get_many(&[1, 2]).await.unwrap().iter().flatten().count(), 1, "{what}");
            let found = cache.get_or_load(&1, fail).traced().await.unwrap();
            assert_eq!((&**found.value, found.source), ("old", Source::Stale), "{what}");
            tokio::time::sleep(secs(2)).await;
            let loaded = cache.get_or_load(&1, || load("new")).traced().await.unwrap();
            assert_eq!((&**loaded.value, loaded.source), ("new", Source::Load), "{what}");
            assert_eq!(**cache.get(&1).await.unwrap().unwrap(), *"new", "{what}: what is loaded is fresh");
            assert_eq!(**cache.get(&2).await.unwrap().unwrap(), *"other", "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_keys_fall_back_each_for_itself() {
    for tiers in ALL {
        for way in WAYS {
            let cache = node(tiers, &MemoryBackend::new(100), |builder| builder).await;
            fill(&cache).await;
            way.expire(&cache).await.unwrap();
            let failing = |_: Vec<u64>| async { Err::<HashMap<u64, String>, _>(No(0)) };
            let found = cache.get_many_or_load(&[1, 2], failing).await.unwrap();
            let found: Vec<_> = found.iter().flatten().map(|value| value.as_str()).collect();
            assert_eq!(found, ["old", "other"], "{tiers:?} {way:?}");
            assert_eq!(cache.stats().stale_served, 1, "{tiers:?} {way:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_reaches_every_node_as_an_invalidation_does() {
    for way in WAYS {
        let l2 = MemoryBackend::new(100);
        let (a, b) = (node(Tiers::Both, &l2, |b| b).await, node(Tiers::Both, &l2, |b| b).await);
        fill(&a).await;
        assert_eq!(b.get(&1).traced().await.unwrap().source, Source::L2);
        assert_eq!(b.get(&1).traced().await.unwrap().source, Source::L1);
        let stamp = way.expire(&a).await.unwrap();
        for node in [&a, &b] {
            assert!(node.get(&1).await.unwrap().is_none(), "{way:?}");
            let found = node.get_or_load(&1, fail).await.unwrap();
            assert_eq!(**found, *"old", "{way:?}: a fallback on every node");
            let insisting = node.get_or_load(&1, fail).at_least(&stamp).await;
            assert_eq!(insisting.unwrap_err().kind(), ErrorKind::Loader, "{way:?}: but not for its stamp");
        }
        assert_eq!(**b.get_or_load(&1, || load("new")).at_least(&stamp).await.unwrap(), *"new", "{way:?}");
        assert_eq!(**a.get(&1).at_least(&stamp).await.unwrap().unwrap(), *"new", "{way:?}");
    }
}

/// Whether there is an L2 or not, and whoever leads the lookup that the call joins.
#[tokio::test(start_paused = true)]
async fn it_is_no_fallback_for_its_own_stamp() {
    for tiers in ALL {
        for way in WAYS {
            let cache = node(tiers, &MemoryBackend::new(100), |builder| builder).await;
            fill(&cache).await;
            let stamp = way.expire(&cache).await.unwrap();
            let source = testing::Source::new();
            let ask = |insists: bool| {
                let (cache, source, stamp) = (cache.clone(), source.clone(), stamp.clone());
                let load = move || async move { source.held().await.and(Err::<String, _>(No(0))) };
                tokio::spawn(async move {
                    let request = cache.get_or_load(&1, load);
                    if insists { request.at_least(&stamp).await } else { request.await }
                })
            };
            let calls = [ask(false), ask(true)];
            source.begun(1).await;
            source.let_go(2);
            let [plain, insists] = calls;
            assert_eq!(**plain.await.unwrap().unwrap(), *"old", "{tiers:?} {way:?}");
            assert!(insists.await.unwrap().is_err(), "{tiers:?} {way:?}");
            assert!(cache.get_or_load(&1, fail).at_least(&stamp).await.is_err(), "{tiers:?} {way:?}");
        }
    }
}

/// While a refresh runs, the value that it replaces answers, unless a change has expired it.
#[tokio::test(start_paused = true)]
async fn a_lookup_beside_a_refresh_does_not_take_it_as_fresh() {
    for tiers in ALL {
        for way in WAYS {
            let none = |builder: Builder| builder.stale_for(Duration::ZERO);
            let cache = node(tiers, &MemoryBackend::new(100), none).await;
            fill(&cache).await;
            let source = testing::Source::new();
            let refresh = tokio::spawn({
                let (cache, source) = (cache.clone(), source.clone());
                async move {
                    let load = move || async move { source.held().await.map(|version| version.to_string()) };
                    cache.refresh(&1, load).await
                }
            });
            source.begun(1).await;
            way.expire(&cache).await.unwrap();
            source.let_go(1);
            let found = cache.get_or_load(&1, || load("new")).await.unwrap();
            assert_ne!(**found, *"old", "{tiers:?} {way:?}");
            refresh.await.unwrap().unwrap();
        }
    }
}

/// A node that has no entry in L1, or that comes later, learns it from L2.
#[tokio::test(start_paused = true)]
async fn a_later_node_finds_it_expired() {
    for way in WAYS {
        let l2 = MemoryBackend::new(100);
        let a = node(Tiers::Both, &l2, |builder| builder).await;
        fill(&a).await;
        way.expire(&a).await.unwrap();
        for tiers in [Tiers::L2, Tiers::Both] {
            let b = node(tiers, &l2, |builder| builder).await;
            assert!(b.get(&1).await.unwrap().is_none(), "{way:?} {tiers:?}");
            let found = b.get_or_load(&1, fail).traced().await.unwrap();
            assert_eq!((&**found.value, found.source), ("old", Source::Stale), "{way:?} {tiers:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_stale_for_it_is_an_invalidation() {
    for tiers in ALL {
        for way in WAYS {
            let none = |builder: Builder| builder.stale_for(Duration::ZERO);
            let cache = node(tiers, &MemoryBackend::new(100), none).await;
            fill(&cache).await;
            way.expire(&cache).await.unwrap();
            let failed = cache.get_or_load(&1, fail).await.unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::Loader, "{tiers:?} {way:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_fallback_ends_when_it_would_have_ended() {
    for tiers in ALL {
        for way in WAYS {
            let cache = node(tiers, &MemoryBackend::new(100), |builder| builder).await;
            fill(&cache).await;
            tokio::time::sleep(secs(10)).await;
            way.expire(&cache).await.unwrap();
            tokio::time::sleep(secs(78)).await;
            let found = cache.get_or_load(&1, fail).traced().await.unwrap();
            assert_eq!(found.age.as_secs_f64().round() as u64, 88, "{tiers:?} {way:?}");
            tokio::time::sleep(secs(3)).await;
            assert!(cache.get_or_load(&1, fail).await.is_err(), "{tiers:?} {way:?}: 90 s after its load");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_from_before_is_not_stored() {
    for tiers in ALL {
        for way in WAYS {
            let cache = node(tiers, &MemoryBackend::new(100), |builder| builder).await;
            let source = testing::Source::new();
            let call = tokio::spawn({
                let (cache, source) = (cache.clone(), source.clone());
                async move {
                    let load = move || async move { source.held().await.map(|version| version.to_string()) };
                    cache.get_or_load(&1, load).tag("t").await
                }
            });
            source.begun(1).await;
            way.expire(&cache).await.unwrap();
            source.let_go(1);
            assert_eq!(**call.await.unwrap().unwrap(), *"1");
            until("it is stored nowhere", || cache.is_idle()).await;
            assert!(cache.get(&1).await.unwrap().is_none(), "{tiers:?} {way:?}");
        }
    }
}

/// Step by step as after an expiry by time: the stale value at once, and a refresh behind it.
#[tokio::test(start_paused = true)]
async fn it_revalidates_behind_the_answer_if_the_options_say_so() {
    for tiers in ALL {
        let cache = node(tiers, &MemoryBackend::new(100), |builder| builder).await;
        fill(&cache).await;
        cache.expire(&1).await.unwrap();
        let request = cache.get_or_load(&1, || load("new")).stale_while_revalidate(true).traced();
        let found = request.await.unwrap();
        if tiers != Tiers::L2 {
            assert_eq!((&**found.value, found.source), ("old", Source::Stale), "{tiers:?}");
        }
        until("it is refreshed", || cache.is_idle()).await;
        assert_eq!(**cache.get(&1).await.unwrap().unwrap(), *"new", "{tiers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_after_it_leaves_no_fallback() {
    for tiers in ALL {
        for way in WAYS {
            let cache = node(tiers, &MemoryBackend::new(100), |builder| builder).await;
            fill(&cache).await;
            way.expire(&cache).await.unwrap();
            match way {
                Way::Tag | Way::Tags => cache.invalidate_tag("t").await.unwrap(),
                _ => cache.invalidate(&1).await.unwrap(),
            };
            assert!(cache.get_or_load(&1, fail).await.is_err(), "{tiers:?} {way:?}");
        }
    }
}
