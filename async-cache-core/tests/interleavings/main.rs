//! Interleavings that a shared tier allows and that only a stage brings about: commands of unknown
//! outcome, and events that arrive late. Each test is one of them, step by step.

mod stage;
mod told;
mod unverified;

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

use async_cache_core::key::Key;
use async_cache_core::testing::{No, Source, ms, until};
use async_cache_core::{ErrorKind, Stamp};
use async_cache_memory::MemoryBackend;
use stage::{Cache, Holder, Stage};

fn tier() -> MemoryBackend<bytes::Bytes> {
    MemoryBackend::new(100)
}

fn key() -> Key {
    Key::encode("k").unwrap()
}

async fn load(node: &Cache, version: u64) -> u64 {
    *node.get_or_load("k", move || async move { Ok::<_, No>(version) }).await.unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Invalidate,
    InvalidateAll,
    InvalidateTag,
    Insert,
}

impl Change {
    const ALL: [Self; 4] = [Self::Invalidate, Self::InvalidateAll, Self::InvalidateTag, Self::Insert];

    async fn make(self, node: &Cache) -> Result<Stamp, async_cache_core::Error> {
        match self {
            Self::Invalidate => node.invalidate("k").await,
            Self::InvalidateAll => node.invalidate_all().await,
            Self::InvalidateTag => node.invalidate_tag("t").await,
            Self::Insert => node.insert("k", 2).await,
        }
    }
}

/// 1. a change begins, and is stuck; 2. a get stores the old value in L1; 3. the change fails: its
///    caller is told that the key is dropped here; 4. a get on this node.
#[tokio::test(start_paused = true)]
async fn what_is_read_before_a_change_fails_does_not_stay() {
    for change in Change::ALL {
        let tier = tier();
        let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
        let node = stage.node().await;
        other.insert("k", 1).tag("t").await.unwrap();
        stage.changes_get_stuck();
        let changing = tokio::spawn({
            let node = node.clone();
            async move { change.make(&node).await }
        });
        stage.a_change_is_stuck().await;
        assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1));
        stage.time_out();
        assert_eq!(changing.await.unwrap().unwrap_err().kind(), ErrorKind::Backend);
        assert_eq!(load(&node, 2).await, 2, "{change:?}");
    }
}

/// 1. a get waits for another node's load; 2. an invalidation fails here; 3. the other node stores
///    what it read before; 4. the waiting get asks again, and finds it; 5. a get on this node.
#[tokio::test(start_paused = true)]
async fn a_waiter_does_not_bring_back_what_a_failed_invalidation_dropped() {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let node = stage.node().await;
    let mut holder = Holder::beside(&stage);
    other.insert("k", 1).await.unwrap();
    let old = holder.frame(&key()).await;
    other.invalidate("k").await.unwrap();

    let lease = holder.lease(&key()).await;
    let waiting = tokio::spawn({
        let node = node.clone();
        async move { load(&node, 2).await }
    });
    until("the get waits", || node.stats().lease_waits == 1).await;
    stage.changes_get_stuck();
    let changing = tokio::spawn({
        let node = node.clone();
        async move { node.invalidate("k").await }
    });
    stage.a_change_is_stuck().await;
    stage.time_out();
    changing.await.unwrap().unwrap_err();
    // The wake-up is lost: the waiter polls.
    stage.hold_events();
    holder.fill(&key(), lease, &old).await;
    waiting.await.unwrap();
    assert!(node.is_serving());
    assert_eq!(load(&node, 2).await, 2);
}

/// How a get comes to be bound by an invalidation that its node has not heard of yet.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    /// It was made on the same node.
    Own,
    /// It was made on the same node, of the whole namespace.
    OwnClear,
    /// By its stamp.
    Stamp,
    /// By its age.
    Staleness,
}

