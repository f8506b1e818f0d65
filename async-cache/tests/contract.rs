//! The public surface that users build on, each promise in the words of a caller: tiers, options in configuration files,
//! Redis in all its topologies, requests, keys, decorated functions, groups, tiers in memory, and the features.
//! `surface.rs` has the methods that every cache begins with.
#![cfg(all(feature = "full", feature = "testing"))]

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, mpsc};
use std::time::Duration;

use async_cache::backend::Backend;
use async_cache::testing::{No, Source as Rows, until};
use async_cache::{
    Bincode, CacheGroup, CacheKey, Credentials, Defaults, Engine, Error, ErrorKind, EvictionCause, Json,
    LoadOptions, Loaded, LocalBackend, MemoryBackend, MessagePack, OutagePolicy, Postcard, RedisBackend,
    RedisConfig, Result, Shutdown, Source, Stamp, StoreOptions, TieredCache, Tls, Traced, cached,
};

type Users = TieredCache<u64, String>;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn l1<K: CacheKey, V: Send + Sync + 'static>() -> TieredCache<K, V> {
    TieredCache::builder().l1(MemoryBackend::new(100)).build().expect("a valid cache")
}

async fn both(l2: &MemoryBackend) -> Users {
    let builder = TieredCache::builder().namespace("users").l1(MemoryBackend::new(100)).l2(l2.clone());
    let cache = builder.stale_for(secs(600)).build().expect("a valid cache");
    until("L1 serves", || cache.is_serving()).await;
    cache
}

async fn ada() -> Result<String, No> {
    Ok("Ada".to_owned())
}

fn wrong<T>(built: Result<T>, names: &str) {
    let error = built.err().expect("it cannot be built");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains(names), "{error}");
}

#[tokio::test]
async fn tiers_are_combined_freely_and_what_cannot_be_is_named() -> Result<()> {
    /// No codec can write it.
    #[derive(Debug)]
    struct Plain;
    let plain: TieredCache<u64, Plain> = l1();
    assert!(plain.get(&1).await?.is_none());
    let shared: Arc<dyn Backend> = Arc::new(MemoryBackend::new(100));
    let _: Users = TieredCache::builder().namespace("a").l2(Arc::clone(&shared)).build()?;
    let _: Users = TieredCache::builder().namespace("b").l2_with(Arc::clone(&shared), Json).build()?;
    let _: Users = TieredCache::builder().namespace("c").l2_with(Arc::clone(&shared), MessagePack).build()?;
    let _: Users = TieredCache::builder().namespace("d").l2_with(Arc::clone(&shared), Postcard).build()?;
    let _: Users = TieredCache::builder().namespace("e").l2_with(shared, Bincode).build()?;

    wrong(Users::builder().build(), "l1");
    wrong(Users::builder().l2(MemoryBackend::new(1)).build(), "namespace");
    let named = |name: &str| Users::builder().namespace(name).l1(MemoryBackend::new(1));
    wrong(named("").build(), "namespace");
    wrong(named(&"n".repeat(1000)).build(), "namespace");
    wrong(named("n").ttl(Duration::ZERO).build(), "`ttl`");
    wrong(named("n").soft_timeout(secs(1)).build(), "stale_for");
    wrong(named("n").l1(MemoryBackend::new(0)).build(), "max_capacity");

    let redis = RedisBackend::connect_lazy("redis://127.0.0.1:1").await?;
    let open = || Users::builder().namespace("twice").l2(redis.clone()).outage(OutagePolicy::Load).build();
    let first = open()?;
    wrong(open(), "twice");
    drop(first);
    Ok(())
}

