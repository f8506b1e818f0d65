//! Expired values that stand in for a load: when they may, and by what they are judged.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

use async_cache_core::ErrorKind;
use async_cache_core::testing::{No, Source, ms};
use async_cache_memory::MemoryBackend;

use crate::stage::{Cache, Stage};
use crate::{Change, tier};

/// 1. a get finds a value that has expired, and loads; 2. another node invalidates the key, and the
///    news is on the way for longer than the bound on staleness; 3. the load fails.
///
/// L1 still holds the old value, but no longer knows it to be current: L2 is asked, and has none.
#[tokio::test(start_paused = true)]
async fn a_fallback_is_verified_when_news_are_late() {
    for change in [Change::Invalidate, Change::InvalidateAll] {
        let tier = tier();
        let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
        let (node, source) = (stage.node().await, Source::new());
        let first = source.clone();
        let load = node.get_or_load("k", move || first.now()).ttl(ms(500)).stale_for(Duration::from_secs(60));
        assert_eq!(*load.await.unwrap(), 1);
        tokio::time::sleep(ms(600)).await;
        let call = tokio::spawn({
            let (node, source) = (node.clone(), source.clone());
            async move {
                node.get_or_load("k", move || async move { source.held().await.and(Err::<u64, _>(No(0))) })
                    .await
            }
        });
        source.begun(2).await;
        stage.hold_events();
        change.make(&other).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        source.let_go(1);
        assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Loader, "{change:?}");
    }
}

/// The same, without 2: L2 confirms what L1 holds, and it answers.
#[tokio::test(start_paused = true)]
async fn a_fallback_that_l2_confirms_answers() {
    let tier = tier();
    let stage = Stage::on(&tier);
    let (node, source) = (stage.node().await, Source::new());
    let first = source.clone();
    let load = node.get_or_load("k", move || first.now()).ttl(ms(500)).stale_for(Duration::from_secs(60));
    assert_eq!(*load.await.unwrap(), 1);
    stage.hold_events();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(*node.get_or_load("k", move || source.failing()).await.unwrap(), 1);
}

/// 1. nothing is found in L2, so that the lease is asked for at once; 2. another node makes a change, and
///    the news of it is on the way; 3. a get here insists on its stamp, of a key that has expired in L2.
///
/// L2 was asked after the change was made: what came with the question for the lease reflects it.
#[tokio::test(start_paused = true)]
async fn a_fallback_that_comes_with_the_lease_reflects_the_stamp() {
    let tier = MemoryBackend::new(1_000);
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let (node, source) = (stage.node().await, Source::new());
    for cold in 0..100 {
        let load = source.clone();
        node.get_or_load(&cold.to_string(), move || load.now()).await.unwrap();
    }
    other.insert("k", 7).ttl(ms(500)).stale_for(Duration::from_secs(60)).await.unwrap();
    tokio::time::sleep(ms(600)).await;
    stage.hold_events();
    let stamp = other.invalidate("another").await.unwrap();
    let get = node
        .get_or_load("k", move || source.held())
        .stale_for(Duration::from_secs(60))
        .stale_while_revalidate(true)
        .at_least(&stamp);
    assert_eq!(*tokio::time::timeout(ms(100), get).await.expect("nothing to wait for").unwrap(), 7);
}

/// How a get comes to be answered with a stale value while it has joined a load.
#[derive(Clone, Copy, Debug)]
enum Patience {
    None,
    Short,
    /// None, in a batch.
    NoneOfMany,
}

impl Patience {
    async fn get(self, node: &Cache) -> u64 {
        let load = || async { Ok::<_, No>(3) };
        let get = node.get_or_load("k", load).stale_for(Duration::from_secs(60));
        match self {
            Self::None => *get.stale_while_revalidate(true).await.unwrap(),
            Self::Short => *get.soft_timeout(ms(10)).await.unwrap(),
            Self::NoneOfMany => {
                let load = |_| async { Ok::<HashMap<String, u64>, No>(HashMap::new()) };
                let get = node.get_many_or_load(["k"], load).stale_for(Duration::from_secs(60));
                let got = get.stale_while_revalidate(true).await.unwrap();
                **got[0].as_ref().unwrap()
            }
        }
    }
}

/// 1. a load has read its row, and its fill is under way; 2. its tag is invalidated; 3. a get joins
///    it, and is given a stale value, which does not have the tag.
///
/// What it was given is not what it has joined: were it judged by that, it would join it again, and be
/// given the same, for ever. On a thread of its own, which such a loop would never leave.
#[test]
fn what_stands_in_for_a_load_is_not_judged_by_its_tags() {
    for patience in [Patience::None, Patience::Short, Patience::NoneOfMany] {
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().start_paused(true).build().unwrap();
            tell.send(runtime.block_on(stale_beside_a_stuck_fill(patience))).unwrap();
        });
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(1), "{patience:?}");
    }
}

async fn stale_beside_a_stuck_fill(patience: Patience) -> u64 {
    let stage = Stage::on(&tier());
    let node = stage.bare_node();
    node.insert("k", 1).ttl(ms(500)).stale_for(Duration::from_secs(60)).await.unwrap();
    tokio::time::sleep(ms(600)).await;
    stage.fills_get_stuck();
    let leading = tokio::spawn({
        let node = node.clone();
        async move { node.get_or_load("k", || async { Ok::<_, No>(2) }).tag("t").await }
    });
    stage.a_fill_is_stuck().await;
    node.invalidate_tag("t").await.unwrap();
    let got = patience.get(&node).await;
    leading.abort();
    got
}

/// 1. L1 answers with a stale value, and a refresh begins behind the answer; 2. another node stores version 2, and its
///    message is late; 3. a lookup that skips L1 joins the refresh. The entry of L1 does not answer it, not even if the
///    refresh fails.
#[tokio::test(start_paused = true)]
async fn who_skips_l1_gets_no_fallback_of_l1() {
    for fails in [false, true] {
        let tier = tier();
        let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
        let (node, source) = (stage.node().await, Source::new());
        node.insert("k", 7).ttl(ms(500)).stale_for(Duration::from_secs(60)).await.unwrap();
        tokio::time::sleep(ms(600)).await;
        let behind = source.clone();
        let refreshing = move || async move {
            let loaded = behind.held().await;
            if fails { Err(No(1)) } else { loaded }
        };
        let minute = Duration::from_secs(60);
        let stale = node.get_or_load("k", refreshing).stale_for(minute).stale_while_revalidate(true);
        assert_eq!(*stale.await.unwrap(), 7);
        source.begun(1).await;
        stage.hold_events();
        other.insert("k", 2).await.unwrap();
        let joined = tokio::spawn({
            let node = node.clone();
            async move {
                let load = || async { Ok::<_, No>(3) };
                let get = node.get_or_load("k", load).skip_l1().stale_for(minute);
                get.stale_on_error(true).stale_while_revalidate(true).await
            }
        });
        // The clock is paused: it goes on once every task waits.
        tokio::time::sleep(ms(50)).await;
        source.let_go(1);
        assert_ne!(*joined.await.unwrap().unwrap(), 7, "fails: {fails}");
    }
}
