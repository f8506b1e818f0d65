//! A change during a load. The load has read the old row, and is held there. The change ends, and then the load
//! ends.

use async_cache::Stamp;
use async_cache::testing::{Source, until};
use integration_tests::fleet::{Cache, Fleet};
use integration_tests::{eventually_is, on_both_tiers};

#[derive(Clone, Copy)]
enum Change {
    Invalidate,
    Insert,
    InvalidateAll,
}

impl Change {
    async fn make(self, node: &Cache, source: &Source) -> Stamp {
        match self {
            Self::Invalidate => node.invalidate("k").await.unwrap(),
            Self::Insert => node.insert("k", source.version()).await.unwrap(),
            Self::InvalidateAll => node.invalidate_all().await.unwrap(),
        }
    }
}

/// Whether the loading node and the changing node are the same.
#[derive(Clone, Copy)]
enum From {
    SameNode,
    OtherNode,
}

async fn meets(fleet: Fleet, change: Change, from: From) {
    let (loading, other) = (fleet.node().await, fleet.node().await);
    let changing = match from {
        From::SameNode => &loading,
        From::OtherNode => &other,
    };
    let source = Source::new();

    let old = tokio::spawn({
        let (cache, source) = (loading.clone(), source.clone());
        async move { cache.get_or_load("k", move || source.held()).await }
    });
    source.begun(1).await;
    let heard = loading.stats().invalidations_received;
    assert_eq!(source.write(), 2);
    let stamp = change.make(changing, &source).await;

    // With the stamp, at once on every node. Without it, when the node has received the message.
    for node in [&loading, &other] {
        let load = source.clone();
        let value = node.get_or_load("k", move || load.now()).at_least(&stamp).await.unwrap();
        assert_eq!(*value, 2, "a get at least at the change");
    }
    until("the change is heard", || loading.stats().invalidations_received > heard).await;
    let load = source.clone();
    assert_eq!(*loading.get_or_load("k", move || load.now()).await.unwrap(), 2);

    source.let_go(1);
    assert_eq!(*old.await.unwrap().unwrap(), 1, "those who asked before the change may have the old row");

    for node in [&loading, &other, &fleet.node().await] {
        assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&2), "the old row must not be stored");
    }
    for node in [&loading, &other] {
        until("nothing is left behind", || node.is_idle()).await;
    }
    assert!(source.loads() <= 3, "{} loads", source.loads());
}

async fn invalidate_on_the_same_node(fleet: Fleet) {
    meets(fleet, Change::Invalidate, From::SameNode).await;
}

async fn invalidate_on_another_node(fleet: Fleet) {
    meets(fleet, Change::Invalidate, From::OtherNode).await;
}

async fn insert_on_the_same_node(fleet: Fleet) {
    meets(fleet, Change::Insert, From::SameNode).await;
}

async fn insert_on_another_node(fleet: Fleet) {
    meets(fleet, Change::Insert, From::OtherNode).await;
}

async fn clear_on_the_same_node(fleet: Fleet) {
    meets(fleet, Change::InvalidateAll, From::SameNode).await;
}

async fn clear_on_another_node(fleet: Fleet) {
    meets(fleet, Change::InvalidateAll, From::OtherNode).await;
}

/// A refresh during a load does not join it. Its value stays, on every node.
async fn refresh_during_a_load(fleet: Fleet) {
    let (one, two) = (fleet.node().await, fleet.node().await);
    let source = Source::new();
    let old = tokio::spawn({
        let (cache, source) = (one.clone(), source.clone());
        async move { cache.get_or_load("k", move || source.held()).await }
    });
    source.begun(1).await;
    source.write();
    let fresh = tokio::spawn({
        let (cache, source) = (one.clone(), source.clone());
        async move { cache.refresh("k", move || source.now()).await }
    });
    until("the refresh waits for the lease", || one.stats().lease_waits == 1).await;
    source.let_go(1);
    assert_eq!(*old.await.unwrap().unwrap(), 1);
    assert_eq!(*fresh.await.unwrap().unwrap(), 2);
    for node in [&one, &two, &fleet.node().await] {
        assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&2));
    }
}

/// A refresh replaces the entries of other nodes in L1. A refresh that fails changes nothing.
async fn refresh_reaches_every_node(fleet: Fleet) {
    let (one, two) = (fleet.node().await, fleet.node().await);
    let source = Source::new();
    one.insert("k", 1).await.unwrap();
    assert_eq!(two.get("k").await.unwrap().as_deref(), Some(&1));
    let load = source.clone();
    assert!(one.refresh("k", move || load.failing()).await.is_err());
    assert_eq!(one.get("k").await.unwrap().as_deref(), Some(&1), "a failed refresh loses nothing");
    assert_eq!(two.get("k").await.unwrap().as_deref(), Some(&1));

    source.write();
    let load = source.clone();
    assert_eq!(*one.refresh("k", move || load.now()).await.unwrap(), 2);
    assert_eq!(one.get("k").await.unwrap().as_deref(), Some(&2));
    eventually_is("the other node has heard", async || two.get("k").await.unwrap().as_deref() == Some(&2))
        .await;
}

/// A key is invalidated faster than it loads. Every caller gets an answer, with fewer loads than invalidations.
async fn a_hot_key_does_not_livelock(fleet: Fleet) {
    let nodes = [fleet.node().await, fleet.node().await];
    let source = Source::new();
    let stop = tokio_util::sync::CancellationToken::new();
    let hammer = tokio::spawn({
        let (node, source, stop) = (nodes[1].clone(), source.clone(), stop.clone());
        async move {
            let mut changes = 0;
            while !stop.is_cancelled() {
                source.write();
                node.invalidate("k").await.unwrap();
                changes += 1;
                tokio::task::yield_now().await;
            }
            changes
        }
    });
    let asking = nodes.iter().flat_map(|node| std::iter::repeat_n(node, 50)).map(|node| {
        let source = source.clone();
        node.get_or_load("k", move || source.slow(std::time::Duration::from_millis(50)))
    });
    let outcomes =
        tokio::time::timeout(std::time::Duration::from_secs(5), futures_util::future::join_all(asking));
    for outcome in outcomes.await.expect("every caller is answered while the key is hammered") {
        assert!(*outcome.unwrap() >= 1);
    }
    stop.cancel();
    let changes: usize = hammer.await.unwrap();
    assert!(changes > 20, "the key was not hot: {changes}");
    assert!(source.loads() < 40, "{} loads for {changes} changes", source.loads());
}

on_both_tiers! {
    invalidate_on_the_same_node,
    invalidate_on_another_node,
    insert_on_the_same_node,
    insert_on_another_node,
    clear_on_the_same_node,
    clear_on_another_node,
    refresh_during_a_load,
    refresh_reaches_every_node,
    a_hot_key_does_not_livelock,
}
