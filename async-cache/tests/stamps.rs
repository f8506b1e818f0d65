//! A stamp says something about its own namespace, and is refused by every other: whatever is held.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::HashMap;
use std::io;

use async_cache::testing::until;
use async_cache::{Error, ErrorKind, MemoryBackend, Stamp, TieredCache};

type Cache = TieredCache<String, u64>;

#[derive(Debug, Clone, Copy)]
enum Verb {
    Get,
    GetMany,
    GetManyOfNone,
    GetOrLoad,
    Optional,
    Refresh,
    RefreshOptional,
    Batch,
    BatchOfNone,
}

impl Verb {
    const ALL: [Self; 9] = [
        Self::Get,
        Self::GetMany,
        Self::GetManyOfNone,
        Self::GetOrLoad,
        Self::Optional,
        Self::Refresh,
        Self::RefreshOptional,
        Self::Batch,
        Self::BatchOfNone,
    ];

    async fn call(self, cache: &Cache, key: &str, stamp: &Stamp) -> Result<(), Error> {
        let value = || async { Ok::<_, io::Error>(2_u64) };
        let optional = || async { Ok::<_, io::Error>(Some(2_u64)) };
        let batch = |_: Vec<String>| async { Ok::<_, io::Error>(HashMap::<String, u64>::new()) };
        match self {
            Self::Get => cache.get(key).at_least(stamp).await.map(drop),
            Self::GetMany => cache.get_many([key]).at_least(stamp).await.map(drop),
            Self::GetManyOfNone => cache.get_many([] as [&str; 0]).at_least(stamp).await.map(drop),
            Self::GetOrLoad => cache.get_or_load(key, value).at_least(stamp).await.map(drop),
            Self::Optional => cache.get_or_load_optional(key, optional).at_least(stamp).await.map(drop),
            Self::Refresh => cache.refresh(key, value).at_least(stamp).await.map(drop),
            Self::RefreshOptional => cache.refresh_optional(key, optional).at_least(stamp).await.map(drop),
            Self::Batch => first(cache.get_many_or_load([key], batch).at_least(stamp).await),
            Self::BatchOfNone => {
                cache.get_many_or_load([] as [&str; 0], batch).at_least(stamp).await.map(drop)
            }
        }
    }
}

fn first<T>(outcome: Result<Vec<T>, Error>) -> Result<(), Error> {
    outcome.map(drop)
}

async fn refused_and_taken(cache: &Cache, foreign: &Stamp) {
    // Past the number that the foreign stamp holds: to this cache all of that would have been applied.
    for _ in 0..10 {
        cache.invalidate_tag("t").await.unwrap();
    }
    let own = cache.insert("held", 1).await.unwrap();
    assert!(cache.contains("held").await.unwrap());
    for verb in Verb::ALL {
        for key in ["held", "cold"] {
            let refused = verb.call(cache, key, foreign).await.expect_err(&format!("{verb:?} of `{key}`"));
            assert_eq!(refused.kind(), ErrorKind::Config, "{verb:?} of `{key}`: {refused}");
            assert!(
                refused.namespace().is_some_and(|name| name != foreign.namespace()),
                "{verb:?}: {refused}"
            );
            assert!(refused.to_string().contains("`orders`"), "{refused}");
        }
    }
    assert_eq!(cache.stats().loads, 0, "nothing was loaded for a call that is refused");
    for verb in Verb::ALL {
        verb.call(cache, "held", &own).await.unwrap();
    }
}

#[tokio::test]
async fn a_foreign_stamp_is_refused_whatever_is_held() {
    let tier: MemoryBackend = MemoryBackend::new(100);
    let orders: TieredCache<String, u64> =
        TieredCache::builder().namespace("orders").l2(tier.clone()).build().unwrap();
    let foreign = orders.insert("held", 1).await.unwrap();

    let l1 = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(100)).build().unwrap();
    refused_and_taken(&l1, &foreign).await;
    let l2 = TieredCache::builder().namespace("rows").l2(tier.clone()).build().unwrap();
    refused_and_taken(&l2, &foreign).await;
    let both = TieredCache::builder().namespace("both").l1(MemoryBackend::new(100)).l2(tier).build().unwrap();
    until("the node serves", || both.is_serving()).await;
    refused_and_taken(&both, &foreign).await;
}
