//! Stale values in a fleet: one refresh for all nodes, and never a value that another node has invalidated.

use std::time::Duration;

use async_cache::testing::{No, Source, ms, until};
use async_cache::{ErrorKind, Event, EventStream, OutagePolicy};
use futures_util::StreamExt;
use integration_tests::Data;
use integration_tests::fleet::{Cache, Fleet};
use integration_tests::on_both_tiers;

/// A node with a row that was loaded and has expired.
async fn expired(fleet: &Fleet, source: &Source, outage: OutagePolicy) -> Cache {
    let node = brief(fleet, outage).await;
    let load = source.clone();
    assert_eq!(*node.get_or_load("k", move || load.now()).await.unwrap(), 1);
    let has_expired = async || node.get("k").await.unwrap().is_none();
    while !has_expired().await {
        tokio::time::sleep(ms(10)).await;
    }
    node
}

async fn brief(fleet: &Fleet, outage: OutagePolicy) -> Cache {
    fleet.node_with(|builder| builder.outage(outage).ttl(ms(300)).stale_for(Duration::from_secs(60))).await
}

async fn one_refresh_and_nobody_waits(fleet: Fleet) {
    let source = Source::new();
    let nodes = [
        expired(&fleet, &source, OutagePolicy::ServeL1).await,
        brief(&fleet, OutagePolicy::ServeL1).await,
        brief(&fleet, OutagePolicy::ServeL1).await,
    ];
    source.write();
    for node in nodes.iter().chain(&nodes) {
        let load = source.clone();
        let answer = node.get_or_load("k", move || load.held()).stale_while_revalidate(true);
        assert_eq!(*answer.await.unwrap(), 1, "while the refresh is held");
    }
    source.begun(2).await;
    source.let_go(1);
    for node in &nodes {
        until("the refresh has reached this node", || node.is_idle()).await;
    }
    let unused = source.clone();
    assert_eq!(*nodes[1].get_or_load("k", move || unused.now()).await.unwrap(), 2);
    assert_eq!(source.loads(), 2, "one refresh in the fleet");
}

async fn what_another_node_invalidates_is_no_fallback(fleet: Fleet) {
    let source = Source::new();
    let node = expired(&fleet, &source, OutagePolicy::ServeL1).await;
    let other = brief(&fleet, OutagePolicy::ServeL1).await;
    let call = tokio::spawn({
        let (node, source) = (node.clone(), source.clone());
        async move {
            node.get_or_load("k", move || async move { source.held().await.and(Err::<u64, _>(No(0))) }).await
        }
    });
    source.begun(2).await;
    let heard = node.stats().invalidations_received;
    other.invalidate("k").await.unwrap();
    until("it is heard", || node.stats().invalidations_received > heard).await;
    source.let_go(1);
    assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Loader);
    until("the lease is given back", || node.is_idle()).await;
}

async fn one_failure_is_enough(fleet: Fleet) {
    let source = Source::new();
    let node = expired(&fleet, &source, OutagePolicy::ServeL1).await;
    let other = brief(&fleet, OutagePolicy::ServeL1).await;
    let first = tokio::spawn({
        let (node, source) = (node.clone(), source.clone());
        async move {
            node.get_or_load("k", move || async move { source.held().await.and(Err::<u64, _>(No(0))) }).await
        }
    });
    source.begun(2).await;
    let unused = source.clone();
    let second = tokio::spawn({
        let other = other.clone();
        async move { other.get_or_load("k", move || unused.now()).await }
    });
    until("the other node waits", || other.stats().lease_waits == 1).await;
    source.let_go(1);
    assert_eq!(*first.await.unwrap().unwrap(), 1);
    assert_eq!(*second.await.unwrap().unwrap(), 1);
    assert_eq!(source.loads(), 2);
}

on_both_tiers!(
    one_refresh_and_nobody_waits,
    what_another_node_invalidates_is_no_fallback,
    one_failure_is_enough
);

async fn heard(events: &mut EventStream, what: &str, want: impl Fn(&Event) -> bool) {
    let found = async { while !want(&events.next().await.expect("the cache lives")) {} };
    tokio::time::timeout(Duration::from_secs(20), found).await.unwrap_or_else(|_| panic!("not told: {what}"));
}

/// The server and the source are both away. An entry of L1 answers if the policy allows it, and never if it was
/// invalidated on this node meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn when_everything_fails() {
    let (fleet, source) = (Fleet::redis(), Source::new());
    let node = expired(&fleet, &source, OutagePolicy::ServeL1).await;
    let strict = expired(&fleet, &source, OutagePolicy::Load).await;
    let mut events = node.subscribe();
    fleet.server().kill();
    heard(&mut events, "L1 suspended", |event| matches!(event, Event::L1Suspended { .. })).await;
    heard(&mut events, "L2 lost", |event| *event == Event::L2Lost).await;
    until("neither serves", || !node.is_serving() && !strict.is_serving()).await;

    let load = source.clone();
    assert_eq!(*node.get_or_load("k", move || load.failing()).await.unwrap(), 1);
    let load = source.clone();
    let error = strict.get_or_load("k", move || load.failing()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader, "nothing unverified is served");

    assert_eq!(node.invalidate("k").await.unwrap_err().kind(), ErrorKind::Backend);
    heard(&mut events, "pending", |event| matches!(event, Event::InvalidationPending { pending: 1 })).await;
    let load = source.clone();
    let error = node.get_or_load("k", move || load.failing()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader, "it was invalidated here");

    fleet.server().restart(Data::Drop);
    heard(&mut events, "landed", |event| matches!(event, Event::InvalidationLanded { pending: 0 })).await;
    until("both serve again", || node.is_serving() && strict.is_serving()).await;
}

/// A clear that could not be sent still voids the entries of this node.
#[tokio::test(flavor = "multi_thread")]
async fn a_clear_in_an_outage_is_obeyed_here() {
    let (fleet, source) = (Fleet::redis(), Source::new());
    let node = fleet.node_with(|builder| builder.stale_for(Duration::from_secs(60))).await;
    let load = source.clone();
    assert_eq!(*node.get_or_load("k", move || load.now()).await.unwrap(), 1);
    fleet.server().kill();
    until("it does not serve", || !node.is_serving()).await;
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1), "unverified, by the policy");
    assert!(node.invalidate_all().await.is_err());
    assert!(!matches!(node.get("k").await, Ok(Some(_))));
    let error = node.get_or_load("k", move || source.failing()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
}
