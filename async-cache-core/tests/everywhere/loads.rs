//! Options of loads: what answers beside them, and how long they may take.

use super::*;

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
