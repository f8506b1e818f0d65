//! Spans and events on `tracing`.
#![cfg(feature = "tracing")]

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_cache_core::testing::{No, until};
use async_cache_core::{DataLoader, Error, LoadFailureLog, Loaded, TieredCache};
use async_cache_memory::MemoryBackend;
use tracing::Instrument;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Collects what this thread logs, spans that begin included.
    fn collect(&self, level: tracing::Level) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .with_writer(self.clone())
            .with_max_level(level)
            .with_span_events(FmtSpan::NEW)
            .with_ansi(false)
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().expect("unpoisoned"));
        String::from_utf8(bytes).expect("text")
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn misses_have_spans_and_hits_have_none() -> Result<(), Error> {
    let log = Log::default();
    let _guard = log.collect(tracing::Level::DEBUG);
    let cache: TieredCache<String, String> =
        TieredCache::builder().namespace("rows").l1(MemoryBackend::new(10)).build()?;
    let load = || async {
        tracing::info!("inside the loader");
        Ok::<_, No>("a secret value".to_owned())
    };
    cache.get_or_load("a secret key", load).await?;
    let after_miss = log.0.lock().expect("unpoisoned").len();
    cache.get_or_load("a secret key", load).await?;
    assert_eq!(log.0.lock().expect("unpoisoned").len(), after_miss, "a hit logs nothing");
    let _ = cache.get_or_load("another", || async { Err::<String, _>(No(1)) }).await;
    cache.invalidate("a secret key").await?;

    let text = String::from_utf8(log.0.lock().expect("unpoisoned").clone()).expect("text");
    for needle in [
        "cache.lookup{namespace=\"rows\" key=",
        // The load is part of the lookup that began it, and what the loader logs is part of the load.
        "}:cache.load{namespace=\"rows\" keys=1}: tracing: inside the loader",
        "cache.change{namespace=\"rows\"}",
        "a load failed namespace=\"rows\"",
    ] {
        assert!(text.contains(needle), "{needle:?} is not in:\n{text}");
    }
    assert!(!text.contains("secret"), "neither keys nor values are logged:\n{text}");
    Ok(())
}

type Names = HashMap<String, String>;

async fn batch(keys: Vec<String>) -> Result<Names, No> {
    tracing::info!("inside the loader");
    Ok(keys.into_iter().map(|key| (key.clone(), key)).collect())
}