#[test]
fn options_come_from_configuration_files_with_humane_durations() {
    let store: StoreOptions = toml::from_str(
        "ttl = '5m'\nl1_ttl = '30s'\nttl_jitter = 0.1\nnegative_ttl = '250ms'\nstale_for = '1h 30m'\ntags = ['eu']",
    )
    .unwrap();
    let same = StoreOptions::new().ttl(secs(300)).l1_ttl(secs(30)).ttl_jitter(0.1);
    let same = same.negative_ttl(Duration::from_millis(250)).stale_for(secs(5400)).tag("eu");
    assert_eq!(store, same);
    let load: LoadOptions = toml::from_str(
        "load_timeout = '2s'\nsoft_timeout = '100ms'\nlease_ttl = '3s'\nwait_timeout = '10s'\nrefresh_ahead = 1.0\n\
         stale_while_revalidate = true\nstale_on_error = false\nerror_backoff = '1s'\nerror_ttl = '500ms'",
    )
    .unwrap();
    let same = LoadOptions::new().load_timeout(secs(2)).soft_timeout(Duration::from_millis(100));
    let same = same.lease_ttl(secs(3)).wait_timeout(secs(10)).refresh_ahead(1.0).stale_while_revalidate(true);
    let same = same.stale_on_error(false).error_backoff(secs(1)).error_ttl(Duration::from_millis(500));
    assert_eq!(load, same);
    assert_eq!(
        (toml::from_str("").ok(), toml::from_str("").ok()),
        (Some(StoreOptions::new()), Some(LoadOptions::new()))
    );
    let pair: Defaults = toml::from_str("[store]\nttl = '5s'\n[load]\nlease_ttl = '1s'").unwrap();
    let builder = Users::builder().l1(MemoryBackend::new(10)).defaults(pair);
    let _ = builder.defaults((store, load)).defaults(StoreOptions::new()).defaults(LoadOptions::new());
    assert!(toml::from_str::<LoadOptions>("ttl = '5m'").is_err(), "an option of the other kind");
    for error in [
        toml::from_str::<StoreOptions>("ttl = 5").unwrap_err(),
        toml::from_str::<StoreOptions>("l1_ttl = '5 parsecs'").unwrap_err(),
        toml::from_str::<LoadOptions>("load_timeout = 5").unwrap_err(),
        toml::from_str::<RedisConfig>("command_timeout = 5").unwrap_err(),
    ] {
        assert!(error.to_string().contains("expected a duration such as `500ms` or `5m`"), "{error}");
    }
}

#[tokio::test]
async fn redis_is_described_by_a_builder_or_a_configuration() -> Result<()> {
    wrong(RedisBackend::connect("not a url").await, "URL");
    let builder =
        || RedisBackend::builder().url("redis://127.0.0.1:1").connections(2).command_timeout(secs(1));
    assert_eq!(builder().connect().await.unwrap_err().kind(), ErrorKind::Backend);
    let rotating = builder().credentials(|| async { Ok(Credentials::new("user", "token")) });
    drop(rotating.read_from_replicas(false).connect_lazy().await?);
    wrong(builder().read_from_replicas(true).connect_lazy().await, "read_from_replicas");
    drop(RedisBackend::builder().sentinel("mymaster", ["redis://127.0.0.1:1"]).connect_lazy().await?);
    drop(RedisBackend::builder().cluster(["redis://127.0.0.1:1"]).connect_lazy().await?);
    let tls = Tls::new().ca("no pem").client_cert("no pem", "no pem");
    wrong(RedisBackend::builder().url("rediss://127.0.0.1:1").tls(tls).connect().await, "certificate");

    let config: RedisConfig = toml::from_str(
        "url = 'redis://127.0.0.1:1'\nusername = 'app'\npassword = 'hunter2'\nread_timeout = '300ms'\nconnections = 2",
    )
    .unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    drop(RedisBackend::from_config(config.clone()).connect_lazy().await?);
    assert_eq!(RedisBackend::from_config(config).await.unwrap_err().kind(), ErrorKind::Backend);
    Ok(())
}

#[tokio::test]
async fn a_pool_of_the_callers_own_is_an_escape_hatch() {
    use async_cache::raw::{deadpool_redis, redis};
    let url = "redis://127.0.0.1:1";
    let pool =
        deadpool_redis::Config::from_url(url).create_pool(Some(deadpool_redis::Runtime::Tokio1)).unwrap();
    let from_pool = RedisBackend::from_pool(pool, redis::Client::open(url).unwrap()).await;
    assert_eq!(from_pool.unwrap_err().kind(), ErrorKind::Backend);
}

