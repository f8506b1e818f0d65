//! `l1_ttl` holds whichever way a value has come into L1.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use async_cache::testing::{ms, until};
use async_cache::{Loaded, MemoryBackend, TieredCache, TieredCacheBuilder};

type Cache = TieredCache<String, u64>;
type Builder = TieredCacheBuilder<String, u64>;

const CAP: Duration = Duration::from_millis(200);

/// A way into L1 of the first node. The second is there to have been first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Get,
    GetMany,
    FoundByLookup,
    FoundByBatch,
    Load,
    OptionalLoad,
    Refresh,
    Chosen,
    Insert,
    InsertMany,
    Batch,
    ChosenInBatch,
    DataLoader,
    Primed,
    Warm,
    WarmMany,
    WakeUp,
    RefreshBehind,
    Confirmed,
}

impl Way {
    const ALL: [Self; 19] = [
        Self::Get,
        Self::GetMany,
        Self::FoundByLookup,
        Self::FoundByBatch,
        Self::Load,
        Self::OptionalLoad,
        Self::Refresh,
        Self::Chosen,
        Self::Insert,
        Self::InsertMany,
        Self::Batch,
        Self::ChosenInBatch,
        Self::DataLoader,
        Self::Primed,
        Self::Warm,
        Self::WarmMany,
        Self::WakeUp,
        Self::RefreshBehind,
        Self::Confirmed,
    ];

    /// Whether the loader chooses the cap, so that the cache needs none.
    fn is_chosen(self) -> bool {
        matches!(self, Self::Chosen | Self::ChosenInBatch)
    }

    async fn bring(self, node: &Cache, other: &Cache) {
        let load = || async { Ok::<_, io::Error>(1_u64) };
        let batch = |keys: Vec<String>| async {
            Ok::<_, io::Error>(keys.into_iter().map(|key| (key, 1_u64)).collect::<HashMap<_, _>>())
        };
        match self {
            Self::Get => {
                other.insert("k", 1).await.unwrap();
                node.get("k").await.map(drop).unwrap();
            }
            Self::GetMany => {
                other.insert("k", 1).await.unwrap();
                node.get_many(["k"]).await.map(drop).unwrap();
            }
            Self::FoundByLookup => {
                other.insert("k", 1).await.unwrap();
                node.get_or_load("k", load).await.map(drop).unwrap();
            }
            Self::FoundByBatch => {
                other.insert("k", 1).await.unwrap();
                node.get_many_or_load(["k"], batch).await.map(drop).unwrap();
            }
            Self::Load => node.get_or_load("k", load).await.map(drop).unwrap(),
            Self::OptionalLoad => {
                let load = || async { Ok::<_, io::Error>(Some(1_u64)) };
                node.get_or_load_optional("k", load).await.map(drop).unwrap();
            }
            Self::Refresh => node.refresh("k", load).await.map(drop).unwrap(),
            Self::Chosen => {
                let load = || async { Ok::<_, io::Error>(Loaded::new(1_u64).l1_ttl(CAP)) };
                node.get_or_load("k", load).await.map(drop).unwrap();
            }
            Self::Insert => node.insert("k", 1).await.map(drop).unwrap(),
            Self::InsertMany => node.insert_many([("k".to_owned(), 1)]).await.map(drop).unwrap(),
            Self::Batch => node.get_many_or_load(["k"], batch).await.map(drop).unwrap(),
            Self::ChosenInBatch => {
                let batch = |keys: Vec<String>| async {
                    let chosen = |key| (key, Loaded::new(1_u64).l1_ttl(CAP));
                    Ok::<_, io::Error>(keys.into_iter().map(chosen).collect::<HashMap<_, _>>())
                };
                node.get_many_or_load(["k"], batch).await.map(drop).unwrap();
            }
            Self::DataLoader => node.data_loader(batch).build().load("k".to_owned()).await.map(drop).unwrap(),
            Self::Primed => node.data_loader(batch).build().prime("k".to_owned(), 1).await.unwrap(),
            Self::Warm => assert_eq!(node.warm(["k".to_owned()], move |_| load()).await.loaded, 1),
            Self::WarmMany => assert_eq!(node.warm_many(["k".to_owned()], batch).await.loaded, 1),
            Self::WakeUp => wake_up(node, other).await,
            Self::RefreshBehind => refresh_behind(node).await,
            Self::Confirmed => {
                node.insert("k", 1).await.unwrap();
                tokio::time::sleep(CAP + ms(50)).await;
                node.get_or_load("k", load).await.map(drop).unwrap();
            }
        }
    }
}

/// Waits for the other's load, which brings the value along.
async fn wake_up(node: &Cache, other: &Cache) {
    let theirs = other.get_or_load("k", || async {
        tokio::time::sleep(ms(50)).await;
        Ok::<_, io::Error>(1)
    });
    let ours = async {
        tokio::time::sleep(ms(10)).await;
        node.get_or_load("k", || async { Err::<u64, _>(io::Error::other("not asked")) }).await
    };
    let (theirs, ours) = tokio::join!(theirs, ours);
    assert_eq!((*theirs.unwrap(), *ours.unwrap()), (1, 1));
}

/// Replaces what has expired.
async fn refresh_behind(node: &Cache) {
    node.insert("k", 0).ttl(ms(300)).await.unwrap();
    tokio::time::sleep(ms(400)).await;
    let load = || async { Ok::<_, io::Error>(1_u64) };
    assert_eq!(*node.get_or_load("k", load).stale_while_revalidate(true).await.unwrap(), 0);
    until("it is refreshed", || node.is_idle()).await;
}

async fn node(l2: &MemoryBackend, options: impl FnOnce(Builder) -> Builder) -> Cache {
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(1_000)).l2(l2.clone());
    let cache = options(builder.stale_for(Duration::from_secs(60))).build().unwrap();
    until("the node serves", || cache.is_serving()).await;
    cache
}

#[tokio::test(start_paused = true)]
async fn l1_asks_after_its_cap_however_the_value_has_come() {
    for way in Way::ALL {
        let l2 = MemoryBackend::new(1_000);
        let capped = |builder: Builder| if way.is_chosen() { builder } else { builder.l1_ttl(CAP) };
        let (node, other) = (node(&l2, capped).await, node(&l2, |builder| builder).await);
        way.bring(&node, &other).await;
        let brought = node.stats();
        assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1), "{way:?}");
        assert_eq!(node.stats().l1_hits, brought.l1_hits + 1, "{way:?}: it is in L1");
        tokio::time::sleep(CAP + ms(5)).await;
        let before = node.stats();
        assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1), "{way:?}");
        let after = node.stats();
        assert_eq!(
            (after.l1_hits - before.l1_hits, after.l2_hits - before.l2_hits),
            (0, 1),
            "{way:?}: L2 is asked"
        );
        assert_eq!((after.loads, after.stale_served), (brought.loads, brought.stale_served), "{way:?}");
    }
}