/// 1. another node fills version 1, the wake-up with it is slow to arrive; 2. the key is
///    invalidated; 3. another node leads; 4. a get bound by 2 waits for that node; 5. the wake-up
///    arrives.
#[tokio::test(start_paused = true)]
async fn a_wake_up_from_before_an_invalidation_does_not_answer() {
    for bound in [Bound::Own, Bound::OwnClear, Bound::Stamp, Bound::Staleness] {
        let tier = tier();
        let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
        let node = stage.node().await;
        let mut holder = Holder::beside(&stage);
        other.insert("k", 1).await.unwrap();
        let old = holder.frame(&key()).await;
        other.insert("k", 2).await.unwrap();
        let new = holder.frame(&key()).await;
        other.invalidate("k").await.unwrap();

        let lease = holder.lease(&key()).await;
        let first = tokio::spawn({
            let node = node.clone();
            async move { load(&node, 99).await }
        });
        until("the first get waits", || node.stats().lease_waits == 1).await;
        stage.hold_events();
        holder.fill(&key(), lease, &old).await;
        assert_eq!(first.await.unwrap(), 1, "by polling");

        let stamp = match bound {
            Bound::Own => node.invalidate("k").await,
            Bound::OwnClear => node.invalidate_all().await,
            Bound::Stamp | Bound::Staleness => other.invalidate("k").await,
        };
        let stamp = stamp.unwrap();
        if bound == Bound::Staleness {
            tokio::time::sleep(Duration::from_millis(1001)).await;
        }
        let lease = holder.lease(&key()).await;
        let second = tokio::spawn({
            let node = node.clone();
            async move {
                let get = node.get_or_load("k", || async { Ok::<_, No>(99) });
                if bound == Bound::Stamp { get.at_least(&stamp).await } else { get.await }
            }
        });
        until("the second get waits", || node.stats().lease_waits == 2).await;
        assert!(stage.held_events() >= 2);
        stage.let_events_go();
        tokio::time::sleep(ms(1)).await;
        holder.fill(&key(), lease, &new).await;
        assert_eq!(*second.await.unwrap().unwrap(), 2, "{bound:?}");
    }
}

/// 1. an invalidation of a tag fails here, and is to be retried; 2. a get asks L2, which finds a value
///    of that tag valid; 3. the retry lands: nothing is pending any more; 4. the get has its answer.
#[tokio::test(start_paused = true)]
async fn an_answer_does_not_outrun_the_retry_of_a_tag() {
    let tier = tier();
    let stage = Stage::on(&tier);
    let node = stage.node().await;
    node.insert("k", 1).tag("t").await.unwrap();
    stage.hold_events();
    tokio::time::sleep(ms(1001)).await;
    assert!(!node.is_serving(), "L2 judges what is read from it");
    stage.changes_get_stuck();
    let change = tokio::spawn({
        let node = node.clone();
        async move { node.invalidate_tag("t").await }
    });
    stage.a_change_is_stuck().await;
    stage.time_out();
    assert!(change.await.unwrap().unwrap_err().is_temporary());
    stage.answers_are_late();
    let get = tokio::spawn({
        let node = node.clone();
        async move { node.get_or_load("k", || async { Ok::<_, No>(2) }).await }
    });
    stage.an_answer_is_on_its_way().await;
    stage.changes_go_through();
    stage.time_out();
    until("the retry lands", || node.stats().pending_invalidations == 0).await;
    stage.answers_arrive();
    assert_eq!(*get.await.unwrap().unwrap(), 2, "invalidated here before the get began");
}

/// 1. an invalidation fails here, and is to be retried; 2. a get of many asks L2, which has the old value;
/// 3. the retry lands: nothing is pending any more; 4. the get has its answer.
#[tokio::test(start_paused = true)]
async fn an_answer_for_many_does_not_outrun_the_retry_of_one() {
    let stage = Stage::on(&tier());
    let node = stage.node().await;
    node.insert_many([("k".to_owned(), 1), ("other".to_owned(), 1)]).await.unwrap();
    stage.changes_get_stuck();
    let change = tokio::spawn({
        let node = node.clone();
        async move { node.invalidate("k").await }
    });
    stage.a_change_is_stuck().await;
    stage.time_out();
    assert!(change.await.unwrap().unwrap_err().is_temporary());
    stage.answers_are_late();
    let get = tokio::spawn({
        let node = node.clone();
        async move { node.get_many(["k", "other"]).await }
    });
    stage.an_answer_is_on_its_way().await;
    stage.changes_go_through();
    stage.time_out();
    until("the retry lands", || node.stats().pending_invalidations == 0).await;
    stage.answers_arrive();
    let got = get.await.unwrap().unwrap();
    assert_eq!(got[0], None, "invalidated here before the get began");
    assert_eq!(got[1].as_deref(), Some(&1));
}

