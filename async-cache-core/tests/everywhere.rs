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

async fn lives_half_a_second(cache: &Cache, bring: impl AsyncFn(&str), what: &str) {
    bring("k").await;
    sleep(ms(490)).await;
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&1), "{what}");
    sleep(ms(20)).await;
    assert_eq!(cache.get("k").await.unwrap(), None, "{what}");
}

#[tokio::test(start_paused = true)]
async fn ttl() {
    holds_everywhere!(lives_half_a_second, Tiers::ALL, |x| x.ttl(ms(500)));
}

/// Past it L1 asks L2, if there is one; otherwise it is the end.
async fn is_asked_for_after_half_a_second(cache: &Cache, bring: impl AsyncFn(&str), what: &str) {
    bring("k").await;
    let hits = async || {
        let before = cache.stats();
        let found = cache.get("k").await.unwrap().is_some();
        let after = cache.stats();
        (found, after.l1_hits - before.l1_hits, after.l2_hits - before.l2_hits)
    };
    sleep(ms(490)).await;
    assert_eq!(hits().await, (true, 1, 0), "{what}");
    sleep(ms(20)).await;
    let asked = hits().await;
    let expected = if what.ends_with("Both") { (true, 0, 1) } else { (false, 0, 0) };
    assert_eq!(asked, expected, "{what}");
}

#[tokio::test(start_paused = true)]
async fn l1_ttl() {
    holds_everywhere!(is_asked_for_after_half_a_second, [Tiers::L1, Tiers::Both], |x| x.l1_ttl(ms(500)));
}

/// Without it all of them live for five minutes.
async fn do_not_expire_together(cache: &Cache, bring: impl AsyncFn(&str), what: &str) {
    let keys: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    for key in &keys {
        bring(key).await;
    }
    sleep(secs(160)).await;
    let left = cache.get_many(keys.iter()).await.unwrap().into_iter().flatten().count();
    assert!((5..=45).contains(&left), "{left} are left: {what}");
}

#[tokio::test(start_paused = true)]
async fn ttl_jitter() {
    holds_everywhere!(do_not_expire_together, Tiers::ALL, |x| x.ttl_jitter(0.9));
}

async fn is_a_fallback_for_a_minute(cache: &Cache, bring: impl AsyncFn(&str), what: &str) {
    let failing = || async { Err::<u64, _>(No(0)) };
    bring("k").await;
    sleep(secs(301)).await;
    assert_eq!(*cache.get_or_load("k", failing).await.expect(what), 1);
    sleep(secs(60)).await;
    assert_eq!(cache.get_or_load("k", failing).await.unwrap_err().kind(), ErrorKind::Loader, "{what}");
}

#[tokio::test(start_paused = true)]
async fn stale_for() {
    holds_everywhere!(is_a_fallback_for_a_minute, Tiers::ALL, |x| x.stale_for(secs(60)));
}

async fn has_a_tag(cache: &Cache, bring: impl AsyncFn(&str), what: &str) {
    bring("k").await;
    cache.invalidate_tag("other").await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&1), "{what}");
    cache.invalidate_tag("t").await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), None, "{what}");
}

#[tokio::test(start_paused = true)]
async fn tag() {
    holds_everywhere!(has_a_tag, Tiers::ALL, |x| x.tag("t"));
}

/// Finds nothing.
macro_rules! find_nothing {
    ($cache:expr, $way:expr, $options:expr, |$x:ident| $with:expr) => {{
        let nothing = || async { Ok::<_, No>(None::<u64>) };
        let none = |keys: Vec<String>| async move {
            Ok::<_, No>(keys.into_iter().map(|key| (key, None::<u64>)).collect::<HashMap<_, _>>())
        };
        match $way {
            Way::Optional => {
                let $x = $cache.get_or_load_optional("k", nothing);
                assert_eq!($with.await.unwrap(), None);
            }
            Way::Many => {
                let $x = $cache.get_many_or_load(["k"], none);
                assert_eq!($with.await.unwrap(), [None]);
            }
            Way::Loader => {
                let $x = $options;
                let loader = $cache.data_loader(none).options($with).build();
                assert_eq!(loader.load("k".to_owned()).await.unwrap(), None);
            }
            _ => {
                let $x = $cache.warm_many(["k".to_owned()], none);
                assert_eq!($with.await.failed.len(), 0);
            }
        }
    }};
}

/// That there is nothing is remembered for five seconds.
async fn is_absent_for_five_seconds(cache: &Cache, what: &str) {
    let source = Source::new();
    let ask = async || {
        let load = source.clone();
        let asked = cache.get_or_load_optional("k", move || async move { load.now().await.map(Some) });
        asked.await.unwrap()
    };
    sleep(ms(4_900)).await;
    assert_eq!((ask().await, source.loads()), (None, 0), "{what}");
    sleep(ms(200)).await;
    assert_eq!((ask().await.as_deref(), source.loads()), (Some(&1), 1), "{what}");
}

#[tokio::test(start_paused = true)]
async fn negative_ttl() {
    for tiers in Tiers::ALL {
        for way in Way::OPTIONAL {
            let cache = tiers.cache(|builder| builder.negative_ttl(secs(5))).await;
            find_nothing!(cache, way, Defaults::default(), |x| x);
            is_absent_for_five_seconds(&cache, &format!("of the cache, {way:?}, {tiers:?}")).await;

            let cache = tiers.cache(|builder| builder).await;
            find_nothing!(cache, way, StoreOptions::new(), |x| x.negative_ttl(secs(5)));
            is_absent_for_five_seconds(&cache, &format!("of the call, {way:?}, {tiers:?}")).await;
        }
    }
}

