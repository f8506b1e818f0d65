//! Where an answer was found, how old it is, and lookups that begin past L1.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use async_cache::testing::{self, No, until};
use async_cache::{Error, ErrorKind, MemoryBackend, Source, TieredCache, TieredCacheBuilder, Traced};

type Cache = TieredCache<u64, String>;
type Builder = TieredCacheBuilder<u64, String>;
type Rows = TieredCache<String, u64>;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn node_with(l2: &MemoryBackend, options: impl FnOnce(Builder) -> Builder) -> Cache {
    let builder = TieredCache::builder().namespace("users").l1(MemoryBackend::new(100)).l2(l2.clone());
    let cache = options(builder).build().unwrap();
    until("the node serves", || cache.is_serving()).await;
    cache
}

async fn node(l2: &MemoryBackend) -> Cache {
    node_with(l2, |builder| builder).await
}

fn find(id: u64) -> std::future::Ready<io::Result<String>> {
    std::future::ready(Ok(format!("user {id}")))
}

async fn fail() -> io::Result<String> {
    Err(io::Error::other("the source is down"))
}

/// The whole seconds of an age. The server's clock counts milliseconds, so a few of them may be missing.
fn whole(age: Duration) -> u64 {
    (age + Duration::from_millis(5)).as_secs()
}

