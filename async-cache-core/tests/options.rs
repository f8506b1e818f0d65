//! Options are what they say, or are refused: none is accepted and has no effect.

use std::collections::HashMap;
use std::time::Duration;

use async_cache_core::testing::ms;
use async_cache_core::{
    DataLoader, Defaults, ErrorKind, LoadOptions, OutagePolicy, Result, StoreOptions, TieredCache,
    TieredCacheBuilder,
};
use async_cache_memory::{Engine, MemoryBackend};

type Builder = TieredCacheBuilder<u64, u64>;

fn builder() -> Builder {
    TieredCache::builder().namespace("options").l1(MemoryBackend::new(100))
}

/// The message of an error that says how the cache was set up wrongly.
fn told<T>(outcome: Result<T>) -> String {
    let error = outcome.err().expect("refused");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.to_string()
}

async fn load() -> Result<u64, std::io::Error> {
    Ok(7)
}

#[tokio::test]
async fn options_about_stale_values_need_some_to_be_kept() {
    for (option, with) in [
        ("soft_timeout", (|builder| builder.soft_timeout(ms(50))) as fn(Builder) -> Builder),
        ("stale_while_revalidate", |builder| builder.stale_while_revalidate(true)),
        ("soft_timeout", |builder| builder.defaults(LoadOptions::new().soft_timeout(ms(50)))),
    ] {
        let message = told(with(builder()).build());
        assert!(message.contains(&format!("`{option}`")) && message.contains("set `stale_for`"), "{message}");
        with(builder().stale_for(ms(1))).build().unwrap();
    }
}

#[tokio::test]
async fn a_call_is_held_to_the_same() {
    let cache = builder().build().unwrap();
    let many = |_| async { Ok::<_, std::io::Error>(HashMap::from([(1, 7)])) };
    for message in [
        told(cache.get_or_load(&1, load).soft_timeout(ms(50)).await),
        told(cache.get_or_load(&1, load).stale_while_revalidate(true).await),
        told(cache.get_many_or_load(&[1], many).stale_while_revalidate(true).await),
    ] {
        assert!(message.contains("set `stale_for`") && message.contains("`options`"), "{message}");
    }
    assert_eq!(cache.stats().loads, 0);
    cache.get_or_load(&1, load).stale_for(ms(1)).soft_timeout(ms(50)).await.unwrap();

    let stale = builder().namespace("stale").stale_for(ms(1)).stale_while_revalidate(true).build().unwrap();
    told(stale.get_or_load(&1, load).stale_for(Duration::ZERO).await);
    stale.get_or_load(&1, load).await.unwrap();
}

/// A stale value of L1 answers without a flight, and a refresh with these options could not begin.
#[tokio::test(start_paused = true)]
async fn a_call_that_finds_a_stale_value_is_held_to_the_same() {
    let cache = builder().build().unwrap();
    cache.insert(&1, 7).ttl(ms(500)).stale_for(Duration::from_secs(60)).await.unwrap();
    tokio::time::sleep(ms(600)).await;
    let message = told(cache.get_or_load(&1, load).stale_while_revalidate(true).await);
    assert!(message.contains("set `stale_for`"), "{message}");
}

#[tokio::test]
async fn a_cap_on_l1_needs_an_l1() {
    let l2_only = || TieredCache::<u64, u64>::builder().namespace("options").l2(MemoryBackend::new(100));
    let message = told(l2_only().l1_ttl(ms(50)).build());
    assert!(message.contains("`l1_ttl`") && message.contains("call `l1`"), "{message}");
    let cache = l2_only().build().unwrap();
    told(cache.get_or_load(&1, load).l1_ttl(ms(50)).await);
    told(cache.insert(&1, 7).l1_ttl(ms(50)).await);
    builder().l1_ttl(ms(50)).build().unwrap();
}

#[tokio::test]
async fn a_tier_without_room_is_refused() {
    let remedy = "give it 1 or more";
    let build = |l1: MemoryBackend<u64>| TieredCache::<u64, u64>::builder().namespace("room").l1(l1).build();
    for engine in [Engine::Quick, Engine::Moka] {
        let message = told(build(MemoryBackend::builder().max_capacity(0).engine(engine).build()));
        assert!(message.contains("`max_capacity`") && message.contains(remedy), "{message}");
        build(MemoryBackend::builder().max_capacity(1).engine(engine).build()).unwrap();
    }
    told(build(MemoryBackend::new(0)));
    told(build(MemoryBackend::builder().max_capacity(0).weigher(|_, _| 1).build()));

    let l2 = |l2: MemoryBackend| TieredCache::<u64, u64>::builder().namespace("room").l2(l2).build();
    assert!(told(l2(MemoryBackend::new(0))).contains(remedy));
    for partitions in [0, 1025] {
        let message = told(l2(MemoryBackend::builder().partitions(partitions).build()));
        assert!(message.contains("`partitions`") && message.contains("1 to 1024"), "{message}");
    }
    l2(MemoryBackend::builder().partitions(1024).build()).unwrap();
}

#[tokio::test]
async fn a_loader_without_a_cache_knows_one_option() {
    let batch = |keys: Vec<u64>| async move {
        Ok::<HashMap<u64, u64>, std::io::Error>(keys.into_iter().map(|key| (key, key)).collect())
    };
    let refused = DataLoader::new(batch).options(StoreOptions::new().ttl(ms(50)));
    assert!(told(refused.load(1).await).contains("`load_timeout`"));
    let zero = DataLoader::new(batch).load_timeout(Duration::ZERO);
    assert!(told(zero.load(1).await).contains("`load_timeout`"));
    DataLoader::new(batch).options(LoadOptions::new().load_timeout(ms(5_000))).load(1).await.unwrap();
}