/// A value that has expired and is a fallback for an hour.
async fn expired(cache: &Cache) {
    cache.insert("k", 1).ttl(ms(500)).stale_for(secs(3_600)).await.unwrap();
    sleep(ms(600)).await;
}

/// What the source does.
#[derive(Clone, Copy)]
enum Query {
    Now,
    Slow,
    Fails,
}

impl Query {
    async fn run(self, source: Source) -> Result<u64, No> {
        match self {
            Self::Now => source.now().await,
            Self::Slow => source.slow(secs(5)).await,
            Self::Fails => source.failing().await,
        }
    }
}

macro_rules! ask {
    ($cache:expr, $way:expr, $source:expr, $query:expr, $options:expr, |$x:ident| $with:expr) => {{
        let (source, query): (Source, Query) = ($source, $query);
        let given = move || query.run(source.clone());
        match $way {
            Way::Optional => {
                let $x = $cache.get_or_load_optional("k", move || {
                    let load = given();
                    async move { load.await.map(Some) }
                });
                $with.await.map(|found| found.map(|value| *value))
            }
            way => load!($cache, way, "k", given, $options, |$x| $with),
        }
    }};
}

/// Holds a scenario against an option of loading, of the cache and of the call.
macro_rules! loads_everywhere {
    ($scenario:ident, |$x:ident| $with:expr) => {
        for tiers in Tiers::ALL {
            for way in Way::LOOKUPS {
                let stale = |builder: Builder| builder.stale_for(secs(3_600));
                let cache = tiers
                    .cache(|builder| {
                        let $x = stale(builder);
                        $with
                    })
                    .await;
                let what = format!("of the cache, {way:?}, {tiers:?}");
                $scenario(
                    &cache,
                    async |source: Source, load| ask!(&cache, way, source, load, Defaults::default(), |x| x),
                    &what,
                )
                .await;

                let cache = tiers.cache(stale).await;
                let what = format!("of the call, {way:?}, {tiers:?}");
                $scenario(
                    &cache,
                    async |source: Source, load| {
                        ask!(&cache, way, source, load, LoadOptions::new(), |$x| $with)
                    },
                    &what,
                )
                .await;
            }
        }
    };
}

async fn failures_are_not_excused(
    cache: &Cache,
    ask: impl AsyncFn(Source, Query) -> Result<Option<u64>>,
    what: &str,
) {
    expired(cache).await;
    let error = ask(Source::new(), Query::Fails).await.expect_err(what);
    assert_eq!(error.kind(), ErrorKind::Loader, "{what}");
}

#[tokio::test(start_paused = true)]
async fn stale_on_error() {
    loads_everywhere!(failures_are_not_excused, |x| x.stale_on_error(false));
}

async fn the_old_value_answers_at_once(
    cache: &Cache,
    ask: impl AsyncFn(Source, Query) -> Result<Option<u64>>,
    what: &str,
) {
    expired(cache).await;
    let (source, begun) = (Source::new(), Instant::now());
    source.write();
    assert_eq!(ask(source.clone(), Query::Slow).await.unwrap(), Some(1), "{what}");
    assert!(begun.elapsed() < secs(1), "{what}: {:?}", begun.elapsed());
    until("it is refreshed", || cache.is_idle()).await;
    assert_eq!((source.loads(), cache.get("k").await.unwrap().as_deref()), (1, Some(&2)), "{what}");
}

#[tokio::test(start_paused = true)]
async fn stale_while_revalidate() {
    loads_everywhere!(the_old_value_answers_at_once, |x| x.stale_while_revalidate(true));
}

async fn the_old_value_answers_when_the_source_is_slow(
    cache: &Cache,
    ask: impl AsyncFn(Source, Query) -> Result<Option<u64>>,
    what: &str,
) {
    expired(cache).await;
    let (source, begun) = (Source::new(), Instant::now());
    assert_eq!(ask(source, Query::Slow).await.unwrap(), Some(1), "{what}");
    let took = begun.elapsed();
    assert!((secs(1)..secs(3)).contains(&took), "{what}: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn soft_timeout() {
    loads_everywhere!(the_old_value_answers_when_the_source_is_slow, |x| x.soft_timeout(secs(1)));
}

async fn a_source_that_failed_is_left_alone_for_a_minute(
    cache: &Cache,
    ask: impl AsyncFn(Source, Query) -> Result<Option<u64>>,
    what: &str,
) {
    expired(cache).await;
    let source = Source::new();
    for _ in 0..5 {
        assert_eq!(ask(source.clone(), Query::Fails).await.unwrap(), Some(1), "{what}");
        sleep(secs(10)).await;
    }
    assert_eq!(source.loads(), 1, "{what}");
    sleep(secs(11)).await;
    ask(source.clone(), Query::Now).await.unwrap();
    assert_eq!(source.loads(), 2, "{what}");
}

#[tokio::test(start_paused = true)]
async fn error_backoff() {
    loads_everywhere!(a_source_that_failed_is_left_alone_for_a_minute, |x| x.error_backoff(secs(60)));
}

async fn a_load_takes_two_seconds_at_most(
    _: &Cache,
    ask: impl AsyncFn(Source, Query) -> Result<Option<u64>>,
    what: &str,
) {
    let begun = Instant::now();
    let error = ask(Source::new(), Query::Slow).await.expect_err(what);
    let took = begun.elapsed();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{what}");
    assert!((secs(2)..secs(4)).contains(&took), "{what}: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn load_timeout() {
    loads_everywhere!(a_load_takes_two_seconds_at_most, |x| x.load_timeout(secs(2)));
}