#[tokio::test(start_paused = true)]
async fn each_tier_tells_its_name_and_the_age_of_the_value() -> Result<(), Error> {
    let l2 = MemoryBackend::new(100);
    let (a, b) = (node(&l2).await, node(&l2).await);
    let loaded = a.get_or_load(&42, || find(42)).traced().await?;
    assert_eq!(*loaded.value, "user 42");
    assert_eq!((loaded.source, loaded.age), (Source::Load, Duration::ZERO));
    tokio::time::sleep(secs(5)).await;
    for source in [Source::L2, Source::L1] {
        // The other node gives the age that the value has, not the time since it was read.
        let Traced { value, source: from, age } = b.get_or_load(&42, fail).traced().await?;
        assert_eq!((&**value, from, whole(age)), ("user 42", source, 5));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let held = a.get(&42).traced().await?;
    assert_eq!((held.value.is_some(), held.source, whole(held.age)), (true, Source::L1, 5));
    b.insert(&42, "new".to_owned()).await?;
    until("the insert is heard", || a.stats().entries == 0).await;
    tokio::time::sleep(secs(1)).await;
    let inserted = a.get(&42).traced().await?;
    assert_eq!((whole(inserted.age), inserted.source), (1, Source::L2));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waited_for_another_says_so() {
    let l2 = MemoryBackend::new(100);
    let build = || TieredCache::builder().namespace("rows").l1(MemoryBackend::new(100)).l2(l2.clone());
    let nodes: [Rows; 2] = [build().build().unwrap(), build().build().unwrap()];
    for node in &nodes {
        until("the node serves", || node.is_serving()).await;
    }
    let source = testing::Source::new();
    let ask = |node: &Rows| {
        let (node, source) = (node.clone(), source.clone());
        tokio::spawn(async move { node.get_or_load("k", move || source.held()).traced().await.unwrap() })
    };
    let leads = ask(&nodes[0]);
    source.begun(1).await;
    let (here, elsewhere) = (ask(&nodes[0]), ask(&nodes[1]));
    until("the other node waits", || nodes[1].stats().lease_waits == 1).await;
    source.let_go(1);
    assert_eq!(leads.await.unwrap().source, Source::Load);
    assert_eq!(here.await.unwrap().source, Source::Wait);
    assert_eq!(elsewhere.await.unwrap().source, Source::Wait);
    assert_eq!(source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_expired_answer_is_stale_wherever_it_was_found() -> Result<(), Error> {
    let l2 = MemoryBackend::new(100);
    let brief = |builder: Builder| builder.ttl(secs(10)).stale_for(secs(60)).error_backoff(secs(2));
    let (a, b) = (node_with(&l2, brief).await, node_with(&l2, brief).await);
    a.insert(&1, "old".to_owned()).await?;
    tokio::time::sleep(secs(15)).await;
    for node in [&a, &b] {
        // After a failed load, then while the next attempt has to wait.
        for _ in 0..2 {
            let found = node.get_or_load(&1, fail).traced().await?;
            assert_eq!((&**found.value, found.source, whole(found.age)), ("old", Source::Stale, 15));
        }
        assert_eq!(node.stats().stale_served, 2, "as it is counted");
    }
    tokio::time::sleep(secs(3)).await;
    let served = a.get_or_load(&1, || find(1)).stale_while_revalidate(true).traced().await?;
    assert_eq!((&**served.value, served.source, whole(served.age)), ("old", Source::Stale, 18));
    until("it is refreshed", || a.is_idle()).await;
    assert_eq!(*a.get(&1).traced().await?.value.unwrap(), "user 1");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_absence_is_traced_as_a_value_is() -> Result<(), Error> {
    let cache = node(&MemoryBackend::new(100)).await;
    let unknown = cache.get(&7).traced().await?;
    assert_eq!((unknown.value, unknown.source, unknown.age), (None, Source::Nowhere, Duration::ZERO));
    let nobody = || async { Ok::<_, No>(None::<String>) };
    let loaded = cache.get_or_load_optional(&7, nobody).traced().await?;
    assert_eq!((loaded.value, loaded.source), (None, Source::Load));
    tokio::time::sleep(secs(3)).await;
    let known = cache.get(&7).traced().await?;
    assert_eq!((known.value, known.source, whole(known.age)), (None, Source::L1, 3));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_nowhere_has_no_age() -> Result<(), Error> {
    let cache = node(&MemoryBackend::new(100)).await;
    let load = || async { Ok::<_, No>(async_cache::Loaded::new("once".to_owned()).uncached()) };
    let found = cache.get_or_load(&1, load).traced().await?;
    assert_eq!((found.source, found.age), (Source::Load, Duration::ZERO));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_lookup_past_l1_asks_l2_although_l1_has_the_key() -> Result<(), Error> {
    let cache = node(&MemoryBackend::new(100)).await;
    cache.insert_many([(1, "one".to_owned()), (2, "two".to_owned())]).await?;
    assert_eq!(cache.get(&1).traced().await?.source, Source::L1);
    let l1_hits = cache.stats().l1_hits;

    assert_eq!(cache.get(&1).skip_l1().await?.as_deref().map(String::as_str), Some("one"));
    assert_eq!(cache.get(&1).skip_l1().traced().await?.source, Source::L2);
    assert_eq!(cache.get_or_load(&1, fail).skip_l1().traced().await?.source, Source::L2);
    assert_eq!(cache.get_many(&[1, 2]).skip_l1().await?.iter().flatten().count(), 2);
    let none = |_: Vec<u64>| async { Ok::<_, io::Error>(HashMap::<u64, String>::new()) };
    assert_eq!(cache.get_many_or_load(&[1, 2], none).skip_l1().await?.iter().flatten().count(), 2);
    let stats = cache.stats();
    assert_eq!((stats.l1_hits, stats.l2_hits, stats.loads), (l1_hits, 7, 0));
    assert_eq!(cache.get(&1).traced().await?.source, Source::L1, "the next call asks L1 again");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_lookup_past_l1_joins_a_load_that_is_under_way() {
    let l2 = MemoryBackend::new(100);
    let cache: Rows =
        TieredCache::builder().namespace("rows").l1(MemoryBackend::new(100)).l2(l2).build().unwrap();
    until("the node serves", || cache.is_serving()).await;
    let source = testing::Source::new();
    let ask = |skips: bool| {
        let (cache, source) = (cache.clone(), source.clone());
        tokio::spawn(async move {
            let request = cache.get_or_load("k", move || source.held());
            if skips { request.skip_l1().traced().await } else { request.traced().await }
        })
    };
    let first = ask(false);
    source.begun(1).await;
    let joined = ask(true);
    tokio::task::yield_now().await;
    source.let_go(1);
    assert_eq!(first.await.unwrap().unwrap().source, Source::Load);
    assert_eq!(joined.await.unwrap().unwrap().source, Source::Wait);
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn a_lookup_past_l1_is_refused_where_there_is_nothing_past_it() {
    let cache: Cache = TieredCache::builder().l1(MemoryBackend::new(100)).build().unwrap();
    cache.insert(&1, "one".to_owned()).await.unwrap();
    let none = |_: Vec<u64>| async { Ok::<_, io::Error>(HashMap::<u64, String>::new()) };
    for refused in [
        cache.get(&1).skip_l1().await.map(drop),
        cache.get_or_load(&1, fail).skip_l1().await.map(drop),
        cache.get_or_load_optional(&1, || async { Ok::<_, No>(None::<String>) }).skip_l1().await.map(drop),
        cache.get_many(&[1]).skip_l1().await.map(drop),
        cache.get_many_or_load(&[1], none).skip_l1().await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config);
        assert!(refused.to_string().contains("`skip_l1`"), "{refused}");
    }
}
