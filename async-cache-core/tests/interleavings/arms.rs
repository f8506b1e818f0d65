//! What a lookup does next, whether its key is asked for alone or in a batch.

use std::collections::HashMap;

use async_cache_core::testing::{No, Source, ms, until};
use async_cache_core::{ErrorKind, OutagePolicy, Result};
use tokio::task::JoinHandle;

use super::{Change, tier};
use crate::stage::{Cache, Stage};

/// How the key is asked for.
#[derive(Clone, Copy, Debug)]
enum By {
    One,
    Many,
}

impl By {
    async fn ask(self, node: &Cache, source: &Source) -> Result<u64> {
        let source = source.clone();
        match self {
            Self::One => node.get_or_load("k", move || source.now()).await.map(|value| *value),
            Self::Many => {
                let load = move |_: Vec<String>| async move {
                    Ok::<_, No>(HashMap::from([("k".to_owned(), source.now().await?)]))
                };
                let found = node.get_many_or_load(["k"], load).await?;
                Ok(**found[0].as_ref().expect("the loader has it"))
            }
        }
    }

    fn spawn(self, node: &Cache, source: &Source) -> JoinHandle<Result<u64>> {
        let (node, source) = (node.clone(), source.clone());
        tokio::spawn(async move { self.ask(&node, &source).await })
    }
}

/// A source at version 1 for the other node, and one at version 2 for the node that asks.
fn sources() -> (Source, Source) {
    let (theirs, ours) = (Source::default(), Source::default());
    ours.write();
    assert_eq!((theirs.version(), ours.version()), (1, 2));
    (theirs, ours)
}

fn load_held(node: &Cache, source: &Source) -> JoinHandle<u64> {
    let (node, source) = (node.clone(), source.clone());
    tokio::spawn(async move { *node.get_or_load("k", move || source.held()).await.unwrap() })
}

async fn a_load_elsewhere_is_waited_for_and_brings_its_value(by: By) {
    for wakes in [true, false] {
        let tier = tier();
        let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
        let (node, (theirs, ours)) = (stage.node().await, sources());
        let loading = load_held(&other, &theirs);
        theirs.begun(1).await;
        if !wakes {
            stage.hold_events();
        }
        let asked = by.spawn(&node, &ours);
        until("it waits", || node.stats().lease_waits == 1).await;
        theirs.let_go(1);
        assert_eq!(asked.await.unwrap().unwrap(), loading.await.unwrap(), "{by:?}, woken: {wakes}");
        assert_eq!(ours.loads(), 0, "{by:?}, woken: {wakes}");
    }
}

async fn a_value_stored_before_the_lease_is_asked_for_answers(by: By) {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let (node, (_, ours)) = (stage.node().await, sources());
    stage.answers_are_late();
    let asked = by.spawn(&node, &ours);
    until("it reads", || stage.reads() >= 1).await;
    other.insert("k", 1).await.unwrap();
    stage.answers_arrive();
    assert_eq!(asked.await.unwrap().unwrap(), 1, "{by:?}");
    assert_eq!(ours.loads(), 0, "{by:?}");
}

/// Both nodes have seen the value, which has expired since.
async fn expired(stage: &Stage, other: &Stage, wait: u64) -> (Cache, Cache) {
    let options = |builder: async_cache_core::TieredCacheBuilder<String, u64>| {
        builder.ttl(ms(100)).stale_for(ms(60_000)).stale_on_error(true).wait_timeout(ms(wait))
    };
    let (node, other) = (stage.node_with(options).await, other.node_with(options).await);
    other.insert("k", 1).await.unwrap();
    for node in [&node, &other] {
        assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1));
    }
    tokio::time::sleep(ms(200)).await;
    (node, other)
}

async fn a_load_elsewhere_that_fails_or_lasts_leaves_the_fallback(by: By) {
    for fails in [true, false] {
        let tier = tier();
        let (stage, theirs_stage) = (Stage::on(&tier), Stage::on(&tier));
        let (node, other) = expired(&stage, &theirs_stage, if fails { 10_000 } else { 50 }).await;
        let (theirs, ours) = sources();
        let (there, source) = (other.clone(), theirs.clone());
        let loading = tokio::spawn(async move {
            match fails {
                true => there.get_or_load("k", move || source.failing()).await,
                false => there.get_or_load("k", move || source.held()).await,
            }
        });
        theirs.begun(1).await;
        assert_eq!(by.ask(&node, &ours).await.unwrap(), 1, "{by:?}, fails: {fails}");
        assert_eq!(ours.loads(), 0, "{by:?}, fails: {fails}");
        theirs.let_go(1);
        loading.await.unwrap().unwrap();
    }
}

async fn a_load_elsewhere_that_lasts_too_long_is_not_waited_for(by: By) {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let node = stage.node_with(|builder| builder.wait_timeout(ms(50))).await;
    let (theirs, ours) = sources();
    let loading = load_held(&other, &theirs);
    theirs.begun(1).await;
    assert_eq!(by.ask(&node, &ours).await.unwrap(), 2, "{by:?}");
    assert_eq!(node.get("k").await.unwrap(), None, "{by:?}: it is stored nowhere");
    theirs.let_go(1);
    loading.await.unwrap();
}