#[tokio::test]
async fn requests_tell_where_an_answer_is_from_and_look_past_l1() -> Result<()> {
    let l2 = MemoryBackend::new(100);
    let (users, other) = (both(&l2).await, both(&l2).await);
    let Traced { value, source, age } = users.get_or_load(&42, ada).traced().await?;
    assert_eq!((&**value, source), ("Ada", Source::Load));
    assert!(age < secs(60));
    assert_eq!(users.get(&42).traced().await?.source, Source::L1);
    assert_eq!(users.get(&42).skip_l1().traced().await?.source, Source::L2);
    assert_eq!(other.get_or_load(&42, ada).traced().await?.source, Source::L2);

    let stamp = users.expire(&42).await?;
    assert_eq!(other.get(&42).at_least(&stamp).await?, None);
    let failing = || async { Err::<String, _>(No(1)) };
    assert_eq!(users.get_or_load(&42, failing).traced().await?.source, Source::Stale);
    users.insert(&43, "Eve".to_owned()).tag("team:9").await?;
    users.expire_tag("team:9").await?;
    users.expire_tags(["team:8"]).await?;
    users.expire_many([&1, &2]).await?;
    assert_eq!(users.get(&43).await?, None);
    let carried: Stamp = stamp.to_string().parse()?;
    assert_eq!((carried.namespace(), carried == stamp), ("users", true));
    let Shutdown { pending_invalidations, .. } = users.shutdown().await;
    assert_eq!(pending_invalidations, 0);
    assert_eq!(users.get(&42).await.unwrap_err().kind(), ErrorKind::Shutdown);
    Ok(())
}

#[tokio::test]
async fn a_loader_returns_a_value_or_what_it_chooses_and_any_error() -> Result<()> {
    let users: Users = l1();
    let chosen = || async { Ok::<_, String>(Loaded::new("Ada".to_owned()).ttl(secs(1)).tag("x")) };
    assert_eq!(*users.get_or_load(&1, chosen).await?, "Ada");
    let boxed = || async { Err::<String, Box<dyn std::error::Error + Send + Sync>>("no row".into()) };
    assert_eq!(users.get_or_load(&2, boxed).await.unwrap_err().kind(), ErrorKind::Loader);
    let error = users.get_or_load(&2, || async { Err::<String, _>(anyhow::Error::new(No(7))) }).await;
    assert_eq!(error.unwrap_err().loader_error::<No>(), Some(&No(7)));
    let panics = || async {
        if true {
            panic!("on purpose");
        }
        ada().await
    };
    assert_eq!(users.get_or_load(&3, panics).await.unwrap_err().kind(), ErrorKind::LoaderPanicked);
    let (hangs, limit) = (std::future::pending::<Result<String, No>>, Duration::from_millis(10));
    let late = users.get_or_load(&4, hangs).load_timeout(limit).await.unwrap_err();
    assert_eq!((late.kind(), late.is_temporary()), (ErrorKind::Timeout, true));
    let again = users.clone();
    let own = move || async move { again.get_or_load(&5, ada).await.map(|name| name.to_string()) };
    let reentrant = users.get_or_load(&5, own).await.unwrap_err();
    assert_eq!(reentrant.loader_error::<Error>().map(Error::kind), Some(ErrorKind::Reentrant));
    Ok(())
}

#[tokio::test]
async fn every_kind_of_key_finds_its_value() -> Result<()> {
    async fn finds<K: CacheKey + 'static>(keys: [K; 2]) {
        let cache: TieredCache<K, usize> = l1();
        for (place, key) in keys.iter().enumerate() {
            cache.insert(key, place).await.unwrap();
        }
        for (place, key) in keys.iter().enumerate() {
            assert_eq!(cache.get(key).await.unwrap().as_deref(), Some(&place));
        }
    }
    finds([0.0f64, -0.0]).await;
    finds([1.5f32, f32::NAN]).await;
    finds([IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from([0u16; 8])]).await;
    finds([NonZeroU32::MIN, NonZeroU32::MAX]).await;
    finds([PathBuf::from("/a/b"), PathBuf::from("/a:b")]).await;
    finds([vec![1u64, 22], vec![12u64, 2]]).await;
    finds([[1u8, 2], [2, 1]]).await;
    finds([Some("a:b".to_owned()), None]).await;
    finds([("a:b".to_owned(), "c".to_owned()), ("a".to_owned(), "b:c".to_owned())]).await;

    let pairs: TieredCache<(u64, String), u8> = l1();
    pairs.insert(&(7, "Ada"), 1).await?;
    assert_eq!(pairs.get(&(7, "Ada")).await?.as_deref(), Some(&1));
    let (lists, paths): (TieredCache<Vec<u64>, u8>, TieredCache<PathBuf, u8>) = (l1(), l1());
    assert_eq!(lists.get(&[1, 2][..]).await?, None);
    assert_eq!(paths.get(Path::new("/a")).await?, None);
    let too_long = pairs.invalidate(&(7, &*"k".repeat(2000))).await.unwrap_err();
    assert_eq!(too_long.kind(), ErrorKind::Key);
    Ok(())
}

static NAMES: LazyLock<TieredCache<String, String>> = LazyLock::new(l1);

