//! Invalidations of tags that the node knows of.

use std::time::Duration;

use async_cache_core::testing::{Mutant, ms, until};
use async_cache_core::{EventStream, Evidence, TieredCacheBuilder, Verify};
use tokio::time::{Instant, sleep, sleep_until};

use super::{BOUND, reports};
use crate::stage::{Cache, Stage};
use crate::tier;

/// 1. A node has two values; 2. a tag of one is invalidated, on this node or on another one; 3. a node that does not look
///    up the tags of a hit answers with it, until L1 frees the entry 240 ms later.
async fn ignores_a_tag(here: bool, bound: Duration) -> (Cache, Cache, EventStream) {
    let (stage, begun) = (Stage::on(&tier()), Instant::now());
    let options = |builder: TieredCacheBuilder<String, u64>| {
        let builder = builder.max_staleness(bound).verify(Verify::sample(1.0));
        builder.mutant(Mutant::HitsIgnoreTags)
    };
    let (node, other) = (stage.node_with(options).await, stage.beside().node().await);
    let events = node.subscribe();
    other.insert("k", 1).tag("t").await.unwrap();
    other.insert("l", 1).tag("u").await.unwrap();
    until("it has heard of both", || node.stats().invalidations_received == 2).await;
    node.get("k").await.unwrap();
    node.get("l").await.unwrap();
    sleep_until(begun + ms(510)).await;
    if here { &node } else { &other }.invalidate_tag("t").await.unwrap();
    until("it has heard of that, too", || node.stats().invalidations_received == 3).await;
    sleep(ms(60)).await;
    (node, other, events)
}

/// Reads both values. The verifier has looked at them before this returns, and not looked again.
async fn answers_with_both(node: &Cache) {
    for key in ["k", "l"] {
        assert_eq!(node.get(key).await.unwrap().as_deref(), Some(&1), "the node has the fault");
    }
    sleep(ms(50)).await;
}

/// It is reported at once: the value may be replaced before a second look.
#[tokio::test(start_paused = true)]
async fn a_tag_that_this_node_had_invalidated() {
    let (node, _other, mut events) = ignores_a_tag(true, BOUND).await;
    answers_with_both(&node).await;
    let reports = reports(&mut events);
    let [(Evidence::ChangeReturned, knew)] = reports[..] else { panic!("{reports:?}") };
    assert!(knew.reflects < knew.applied, "{knew:?}");
}

/// Another node's change counts after the bound, and then at once.
#[tokio::test(start_paused = true)]
async fn a_tag_of_which_the_node_had_heard() {
    let (node, _other, mut events) = ignores_a_tag(false, ms(50)).await;
    answers_with_both(&node).await;
    let told = reports(&mut events);
    let [(Evidence::ChangeReceived, knew)] = told[..] else { panic!("{told:?}") };
    assert!(knew.reflects < knew.applied, "{knew:?}");

    let (node, _other, mut events) = ignores_a_tag(false, BOUND).await;
    answers_with_both(&node).await;
    assert_eq!(reports(&mut events), [], "it may be late");
}