/// 1. a node holds version 1; 2. another invalidates it, and gives a stamp; 3. the first is cut off
///    before it hears of that; 4. a get there insists on the stamp. That the policy lets L1 answer in
///    an outage does not make version 1 answer it, nor does a load that others began.
#[tokio::test(start_paused = true)]
async fn a_stamp_binds_in_an_outage_too() {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let node = stage.node().await;
    other.insert("k", 1).await.unwrap();
    assert_eq!(load(&node, 99).await, 1);
    stage.hold_events();
    let stamp = other.invalidate("k").await.unwrap();
    stage.reads_fail();
    tokio::time::sleep(ms(1001)).await;
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1), "the policy");
    assert_eq!(node.get_many(["k"]).await.unwrap()[0].as_deref(), Some(&1), "the policy");
    assert_eq!(node.get("k").at_least(&stamp).await.unwrap_err().kind(), ErrorKind::Backend);
    assert_eq!(node.get_many(["k"]).at_least(&stamp).await.unwrap_err().kind(), ErrorKind::Backend);
    let new = node.get_or_load("k", || async { Ok::<_, No>(2) }).at_least(&stamp);
    assert_eq!(*new.await.unwrap(), 2);
}

/// Stamps come from outside. One with a number nobody has handed out costs its get a question to
/// L2, and nobody else anything.
#[tokio::test(start_paused = true)]
async fn a_made_up_stamp_does_not_shield_a_load_from_invalidations() {
    let tier = tier();
    let (node, other) = (Stage::on(&tier).node().await, Stage::on(&tier).node().await);
    let source = Source::new();
    let stamp: Stamp = "rows@0:9007199254740992".parse().unwrap();
    let old = tokio::spawn({
        let (node, source) = (node.clone(), source.clone());
        async move { node.get_or_load("k", move || source.held()).at_least(&stamp).await }
    });
    source.begun(1).await;
    source.write();
    let heard = node.stats().invalidations_received;
    other.invalidate("k").await.unwrap();
    until("the invalidation is heard", || node.stats().invalidations_received > heard).await;
    let new = tokio::spawn({
        let (node, source) = (node.clone(), source.clone());
        async move { node.get_or_load("k", move || source.now()).await }
    });
    tokio::time::sleep(ms(100)).await;
    source.let_go(1);
    assert_eq!(*new.await.unwrap().unwrap(), 2);
    assert_eq!(*old.await.unwrap().unwrap(), 1);
}

/// A refresh that cannot store what it loaded removes what it was to replace.
#[tokio::test(start_paused = true)]
async fn a_refresh_that_stores_nothing_leaves_nothing_old() {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let node = stage.node().await;
    other.insert("k", 1).await.unwrap();
    stage.fills_fail();
    assert_eq!(*node.refresh("k", || async { Ok::<_, No>(2) }).await.unwrap(), 2);
    until("the retry has landed", || node.is_idle()).await;
    assert_eq!(load(&other, 2).await, 2);
}

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

/// 1. a refresh loads; 2. a change begins here, and is stuck: what L1 is offered will be refused;
/// 3. a get stores the old value in L1; 4. the refresh is stored in L2; 5. a get on this node.
#[tokio::test(start_paused = true)]
async fn what_a_refresh_replaces_does_not_stay() {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let node = stage.node().await;
    let source = Source::new();
    other.insert("k", 1).await.unwrap();
    source.write();
    let refreshing = tokio::spawn({
        let (node, source) = (node.clone(), source.clone());
        async move { node.refresh("k", move || source.held()).await }
    });
    source.begun(1).await;
    stage.changes_get_stuck();
    let changing = tokio::spawn({
        let node = node.clone();
        async move { node.invalidate("k").await }
    });
    stage.a_change_is_stuck().await;
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1));
    stage.hold_events();
    source.let_go(1);
    assert_eq!(*refreshing.await.unwrap().unwrap(), 2);
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&2));
    changing.abort();
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
        match self {
            Self::None => *node.get_or_load("k", load).stale_while_revalidate(true).await.unwrap(),
            Self::Short => *node.get_or_load("k", load).soft_timeout(ms(10)).await.unwrap(),
            Self::NoneOfMany => {
                let load = |_| async { Ok::<HashMap<String, u64>, No>(HashMap::new()) };
                let got = node.get_many_or_load(["k"], load).stale_while_revalidate(true).await.unwrap();
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