#[derive(Debug, Clone, PartialEq)]
struct DbError(&'static str);

impl std::fmt::Display for DbError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for DbError {}

#[cached(cache = NAMES, ttl = "5m", error_ttl = "1s", tags("team:{team}"), crate = ::async_cache)]
async fn by_name(team: u32, name: Option<&str>) -> Result<String, DbError> {
    name.map(|name| format!("{name} of {team}")).ok_or(DbError("no name"))
}

#[cached(cache = NAMES, key = (id / 10, "decade"), skip(note))]
async fn by_decade(id: u64, note: &str) -> String {
    format!("{id} {note}")
}

#[tokio::test]
async fn functions_are_decorated() -> Result<(), DbError> {
    assert_eq!(by_name(9, Some("Ada")).await?, "Ada of 9");
    assert_eq!(by_name_refresh(9, Some("Ada")).await?, "Ada of 9");
    by_name_invalidate(9, Some("Ada")).await.expect("L1 alone");
    let loads = NAMES.stats().loads;
    assert_eq!(by_name(9, None).await, Err(DbError("no name")), "its own error");
    assert_eq!(by_name(9, None).await, Err(DbError("no name")), "remembered");
    assert_eq!(NAMES.stats().loads, loads + 1);
    assert_eq!(by_decade(11, "first").await, "11 first");
    assert_eq!(by_decade(19, "other").await, "11 first", "one key");
    Ok(())
}

#[tokio::test]
async fn an_l1_is_built_with_its_engine_a_weigher_and_a_listener() -> Result<()> {
    let (sender, told) = mpsc::channel();
    let l1 = MemoryBackend::builder()
        .max_capacity(1000)
        .engine(Engine::Moka)
        .weigher(|key: &[u8], name: &String| (key.len() + name.len()) as u32)
        .time_to_idle(secs(600))
        .on_evict(move |key, _, cause| drop(sender.send((key.to_vec(), cause))))
        .build();
    fn is_an_l1<V>(_: &impl LocalBackend<V>) {}
    is_an_l1::<String>(&l1);
    let users: Users = TieredCache::builder().l1(l1.clone()).error_ttl(secs(1)).build()?;
    users.get_or_load(&1, ada).await?;
    CacheGroup::new().with(&users).invalidate_all().await.into_result()?;
    users.insert(&2, "Eve".to_owned()).await?;
    users.invalidate(&2).await?;
    let told = [told.recv_timeout(secs(60)), told.recv_timeout(secs(60))].map(|told| told.unwrap().0);
    assert_eq!((told.len(), l1.missed_evictions()), (2, 0));
    let _ = EvictionCause::Size;
    let rows = Rows::new();
    for _ in 0..3 {
        let load = rows.clone();
        let failing = move || async move { load.failing().await.map(|row| row.to_string()) };
        users.get_or_load(&3, failing).await.unwrap_err();
    }
    assert_eq!(rows.loads(), 1);
    Ok(())
}

#[test]
fn the_features_are_those_that_are_documented() {
    let manifest: toml::Table = toml::from_str(include_str!("../Cargo.toml")).unwrap();
    let features = manifest["features"].as_table().unwrap();
    let readme = include_str!("../../README.md");
    let table = readme.split("| feature of `async-cache-rs`").nth(1).expect("a table of features");
    let table = table.split("\n\n").next().unwrap_or_default();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let named =
        rows.flat_map(|line| line.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2));
    let documented: BTreeSet<&str> = named.collect();
    let list = |of: &str| -> BTreeSet<String> {
        features[of].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let all: BTreeSet<&str> = features.keys().map(String::as_str).filter(|name| *name != "default").collect();
    assert_eq!(all, documented);
    let of_users = all.iter().filter(|name| !["full", "testing"].contains(*name));
    assert_eq!(list("full"), of_users.map(|name| (*name).to_owned()).collect());
    assert_eq!(list("default"), ["anyhow", "macros", "memory", "redis"].map(str::to_owned).into());
}

/// GitHub shows a line that rustdoc hides.
#[test]
fn no_example_of_a_page_has_a_hidden_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    for page in docs.chain([root.join("README.md")]) {
        let text = fs::read_to_string(&page).unwrap();
        let examples = text.split("```rust").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
        for line in examples.flat_map(str::lines) {
            let line = line.trim_start();
            assert!(line != "#" && !line.starts_with("# "), "{}: {line}", page.display());
        }
    }
}