async fn without_room_in_l2_a_value_is_loaded_and_kept_here(by: By) {
    let stage = Stage::on(&tier());
    let (node, (_, ours)) = (stage.node().await, sources());
    stage.is_full();
    for _ in 0..2 {
        assert_eq!(by.ask(&node, &ours).await.unwrap(), 2, "{by:?}");
    }
    assert_eq!(ours.loads(), 1, "{by:?}");
}

/// L2 fails when it is read, or only when the lease is asked for.
async fn without_l2_the_policy_says_whether_to_load(by: By) {
    for policy in [OutagePolicy::Load, OutagePolicy::Fail] {
        for reads in [false, true] {
            let stage = Stage::on(&tier());
            let node = stage.node_with(|builder| builder.outage(policy)).await;
            let (_, ours) = sources();
            match reads {
                false => stage.reads_fail(),
                true => stage.answers_are_late(),
            }
            let asked = by.spawn(&node, &ours);
            if reads {
                until("it reads", || stage.reads() >= 1).await;
                stage.reads_fail();
                stage.answers_arrive();
            }
            let found = asked.await.unwrap().map_err(|error| error.kind());
            let wanted = match policy {
                OutagePolicy::Fail => (Err(ErrorKind::Backend), 0),
                _ => (Ok(2), 1),
            };
            assert_eq!((found, ours.loads()), wanted, "{by:?}, {policy:?}, read: {reads}");
        }
    }
}

async fn without_l2_an_entry_that_it_would_have_to_confirm_answers(by: By) {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let (node, (_, ours)) = (stage.node().await, sources());
    other.insert("k", 1).await.unwrap();
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1));
    stage.hold_events();
    tokio::time::sleep(ms(1_001)).await;
    assert_eq!(by.ask(&node, &ours).await.unwrap(), 1, "{by:?}: L2 confirms it");
    let before = node.stats().stale_served;
    stage.reads_fail();
    assert_eq!(by.ask(&node, &ours).await.unwrap(), 1, "{by:?}: nobody can confirm it");
    assert_eq!((ours.loads(), node.stats().stale_served), (0, before + 1), "{by:?}");
}

/// 1. a caller leads, and its read is under way; 2. the key asked for again joins it; 3. a value is inserted here; 4. the
///    first caller goes away, and the other one leads.
async fn a_caller_that_leads_late_finds_what_has_come_to_l1(by: By) {
    let stage = Stage::on(&tier());
    let (node, (_, ours)) = (stage.node().await, sources());
    stage.answers_are_late();
    let first = By::One.spawn(&node, &ours);
    until("it reads", || stage.reads() >= 1).await;
    let second = by.spawn(&node, &ours);
    tokio::time::sleep(ms(1)).await;
    node.insert("k", 1).await.unwrap();
    first.abort();
    until("it ends, or reads", || second.is_finished() || stage.reads() > 1).await;
    stage.answers_arrive();
    assert_eq!(second.await.unwrap().unwrap(), 1, "{by:?}");
    assert_eq!((ours.loads(), stage.reads()), (0, 1), "{by:?}");
}

async fn a_value_of_l2_answers_without_a_lease(by: By) {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let (node, (_, ours)) = (stage.node().await, sources());
    other.insert("k", 1).await.unwrap();
    assert_eq!(by.ask(&node, &ours).await.unwrap(), 1, "{by:?}");
    assert_eq!((ours.loads(), stage.asks()), (0, 0), "{by:?}");
}

async fn an_expired_value_of_l2_is_refused_by_its_token(by: By) {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let (node, (_, ours)) = (stage.node().await, sources());
    other.insert("k", 1).ttl(ms(100)).stale_for(ms(60_000)).await.unwrap();
    tokio::time::sleep(ms(200)).await;
    assert_eq!(by.ask(&node, &ours).await.unwrap(), 2, "{by:?}");
    assert_eq!(stage.asks(), 1, "{by:?}: the value that was read is not sent again");
}

/// A node without an L1 that has failed to refresh a value, which other nodes have.
async fn failed_refresh(stage: &Stage, other: &Cache, stale_for: u64) -> Cache {
    let node = stage.bare_node_with(|builder| builder.stale_on_error(true).error_backoff(ms(60_000)));
    other.insert("k", 1).ttl(ms(100)).stale_for(ms(stale_for)).await.unwrap();
    tokio::time::sleep(ms(200)).await;
    let failing = Source::default();
    assert_eq!(*node.get_or_load("k", move || failing.failing()).await.unwrap(), 1);
    node
}

async fn an_expired_value_of_l2_answers_while_its_refresh_backs_off(by: By) {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let (node, (_, ours)) = (failed_refresh(&stage, &other, 60_000).await, sources());
    assert_eq!(by.ask(&node, &ours).await.unwrap(), 1, "{by:?}");
    assert_eq!(ours.loads(), 0, "{by:?}");
}