/// The start of a cache is told in other words than the end of a fault.
#[tokio::test(start_paused = true)]
async fn the_start_of_a_cache_is_logged_as_no_recovery() {
    let log = Log::default();
    let _guard = log.collect(tracing::Level::INFO);
    let l2 = MemoryBackend::new(100);
    let cache: TieredCache<String, String> =
        TieredCache::builder().namespace("rows").l1(MemoryBackend::new(10)).l2(l2.clone()).build().unwrap();
    cache.ready().await.unwrap();
    until("L1 serves", || cache.is_serving()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let text = log.take();
    assert!(text.contains("L1 answers namespace=\"rows\""), "{text}");
    assert!(!text.contains("again") && !text.contains("held"), "{text}");
}

/// After a deploy: the log says what the codec misses in the old values, and shows no value.
#[cfg(feature = "json")]
#[tokio::test(start_paused = true)]
async fn a_value_that_the_codec_cannot_read_is_logged_with_its_reason() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Old {
        name: String,
    }
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Added {
        name: String,
        email: String,
    }
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Changed {
        name: u64,
    }

    let log = Log::default();
    let _guard = log.collect(tracing::Level::INFO);
    let l2 = MemoryBackend::new(100);
    async fn read<V>(l2: &MemoryBackend, key: &str) -> async_cache_core::Stats
    where
        V: serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        let builder = TieredCache::<String, V>::builder().namespace("rows").schema("Row");
        let cache = builder.l2_with(l2.clone(), async_cache_core::Json).build().unwrap();
        assert!(cache.get(key).await.unwrap().is_none());
        cache.stats()
    }
    let builder = TieredCache::<String, Old>::builder().namespace("rows").schema("Row");
    let old = builder.l2_with(l2.clone(), async_cache_core::Json).build().unwrap();
    old.insert("k", Old { name: "a secret".to_owned() }).await.unwrap();

    let stats = read::<Added>(&l2, "k").await;
    assert_eq!((stats.unreadable, stats.codec_failures), (1, 0));
    let text = log.take();
    assert!(
        text.contains("cause=the codec cannot decode it error=\"missing field `email` at line"),
        "{text}"
    );
    read::<Changed>(&l2, "k").await;
    let text = log.take();
    assert!(text.contains("error=\"invalid type: string, expected u64"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

/// Every way to a loader, under a span of the caller's.
async fn every_way(cache: &TieredCache<String, String>, log: &Log, expected: impl Fn(&str, &str)) {
    let single = || async {
        tracing::info!("inside the loader");
        Ok::<_, No>("v".to_owned())
    };
    let span = || tracing::info_span!("request");
    cache.get_or_load("a", single).instrument(span()).await.unwrap();
    expected("get_or_load", &log.take());
    cache.refresh("a", single).instrument(span()).await.unwrap();
    expected("refresh", &log.take());
    let keys = || ["b".to_owned(), "c".to_owned()];
    cache.get_many_or_load(&keys(), batch).into_future().instrument(span()).await.unwrap();
    expected("get_many_or_load", &log.take());
    let loader = cache.data_loader(batch).build();
    loader.load("d".to_owned()).instrument(span()).await.unwrap();
    expected("data_loader", &log.take());
    let full = cache.data_loader(batch).max_batch_size(1).build();
    full.load("e".to_owned()).instrument(span()).await.unwrap();
    expected("a full batch", &log.take());
    let alone = DataLoader::new(batch);
    alone.load("f".to_owned()).instrument(span()).await.unwrap();
    expected("a loader alone", &log.take());
    let _ = cache.warm(["g".to_owned()], move |_| single()).await;
    log.take();
    let _ = cache.warm(["h".to_owned()], move |_| single()).into_future().instrument(span()).await;
    expected("warm", &log.take());

    tokio::time::sleep(Duration::from_secs(11)).await;
    cache.get_or_load("a", single).stale_while_revalidate(true).instrument(span()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    expected("behind a stale value", &log.take());
}

fn cache() -> TieredCache<String, String> {
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(100));
    builder.ttl(Duration::from_secs(10)).stale_for(Duration::from_secs(60)).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn loads_are_part_of_their_callers_span() {
    let log = Log::default();
    let _guard = log.collect(tracing::Level::DEBUG);
    every_way(&cache(), &log, |way, text| {
        let line = text.lines().find(|line| line.contains("inside the loader")).expect(way);
        assert!(line.contains(" request:"), "{way}: {line}");
        assert!(line.contains("cache.load{namespace=\"rows\"") || way == "a loader alone", "{way}: {line}");
    })
    .await;
}

/// Spans of the cache are for debugging; a service that leaves them out has its own all the same.
#[tokio::test(start_paused = true)]
async fn loads_are_part_of_their_callers_span_where_the_caches_are_filtered_out() {
    let log = Log::default();
    let _guard = log.collect(tracing::Level::INFO);
    every_way(&cache(), &log, |way, text| {
        let line = text.lines().find(|line| line.contains("inside the loader")).expect(way);
        assert!(line.contains(" request:") && !line.contains("cache.load"), "{way}: {line}");
    })
    .await;
}

#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the query failed")
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        const CAUSE: No = No(5);
        Some(&CAUSE)
    }
}

async fn fail(cache: &TieredCache<String, String>) {
    let _ = cache.get_or_load("k", || async { Err::<String, _>(Broken) }).await;
    let keys: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let failed = |_: Vec<String>| async { Err::<Names, _>(Broken) };
    let _ = cache.get_many_or_load(&keys, failed).await;
    let each = |keys: Vec<String>| async move {
        keys.into_iter().map(|key| (key, Err(Broken))).collect::<HashMap<String, Result<String, Broken>>>()
    };
    let loader = cache.data_loader_each(each).build();
    let _ = loader.load_many(keys).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_load_is_a_warning_with_its_cause() {
    let log = Log::default();
    let _guard = log.collect(tracing::Level::INFO);
    fail(&cache()).await;
    let text = log.take();
    let warnings: Vec<&str> = text.lines().filter(|line| line.contains("a load failed")).collect();
    assert_eq!(warnings.len(), 3, "one for each call of a loader:\n{text}");
    for (warning, keys) in warnings.iter().zip([1, 100, 100]) {
        for part in [" WARN ", " async_cache: ", "namespace=\"rows\"", "the query failed", "No(5)"] {
            let part = if part == "No(5)" { No(5).to_string() } else { part.to_owned() };
            assert!(warning.contains(&part), "{part:?} is not in {warning}");
        }
        assert!(warning.contains(&format!("keys={keys} ")), "{warning}");
    }

    let quiet = TieredCache::<String, String>::builder().namespace("rows").l1(MemoryBackend::new(100));
    fail(&quiet.load_failure_log(LoadFailureLog::Off).build().unwrap()).await;
    assert_eq!(log.take(), "");
}

/// One name to filter by.
#[tokio::test(start_paused = true)]
async fn everything_logged_has_the_target_async_cache() {
    let log = Log::default();
    let _guard = log.collect(tracing::Level::TRACE);
    let tier = MemoryBackend::new(100);
    let builder =
        TieredCache::<String, String>::builder().namespace("rows").l1(MemoryBackend::new(100)).l2(tier);
    let cache = builder.build().unwrap();
    cache.ready().await.unwrap();
    fail(&cache).await;
    cache.insert("a", "v".to_owned()).await.unwrap();
    cache.invalidate_all().await.unwrap();
    let text = log.take();
    let ours: Vec<&str> = text.lines().filter(|line| line.contains("namespace=")).collect();
    assert!(ours.len() > 5, "{text}");
    for line in ours {
        assert!(line.contains(" async_cache: "), "{line}");
    }
}

/// The value is answered all the same, so nothing else says which option it was.
#[tokio::test(start_paused = true)]
async fn an_invalid_option_of_a_loader_is_named_with_its_value() {
    type Choose = fn(Loaded<String>) -> Loaded<String>;
    let choices: [(Choose, &str); 8] = [
        (|value| value.ttl(Duration::ZERO), "to=Uncached cause=\"`ttl` is 0: return `Loaded::uncached()`"),
        (|value| value.tag(""), "to=Uncached cause=\"`tags`: a tag is empty"),
        (|value| value.tag("t".repeat(129)), "`tags`: a tag of 129 bytes is over the limit of 128"),
        (|value| value.ttl(Duration::ZERO).tag(""), "to cache nothing; `tags`: a tag is empty"),
        (|value| value.ttl(Duration::from_nanos(1)), "to=Clamped cause=\"`ttl` is 1ns, and 1ms is used\""),
        (|value| value.l1_ttl(Duration::ZERO), "`l1_ttl` is 0ns, and 1ms is used"),
        (|value| value.stale_for(Duration::MAX), "`stale_for` is 18446744073709551615.999999999s, and"),
        (
            |value| value.ttl_jitter(1.5).refresh_ahead(-1.0),
            "`ttl_jitter` is 1.5, and that of the call is used; `refresh_ahead` is -1.0, and that of",
        ),
    ];
    for (choose, expected) in choices {
        let (log, cache) = (Log::default(), cache());
        let _guard = log.collect(tracing::Level::INFO);
        let load = move || async move { Ok::<_, No>(choose(Loaded::new("v".to_owned()))) };
        cache.get_or_load("k", load).await.unwrap();
        let text = log.take();
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

/// A fault that repeats does not fill the log, and the log tells how often it did.
#[tokio::test(start_paused = true)]
async fn warnings_of_one_kind_are_limited_and_those_left_out_are_counted() {
    let log = Log::default();
    let _guard = log.collect(tracing::Level::INFO);
    let cache = cache();
    let failing = || async { Err::<String, _>(Broken) };
    for _ in 0..1_000 {
        let _ = cache.get_or_load("k", failing).await;
    }
    let text = log.take();
    assert_eq!(text.matches("a load failed").count(), 10, "{text}");
    assert!(!text.contains("suppressed"), "none was yet: {text}");
    assert_eq!(cache.stats().load_failures, 1_000);

    // Another kind has a limit of its own, and so has another cache.
    cache
        .get_or_load("k", || async { Ok::<_, No>(Loaded::new("v".to_owned()).ttl(Duration::ZERO)) })
        .await
        .unwrap();
    assert!(log.take().contains("a loader chose an invalid option"));
    let _ = self::cache().get_or_load("k", failing).await;
    assert!(log.take().contains("a load failed"));

    tokio::time::sleep(Duration::from_secs(60)).await;
    let _ = cache.get_or_load("other", failing).await;
    let text = log.take();
    assert!(text.contains("a load failed") && text.contains("suppressed=990"), "{text}");
}

/// What a trace shows of a lookup: where its time went.
#[tokio::test(start_paused = true)]
async fn each_stage_has_a_span_in_that_of_its_caller() {
    let log = Log::default();
    let _guard = log.collect(tracing::Level::DEBUG);
    let tier = MemoryBackend::new(100);
    let node = || {
        let builder = TieredCache::<String, String>::builder().namespace("rows").l1(MemoryBackend::new(100));
        builder.l2(tier.clone()).build().unwrap()
    };
    let (here, there) = (node(), node());
    here.ready().await.unwrap();
    there.ready().await.unwrap();
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok::<_, No>("v".to_owned())
    };
    let request = |name| tracing::info_span!("request", name);
    log.take();
    let leads = async { here.get_or_load("k", slow).instrument(request("leads")).await };
    let joins = async { here.get_or_load("k", slow).instrument(request("joins")).await };
    let waits = async { there.get_or_load("k", slow).instrument(request("waits")).await };
    let (led, joined, waited) = tokio::join!(leads, joins, waits);
    let _ = (led.unwrap(), joined.unwrap(), waited.unwrap());
    there.insert("k", "w".to_owned()).into_future().instrument(request("inserts")).await.unwrap();
    here.invalidate("k").instrument(request("invalidates")).await.unwrap();
    here.invalidate_tag("t").instrument(request("tags")).await.unwrap();
    here.invalidate_all().instrument(request("clears")).await.unwrap();
    let text = log.take();
    for (name, inside, stage) in [
        ("leads", "cache.lookup", "cache.read"),
        ("leads", "cache.load", "cache.lease"),
        ("leads", "cache.load", "cache.fill"),
        ("joins", "cache.lookup", "cache.wait{namespace=\"rows\" for=\"flight\"}"),
        ("waits", "cache.load", "cache.wait{namespace=\"rows\" for=\"lease\"}"),
        ("inserts", "cache.change", "cache.put"),
        ("invalidates", "cache.change", "cache.invalidate{"),
        ("tags", "cache.change", "cache.invalidate_tags"),
        ("clears", "cache.change", "cache.clear"),
    ] {
        let parts = [format!("request{{name=\"{name}\"}}:"), format!(":{inside}{{"), format!(":{stage}")];
        let there = text.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(there, "{parts:?} are not in one line of:\n{text}");
    }
}