#[test]
fn what_is_not_set_is_as_documented() {
    let (store, load, secs) = (StoreOptions::new(), LoadOptions::new(), Duration::from_secs);
    assert_eq!((store.ttl, store.negative_ttl, store.stale_for), (secs(300), secs(30), secs(0)));
    assert_eq!((store.l1_ttl, load.soft_timeout, load.refresh_ahead), (None, None, None));
    assert_eq!((load.load_timeout, load.wait_timeout, load.lease_ttl), (secs(30), secs(10), secs(3)));
    assert_eq!(load.error_backoff, secs(1));
    assert!(load.stale_on_error && !load.stale_while_revalidate);
}

#[tokio::test(start_paused = true)]
async fn either_half_of_the_defaults_may_be_given() {
    let store = StoreOptions::new().ttl(ms(100));
    let slow = || async {
        tokio::time::sleep(ms(200)).await;
        load().await
    };
    let hasty = LoadOptions::new().load_timeout(ms(100));
    for builder in [
        builder().ttl(ms(100)).defaults(hasty.clone()),
        builder().load_timeout(ms(100)).defaults(store.clone()),
        builder().defaults((store, hasty)),
    ] {
        let cache = builder.build().unwrap();
        cache.get_or_load(&1, load).await.unwrap();
        tokio::time::sleep(ms(150)).await;
        assert_eq!(cache.get(&1).await.unwrap(), None, "its ttl is over");
        assert_eq!(cache.get_or_load(&1, slow).await.unwrap_err().kind(), ErrorKind::Timeout);
    }
}

#[test]
fn options_are_read_from_text() {
    let store: StoreOptions = serde_json::from_str(
        r#"{ "ttl": "5m", "l1_ttl": "30s", "ttl_jitter": 0.1, "negative_ttl": "250ms", "stale_for": "1h 30m",
             "tags": ["eu", "users"] }"#,
    )
    .unwrap();
    let expected = StoreOptions::new()
        .ttl(Duration::from_secs(300))
        .l1_ttl(Duration::from_secs(30))
        .ttl_jitter(0.1)
        .negative_ttl(ms(250))
        .stale_for(Duration::from_secs(5400))
        .tags(["eu", "users"]);
    assert_eq!(store, expected);
    let load: LoadOptions = serde_json::from_str(
        r#"{ "load_timeout": "2s", "soft_timeout": "100ms", "lease_ttl": "1s", "wait_timeout": "4s",
             "refresh_ahead": 1.5, "stale_while_revalidate": true, "stale_on_error": false, "error_backoff": "3s" }"#,
    )
    .unwrap();
    let expected = LoadOptions::new()
        .load_timeout(ms(2_000))
        .soft_timeout(ms(100))
        .lease_ttl(ms(1_000))
        .wait_timeout(ms(4_000))
        .refresh_ahead(1.5)
        .stale_while_revalidate(true)
        .stale_on_error(false)
        .error_backoff(ms(3_000));
    assert_eq!(load, expected);
    let both: Defaults =
        serde_json::from_str(r#"{ "store": { "ttl": "1s" }, "load": { "lease_ttl": "2s" } }"#).unwrap();
    assert_eq!(both.store, Some(StoreOptions::new().ttl(ms(1_000))));
    assert_eq!(both.load, Some(LoadOptions::new().lease_ttl(ms(2_000))));
    assert_eq!(serde_json::from_str::<StoreOptions>("{}").unwrap(), StoreOptions::new());
    assert_eq!(serde_json::from_str::<LoadOptions>("{}").unwrap(), LoadOptions::new());
}

#[test]
fn text_that_means_nothing_is_refused() {
    let store = |text: &str| serde_json::from_str::<StoreOptions>(text).unwrap_err().to_string();
    assert!(store(r#"{ "tll": "5m" }"#).contains("unknown field `tll`"));
    assert!(store(r#"{ "load_timeout": "5s" }"#).contains("unknown field `load_timeout`"));
    assert!(store(r#"{ "ttl": "soon" }"#).contains("duration"));
    assert!(store(r#"{ "ttl": 300 }"#).contains("duration"));
    assert!(store(r#"{ "tags": [""] }"#).contains("a tag is empty"));
    let load = serde_json::from_str::<LoadOptions>(r#"{ "ttl": "5s" }"#).unwrap_err().to_string();
    assert!(load.contains("unknown field `ttl`"));
    assert!(serde_json::from_str::<Defaults>(r#"{ "stored": {} }"#).is_err());
}

#[test]
fn an_outage_policy_is_read_from_a_configuration_file() {
    for (name, policy) in
        [("serve_l1", OutagePolicy::ServeL1), ("load", OutagePolicy::Load), ("fail", OutagePolicy::Fail)]
    {
        assert_eq!(serde_json::from_str::<OutagePolicy>(&format!("\"{name}\"")).unwrap(), policy);
    }
    let error = serde_json::from_str::<OutagePolicy>("\"stop\"").unwrap_err().to_string();
    assert!(error.contains("serve_l1"), "{error}");
}
