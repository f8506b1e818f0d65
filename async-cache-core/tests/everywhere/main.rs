//! Each option, wherever it may be given, does what it says: on the cache, on the call, on the value; whichever verb
//! loads; on every combination of tiers.

use std::collections::HashMap;
use std::time::Duration;

use async_cache_core::testing::{No, Source, ms, until};
use async_cache_core::{
    Defaults, ErrorKind, LoadOptions, Loaded, Result, StoreOptions, TieredCache, TieredCacheBuilder,
};
use async_cache_memory::MemoryBackend;
use tokio::time::{Instant, sleep};

type Cache = TieredCache<String, u64>;
type Builder = TieredCacheBuilder<String, u64>;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[derive(Debug, Clone, Copy)]
enum Tiers {
    L1,
    L2,
    Both,
}

impl Tiers {
    const ALL: [Self; 3] = [Self::L1, Self::L2, Self::Both];

    async fn cache(self, with: impl FnOnce(Builder) -> Builder) -> Cache {
        let builder = TieredCache::builder().namespace("rows");
        let builder = match self {
            Self::L1 => builder.l1(MemoryBackend::new(10_000)),
            Self::L2 => builder.l2(MemoryBackend::new(10_000)),
            Self::Both => builder.l1(MemoryBackend::new(10_000)).l2(MemoryBackend::new(10_000)),
        };
        let cache = with(builder).build().unwrap();
        until("it serves", || cache.is_serving()).await;
        cache
    }
}

/// The verbs that load or store.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    One,
    Optional,
    Refresh,
    Many,
    Loader,
    Warm,
    WarmMany,
    Insert,
    InsertMany,
}

impl Way {
    const ALL: [Self; 9] = [
        Self::One,
        Self::Optional,
        Self::Refresh,
        Self::Many,
        Self::Loader,
        Self::Warm,
        Self::WarmMany,
        Self::Insert,
        Self::InsertMany,
    ];
    /// Those that may be answered by a value that has expired.
    const LOOKUPS: [Self; 4] = [Self::One, Self::Optional, Self::Many, Self::Loader];
    /// Those that may find nothing.
    const OPTIONAL: [Self; 4] = [Self::Optional, Self::Many, Self::Loader, Self::WarmMany];

    fn has_loader(self) -> bool {
        !matches!(self, Self::Insert | Self::InsertMany)
    }
}

/// A batch function that loads each key with the same query.
macro_rules! batch {
    ($given:expr) => {{
        let given = $given;
        move |keys: Vec<String>| {
            let loads: Vec<_> = keys.into_iter().map(|key| (key, given())).collect();
            async move {
                let mut found = HashMap::new();
                for (key, load) in loads {
                    found.insert(key, load.await?);
                }
                Ok::<_, No>(found)
            }
        }
    }};
}

/// Loads one key, with options of the call: `$options` begins those that a `DataLoader` takes as a whole. Gives what the
/// caller gets.
macro_rules! load {
    ($cache:expr, $way:expr, $key:expr, $given:expr, $options:expr, |$x:ident| $with:expr) => {{
        let (cache, key, given): (&Cache, String, _) = ($cache, String::from($key), $given);
        let outcome: Result<Option<u64>> = match $way {
            Way::One => {
                let $x = cache.get_or_load(&key, given);
                $with.await.map(|value| Some(*value))
            }
            Way::Many => {
                let $x = cache.get_many_or_load([key.as_str()], batch!(given));
                $with.await.map(|mut found| found.remove(0).map(|value| *value))
            }
            Way::Loader => {
                let $x = $options;
                let loader = cache.data_loader(batch!(given)).options($with).build();
                loader.load(key).await.map(|found| found.map(|value| *value))
            }
            other => unreachable!("{other:?}"),
        };
        outcome
    }};
}

/// The same for every verb, where there is a value.
macro_rules! bring {
    ($cache:expr, $way:expr, $key:expr, $given:expr, $options:expr, |$x:ident| $with:expr) => {{
        let (cache, key, given): (&Cache, String, _) = ($cache, String::from($key), $given);
        match $way {
            Way::Optional => {
                let $x = cache.get_or_load_optional(&key, move || {
                    let load = given();
                    async move { load.await.map(Some) }
                });
                drop($with.await.unwrap());
            }
            Way::Refresh => {
                let $x = cache.refresh(&key, given);
                drop($with.await.unwrap());
            }
            Way::Warm => {
                let $x = cache.warm([key], move |_| given());
                assert_eq!($with.await.loaded, 1);
            }
            Way::WarmMany => {
                let $x = cache.warm_many([key], batch!(given));
                assert_eq!($with.await.loaded, 1);
            }
            Way::Insert => {
                let $x = cache.insert(&key, 1);
                drop($with.await.unwrap());
            }
            Way::InsertMany => {
                let $x = cache.insert_many([(key, 1)]);
                drop($with.await.unwrap());
            }
            way => drop(load!(cache, way, key, given, $options, |$x| $with).unwrap()),
        }
    }};
}

fn plain() -> std::future::Ready<Result<u64, No>> {
    std::future::ready(Ok(1))
}

/// Holds a probe against an option, given in each place, for each verb and on all tiers.
macro_rules! holds_everywhere {
    ($probe:ident, $tiers:expr, |$x:ident| $with:expr) => {
        for tiers in $tiers {
            for way in Way::ALL {
                let cache = tiers.cache(|$x| $with).await;
                let by_cache = async |key: &str| bring!(&cache, way, key, plain, Defaults::default(), |x| x);
                $probe(&cache, by_cache, &format!("of the cache, {way:?}, {tiers:?}")).await;

                let cache = tiers.cache(|builder| builder).await;
                let by_call =
                    async |key: &str| bring!(&cache, way, key, plain, StoreOptions::new(), |$x| $with);
                $probe(&cache, by_call, &format!("of the call, {way:?}, {tiers:?}")).await;

                if !way.has_loader() {
                    continue;
                }
                let cache = tiers.cache(|builder| builder).await;
                let chosen = || {
                    let $x = Loaded::new(1_u64);
                    std::future::ready(Ok::<_, No>($with))
                };
                let by_value = async |key: &str| bring!(&cache, way, key, chosen, Defaults::default(), |x| x);
                $probe(&cache, by_value, &format!("of the value, {way:?}, {tiers:?}")).await;
            }
        }
    };
}

mod loads;
mod stored;
