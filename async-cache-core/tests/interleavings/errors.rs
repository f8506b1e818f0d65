//! Errors that a node remembers, while it knows less than others.

use std::time::Duration;

use async_cache_core::testing::{No, Source, ms, until};

use crate::stage::{Cache, Stage};
use crate::tier;

const MINUTE: Duration = Duration::from_secs(60);

async fn fail(node: &Cache, source: &Source) -> Option<usize> {
    let load = source.clone();
    let failed = node.get_or_load("k", move || load.failing()).error_ttl(MINUTE).await;
    failed.err().and_then(|error| error.loader_error::<No>().map(|no| no.0))
}

/// 1. a load fails; 2. the key is invalidated elsewhere, which this node has not heard of yet; 3. a get here insists on
///    the stamp of that.
#[tokio::test(start_paused = true)]
async fn an_error_from_before_the_stamp_does_not_answer() {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let (node, source) = (stage.node().await, Source::new());
    stage.hold_events();
    assert_eq!(fail(&node, &source).await, Some(1));
    let stamp = other.invalidate("k").await.unwrap();
    assert_eq!(fail(&node, &source).await, Some(1), "it has not heard of it");
    let load = source.clone();
    let found = node.get_or_load("k", move || load.now()).error_ttl(MINUTE).at_least(&stamp).await;
    assert_eq!(*found.unwrap(), 1);
}

/// 1. the key is invalidated elsewhere; 2. a load fails, which reflects that; 3. this node hears of the invalidation.
#[tokio::test(start_paused = true)]
async fn an_error_that_reflects_a_change_outlives_its_message() {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let (node, source) = (stage.node().await, Source::new());
    let heard = node.stats().invalidations_received;
    stage.hold_events();
    other.invalidate("k").await.unwrap();
    assert_eq!(fail(&node, &source).await, Some(1));
    stage.let_events_go();
    until("it has heard of it", || node.stats().invalidations_received > heard).await;
    assert_eq!(fail(&node, &source).await, Some(1), "nothing has changed since");
}

/// 1. a get that remembers an error asks L2 for the value; 2. a get without the option comes.
#[tokio::test(start_paused = true)]
async fn a_caller_without_the_option_does_not_join_what_ends_with_an_error() {
    let stage = Stage::on(&tier());
    let (node, source) = (stage.node().await, Source::new());
    assert_eq!(fail(&node, &source).await, Some(1));
    stage.hold_events();
    tokio::time::sleep(ms(1_001)).await;
    assert!(!node.is_serving(), "L2 judges what is read from it");
    stage.answers_are_late();
    let remembering = tokio::spawn({
        let (node, source) = (node.clone(), source.clone());
        async move { fail(&node, &source).await }
    });
    stage.an_answer_is_on_its_way().await;
    let loading = tokio::spawn({
        let (node, source) = (node.clone(), source.clone());
        async move { node.get_or_load("k", move || source.now()).await }
    });
    tokio::time::sleep(ms(10)).await;
    stage.answers_arrive();
    assert_eq!(remembering.await.unwrap(), Some(1));
    assert_eq!(*loading.await.unwrap().unwrap(), 1);
    assert_eq!(source.loads(), 2);
    until("nothing is left", || node.is_idle()).await;
}
