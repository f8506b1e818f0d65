//! The public surface, in the shape in which it is documented: that it compiles is most of the test.
#![cfg(feature = "full")]

use std::collections::HashMap;
use std::time::Duration;

use async_cache::{
    Bincode, CacheKey, Codec, Credentials, DataLoader, Error, ErrorKind, Event, Json, LoadOptions, Loaded,
    MemoryBackend, OutagePolicy, RedisBackend, RedisConfig, Stamp, Stats, StoreOptions, TieredCache, Tls,
    cached,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
}

#[derive(Debug, Clone, PartialEq)]
struct DbError;

impl std::fmt::Display for DbError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no database")
    }
}

impl std::error::Error for DbError {}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn users() -> TieredCache<u64, User> {
    TieredCache::builder()
        .namespace("users")
        .l1(MemoryBackend::new(10_000))
        .l2(MemoryBackend::new(10_000))
        .ttl(secs(300))
        .build()
        .expect("a valid cache")
}

async fn find(id: u64) -> Result<User, DbError> {
    Ok(User { id })
}

const _: () = {
    const fn handles<T: Clone + Send + Sync>() {}
    const fn shared<T: Send + Sync>() {}
    handles::<TieredCache<u64, User>>();
    handles::<RedisBackend>();
    handles::<MemoryBackend>();
    handles::<DataLoader<u64, User>>();
    handles::<Error>();
    handles::<Stamp>();
    shared::<Stats>();
    shared::<Event>();
};

#[tokio::test]
async fn read_and_write() -> Result<(), Error> {
    let users = users();
    assert_eq!(users.get(&42).await?, None);
    assert_eq!(users.get_or_load(&42, move || find(42)).await?.id, 42);
    users.get_or_load(&42, move || find(42)).ttl(secs(30)).tag("team:9").await?;
    let absent = users
        .get_or_load_optional(&7, || async { Ok::<Option<User>, DbError>(None) })
        .negative_ttl(secs(5))
        .await?;
    assert_eq!(absent, None);
    assert_eq!(users.get_many(&[1, 42, 3]).await?.iter().filter(|user| user.is_some()).count(), 1);
    let many = users
        .get_many_or_load(&[1, 2, 3], |missing: Vec<u64>| async move {
            Ok::<_, DbError>(missing.into_iter().map(|id| (id, User { id })).collect::<HashMap<_, _>>())
        })
        .await?;
    assert_eq!(many.len(), 3);
    users.insert(&42, User { id: 42 }).ttl(secs(60)).tag("team:9").await?;
    users.insert_many([(1, User { id: 1 }), (2, User { id: 2 })]).await?;
    users.refresh(&42, || find(42)).await?;
    assert!(users.contains(&42).await?);
    // A loader chooses: plain values and `Loaded` both do.
    users
        .get_or_load(&8, || async { Ok::<_, DbError>(Loaded::new(User { id: 8 }).ttl(secs(1)).tag("x")) })
        .await?;
    users.get_or_load(&9, || async { Ok::<_, DbError>(Loaded::new(User { id: 9 }).uncached()) }).await?;
    Ok(())
}

#[tokio::test]
async fn borrowed_keys() -> Result<(), Error> {
    let names: TieredCache<String, u8> = TieredCache::builder().l1(MemoryBackend::new(10)).build()?;
    assert_eq!(names.get("a").await?, None);
    let by_id: TieredCache<Id, u8> = TieredCache::builder().l1(MemoryBackend::new(10)).build()?;
    assert_eq!(by_id.get(&Id(7)).await?, None);
    names.insert("a", 1).await?;
    names.invalidate_many(["a"]).await?;
    Ok(())
}

#[tokio::test]
async fn invalidate() -> Result<(), Error> {
    let users = users();
    let one: Stamp = users.invalidate(&42).await?;
    let many = users.invalidate_many([&1, &2]).await?;
    let tag = users.invalidate_tag("team:9").await?;
    let all = users.invalidate_all().await?;
    let stamp = one.merge(&many)?.merge(&tag)?.merge(&all)?;
    assert_eq!(users.get(&42).at_least(&stamp).await?, None);
    Ok(())
}

#[tokio::test]
async fn options() -> Result<(), Error> {
    let store = StoreOptions::new()
        .ttl(secs(300))
        .l1_ttl(secs(60))
        .ttl_jitter(0.1)
        .negative_ttl(secs(30))
        .stale_for(secs(60))
        .tag("all");
    let load = LoadOptions::new()
        .stale_while_revalidate(true)
        .stale_on_error(true)
        .error_backoff(secs(1))
        .soft_timeout(ms(100))
        .load_timeout(secs(30))
        .refresh_ahead(1.0)
        .lease_ttl(secs(3))
        .wait_timeout(secs(10));
    let cache: TieredCache<u64, User> = TieredCache::builder()
        .l1(MemoryBackend::new(10))
        .defaults((store, load))
        .outage(OutagePolicy::Load)
        .build()?;
    let no_tier = TieredCache::<u64, User>::builder().build().unwrap_err();
    assert_eq!(no_tier.kind(), ErrorKind::Config);
    let l2 = MemoryBackend::builder().max_capacity(100).build();
    let _: TieredCache<u64, User> = TieredCache::builder().namespace("json").l2_with(l2, Json).build()?;
    let weighed =
        MemoryBackend::builder().max_capacity(100).weigher(|key: &[u8], _: &User| key.len() as u32).build();
    let _: TieredCache<u64, User> = TieredCache::builder().l1(weighed).build()?;
    cache.shutdown().await;
    assert_eq!(cache.get(&1).await.unwrap_err().kind(), ErrorKind::Shutdown);
    assert_eq!(Codec::<User>::name(&Bincode), "bincode-2");
    Ok(())
}