/// 1. the key is read, and L2 has nothing; 2. another node stores a value, which expires at once; 3. the lease is asked
///    for.
async fn expires_unread(by: By, stage: &Stage, other: &Cache, node: &Cache) -> (Result<u64>, usize) {
    let (_, ours) = sources();
    stage.answers_are_late();
    let asked = by.spawn(node, &ours);
    stage.an_answer_is_on_its_way().await;
    other.insert("k", 1).ttl(ms(1)).stale_for(ms(60_000)).await.unwrap();
    tokio::time::sleep(ms(5)).await;
    stage.answers_arrive();
    (asked.await.unwrap(), ours.loads())
}

async fn a_value_that_expires_before_the_lease_is_asked_for_is_replaced(by: By) {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let node = stage.node().await;
    let (found, loads) = expires_unread(by, &stage, &other, &node).await;
    assert_eq!((found.unwrap(), loads), (2, 1), "{by:?}");
    assert_eq!(other.get("k").await.unwrap().as_deref(), Some(&2), "{by:?}: under a lease, for the fleet");
}

async fn a_value_that_expires_before_the_lease_is_asked_for_answers_while_its_refresh_backs_off(by: By) {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let node = failed_refresh(&stage, &other, 1_000).await;
    tokio::time::sleep(ms(2_000)).await;
    let (found, loads) = expires_unread(by, &stage, &other, &node).await;
    assert_eq!((found.unwrap(), loads), (1, 0), "{by:?}");
}

/// 1. another node loads, and this one waits; 2. an invalidation that is made here fails, and will be retried; 3. this
///    node would ask again.
async fn l2_is_not_asked_again_while_an_invalidation_is_pending(by: By) {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let (node, (theirs, ours)) = (stage.node().await, sources());
    let loading = load_held(&other, &theirs);
    theirs.begun(1).await;
    let asked = by.spawn(&node, &ours);
    until("it waits", || node.stats().lease_waits == 1).await;
    Change::Invalidate.fail(&stage, &node).await;
    assert_eq!(asked.await.unwrap().unwrap(), 2, "{by:?}");
    assert_eq!((ours.loads(), theirs.loads()), (1, 1), "{by:?}");
    theirs.let_go(1);
    assert_eq!(loading.await.unwrap(), 1, "{by:?}");
}

async fn an_entry_that_nothing_verifies_is_read_before_an_earlier_error_answers(by: By) {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let node = stage.node_with(|builder| builder.error_ttl(ms(60_000)).stale_on_error(false)).await;
    let (_, ours) = sources();
    other.insert("k", 1).await.unwrap();
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1));
    let failing = Source::default();
    let refreshed = node.refresh("k", move || failing.failing()).await;
    assert_eq!(refreshed.unwrap_err().kind(), ErrorKind::Loader);
    stage.hold_events();
    tokio::time::sleep(ms(1_001)).await;
    assert_eq!(by.ask(&node, &ours).await.unwrap(), 1, "{by:?}");
    assert_eq!((ours.loads(), stage.asks()), (0, 1), "{by:?}: only the load that failed had a lease");
}

async fn an_earlier_error_answers_in_place_of_a_load(by: By) {
    let stage = Stage::on(&tier());
    let node = stage.node_with(|builder| builder.error_ttl(ms(60_000))).await;
    let (_, ours) = sources();
    let failing = Source::default();
    node.get_or_load("k", move || failing.failing()).await.unwrap_err();
    let found = by.ask(&node, &ours).await.map_err(|error| error.kind());
    assert_eq!((found, ours.loads()), (Err(ErrorKind::Loader), 0), "{by:?}");
}

macro_rules! both {
    ($($test:ident,)*) => {
        mod one {
            $(#[tokio::test(start_paused = true)]
            async fn $test() {
                super::$test(super::By::One).await;
            })*
        }
        mod many {
            $(#[tokio::test(start_paused = true)]
            async fn $test() {
                super::$test(super::By::Many).await;
            })*
        }
    };
}

both! {
    a_load_elsewhere_is_waited_for_and_brings_its_value,
    a_value_stored_before_the_lease_is_asked_for_answers,
    a_load_elsewhere_that_fails_or_lasts_leaves_the_fallback,
    a_load_elsewhere_that_lasts_too_long_is_not_waited_for,
    without_room_in_l2_a_value_is_loaded_and_kept_here,
    without_l2_the_policy_says_whether_to_load,
    without_l2_an_entry_that_it_would_have_to_confirm_answers,
    a_caller_that_leads_late_finds_what_has_come_to_l1,
    a_value_of_l2_answers_without_a_lease,
    an_expired_value_of_l2_is_refused_by_its_token,
    an_expired_value_of_l2_answers_while_its_refresh_backs_off,
    a_value_that_expires_before_the_lease_is_asked_for_is_replaced,
    a_value_that_expires_before_the_lease_is_asked_for_answers_while_its_refresh_backs_off,
    l2_is_not_asked_again_while_an_invalidation_is_pending,
    an_entry_that_nothing_verifies_is_read_before_an_earlier_error_answers,
    an_earlier_error_answers_in_place_of_a_load,
}
