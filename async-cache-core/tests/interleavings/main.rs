//! Interleavings that a shared tier allows and that only a stage brings about: commands of unknown
//! outcome, and events that arrive late. Each test is one of them, step by step.

mod arms;
mod counted;
mod errors;
mod fallbacks;
mod figures;
mod joined;
mod limits;
#[cfg(feature = "metrics")]
mod measured;
mod older_memory;
mod once;
mod refreshes;
mod refused;
mod shutdown;
mod stage;
mod told;
mod unverified;
mod verified;

use std::time::Duration;

use async_cache_core::key::Key;
use async_cache_core::testing::{No, Source, ms, until};
use async_cache_core::{ErrorKind, Stamp};
use async_cache_memory::MemoryBackend;
use stage::{Cache, Holder, Stage};
use tokio::task::JoinHandle;

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

    async fn make(self, node: &Cache) -> async_cache_core::Result<Stamp> {
        match self {
            Self::Invalidate => node.invalidate("k").await,
            Self::InvalidateAll => node.invalidate_all().await,
            Self::InvalidateTag => node.invalidate_tag("t").await,
            Self::Insert => node.insert("k", 2).await,
        }
    }

    /// Begins, and is stuck.
    async fn get_stuck(self, stage: &Stage, node: &Cache) -> JoinHandle<async_cache_core::Result<Stamp>> {
        stage.changes_get_stuck();
        let node = node.clone();
        let change = tokio::spawn(async move { self.make(&node).await });
        stage.a_change_is_stuck().await;
        change
    }

    /// Fails: dropped here, and to be retried.
    async fn fail(self, stage: &Stage, node: &Cache) {
        let change = self.get_stuck(stage, node).await;
        stage.time_out();
        assert!(change.await.unwrap().unwrap_err().is_temporary());
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
        let changing = change.get_stuck(&stage, &node).await;
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
    Change::Invalidate.fail(&stage, &node).await;
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
    Change::InvalidateTag.fail(&stage, &node).await;
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

/// 1. an invalidation of a tag fails here, and is to be retried; 2. a get asks L2, which has the old value; 3. a
///    clear fails, too, and takes the place of the tag; 4. the get has its answer.
#[tokio::test(start_paused = true)]
async fn an_answer_does_not_outrun_a_clear_that_takes_the_place_of_a_tag() {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let node = stage.node().await;
    other.insert("k", 1).tag("t").await.unwrap();
    Change::InvalidateTag.fail(&stage, &node).await;
    stage.answers_are_late();
    let (a, b) = (node.clone(), node.clone());
    let one = tokio::spawn(async move { a.get("k").await });
    let many = tokio::spawn(async move { b.get_many(["k"]).await });
    stage.an_answer_is_on_its_way().await;
    until("both ask", || stage.reads() >= 2).await;
    stage.changes_are_refused(true);
    Change::InvalidateAll.make(&node).await.unwrap_err();
    stage.answers_arrive();
    let many = many.await.unwrap().map(|mut found| found.remove(0));
    for found in [one.await.unwrap(), many] {
        assert!(!matches!(found, Ok(Some(_))), "invalidated here before the get began");
    }
}

/// 1. an invalidation fails here, and is to be retried; 2. a get of many asks L2, which has the old value;
/// 3. the retry lands: nothing is pending any more; 4. the get has its answer.
#[tokio::test(start_paused = true)]
async fn an_answer_for_many_does_not_outrun_the_retry_of_one() {
    let stage = Stage::on(&tier());
    let node = stage.node().await;
    node.insert_many([("k".to_owned(), 1), ("other".to_owned(), 1)]).await.unwrap();
    Change::Invalidate.fail(&stage, &node).await;
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
    let changing = Change::Invalidate.get_stuck(&stage, &node).await;
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1));
    stage.hold_events();
    source.let_go(1);
    assert_eq!(*refreshing.await.unwrap().unwrap(), 2);
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&2));
    changing.abort();
}