#[tokio::test]
async fn batch_and_warm_up() -> Result<(), Error> {
    let users = users();
    let fetch = |ids: Vec<u64>| async move {
        Ok::<HashMap<u64, User>, DbError>(ids.into_iter().map(|id| (id, User { id })).collect())
    };
    let loader = users.data_loader(fetch).max_batch_size(100).delay(ms(1)).build();
    assert_eq!(loader.load(42).await?.map(|user| user.id), Some(42));
    assert_eq!(loader.load_many([1, 2, 3]).await.len(), 3);
    loader.prime(9, User { id: 9 }).await?;
    loader.clear(&9).await?;
    loader.clear_all().await?;
    let alone: DataLoader<u64, User> = DataLoader::new(fetch);
    assert_eq!(alone.load(1).await?.map(|user| user.id), Some(1));
    let each: DataLoader<u64, User> = DataLoader::each(|ids: Vec<u64>| async move {
        ids.into_iter()
            .map(|id| (id, if id == 0 { Err(DbError) } else { Ok(User { id }) }))
            .collect::<HashMap<_, _>>()
    });
    assert_eq!(each.load(0).await.unwrap_err().loader_error::<DbError>(), Some(&DbError));
    let report = users.warm([100, 101], find).concurrency(16).on_progress(|_| {}).await;
    assert_eq!((report.loaded, report.skipped, report.failed.len()), (2, 0, 0));
    Ok(())
}

fn cache() -> TieredCache<String, User> {
    static CACHE: std::sync::OnceLock<TieredCache<String, User>> = std::sync::OnceLock::new();
    CACHE.get_or_init(|| TieredCache::builder().l1(MemoryBackend::new(10)).build().expect("valid")).clone()
}

#[cached(cache = cache(), ttl = "5m", tags("team:{team}"))]
async fn find_user(team: u32, id: u64) -> Result<User, DbError> {
    let _ = team;
    find(id).await
}

#[derive(CacheKey)]
struct Id(u64);

#[tokio::test]
async fn decorate() -> Result<(), DbError> {
    assert_eq!(find_user(9, 42).await?.id, 42);
    assert_eq!(find_user_refresh(9, 42).await?.id, 42);
    find_user_invalidate(9, 42).await.expect("L1 alone");
    find_user(9, 42).await?;
    let before = cache().stats().loads;
    cache().invalidate_tag("team:9").await.expect("L1 alone");
    find_user(9, 42).await?;
    assert_eq!(cache().stats().loads, before + 1, "the tag was set");
    Ok(())
}

#[tokio::test]
async fn watch() -> Result<(), Error> {
    let users = users();
    let _events = users.subscribe();
    let Stats {
        l1_hits,
        l2_hits,
        misses,
        loads,
        load_failures,
        coalesced_waits,
        lease_waits,
        stale_served,
        invalidations_sent,
        invalidations_received,
        fills_rejected,
        l1_suspended,
        l2_errors,
        entries,
        ..
    } = users.stats();
    assert_eq!(
        l1_hits + l2_hits + misses + loads + load_failures + coalesced_waits + lease_waits + stale_served,
        0
    );
    assert_eq!(invalidations_sent + invalidations_received + fills_rejected + l2_errors + entries, 0);
    let _ = l1_suspended;
    assert!(users.stats().hit_rate() <= 1.0);
    Ok(())
}

#[tokio::test]
async fn errors() {
    let users = users();
    let error = users.get_or_load(&1, || async { Err::<User, _>(DbError) }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
    assert_eq!(error.loader_error::<DbError>(), Some(&DbError));
    assert!(!error.is_temporary());
    assert!(std::error::Error::source(&error).is_some());
    let wrong = RedisBackend::connect("not a url").await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn how_redis_is_reached() -> Result<(), Error> {
    let token = "token";
    let builder = RedisBackend::builder()
        .url("rediss://127.0.0.1:1")
        .tls(Tls::new().ca("no pem").client_cert("no pem", "no pem").server_name("cache.internal"))
        .credentials(move || async move { Ok(Credentials::new("user", token)) })
        .credentials_timeout(secs(5));
    assert_eq!(builder.connect().await.unwrap_err().kind(), ErrorKind::Config);
    let config: RedisConfig =
        serde_json::from_str(r#"{"url": "redis://127.0.0.1:1"}"#).expect("a configuration");
    let redis = RedisBackend::from_config(config.clone()).connect_lazy().await?;
    drop(redis);
    assert_eq!(RedisBackend::from_config(config).await.unwrap_err().kind(), ErrorKind::Backend);
    Ok(())
}
