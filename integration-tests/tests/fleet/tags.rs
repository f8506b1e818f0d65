//! Tags in a fleet: on every node, during loads and refreshes, and in both tiers.

use std::time::Duration;

use async_cache::testing::{No, Source, ms, until};
use async_cache::{Loaded, Stamp};
use integration_tests::fleet::{Cache, Fleet};
use integration_tests::on_both_tiers;

async fn value(node: &Cache, key: &str) -> Option<u64> {
    node.get(key).await.unwrap().as_deref().copied()
}

/// A tagged entry is removed on every node: on this node at once, on other nodes at once with the stamp, and
/// otherwise when the message has arrived. Entries with another tag stay in L1.
async fn a_tag_reaches_every_node(fleet: Fleet) {
    let nodes = [fleet.node().await, fleet.node().await];
    let (one, two) = (&nodes[0], &nodes[1]);
    one.insert("a", 1).tags(["t", "x"]).await.unwrap();
    one.insert("b", 2).tag("t").await.unwrap();
    one.insert("c", 3).tag("u").await.unwrap();
    one.insert("d", 4).await.unwrap();
    for node in &nodes {
        for key in ["a", "b", "c", "d"] {
            assert!(value(node, key).await.is_some());
        }
    }
    until("both have heard the inserts", || nodes.iter().all(|n| n.stats().invalidations_received == 4))
        .await;
    let stamp = one.invalidate_tag("t").await.unwrap();
    let carried: Stamp = stamp.to_string().parse().unwrap();
    assert_eq!(value(one, "a").await, None, "read your writes");
    assert_eq!(two.get("b").at_least(&carried).await.unwrap(), None, "with the stamp");
    assert_eq!(two.get_many(["a", "c"]).at_least(&carried).await.unwrap().iter().flatten().count(), 1);
    until("the other has heard", || two.stats().invalidations_received == 5).await;
    for node in &nodes {
        let before = node.stats();
        assert_eq!((value(node, "a").await, value(node, "b").await), (None, None));
        assert_eq!((value(node, "c").await, value(node, "d").await), (Some(3), Some(4)));
        assert_eq!(node.stats().l1_hits, before.l1_hits + 2, "the others stay in L1");
    }
    assert_eq!(value(&fleet.node().await, "a").await, None, "a node that comes later");
    one.insert("a", 5).tag("t").await.unwrap();
    assert_eq!(value(one, "a").await, Some(5));
    assert_eq!(value(&fleet.node().await, "a").await, Some(5), "what comes later is not void");
}

#[derive(Clone, Copy)]
enum From {
    SameNode,
    OtherNode,
}

/// 1. A load reads version 1, and is held.
/// 2. Version 2 is committed, and the tag is invalidated. Only the loader will name the tag.
/// 3. Lookups run on both nodes.
/// 4. The load ends.
async fn meets(fleet: Fleet, from: From) {
    let (loading, other) = (fleet.node().await, fleet.node().await);
    let changing = match from {
        From::SameNode => &loading,
        From::OtherNode => &other,
    };
    let source = Source::new();
    let ask = |node: &Cache, held: bool| {
        let (node, source) = (node.clone(), source.clone());
        let load = move || async move {
            let version = if held { source.held().await? } else { source.now().await? };
            Ok::<_, No>(Loaded::new(version).tag("t"))
        };
        async move { *node.get_or_load("k", load).await.unwrap() }
    };
    let old = tokio::spawn(ask(&loading, true));
    source.begun(1).await;
    let heard = loading.stats().invalidations_received;
    source.write();
    changing.invalidate_tag("t").await.unwrap();
    until("the change is heard", || loading.stats().invalidations_received > heard).await;
    let after: Vec<_> =
        [&loading, &other, &loading, &other].map(|node| tokio::spawn(ask(node, false))).into();
    until("the other node waits for the lease", || other.stats().lease_waits > 0).await;
    source.let_go(1);
    assert_eq!(old.await.unwrap(), 1, "who asked before the change may have the old row");
    for after in after {
        assert_eq!(after.await.unwrap(), 2, "who asked after it may not");
    }
    for node in [&loading, &other, &fleet.node().await] {
        assert_eq!(value(node, "k").await, Some(2), "the old row is stored nowhere");
    }
    assert_eq!(source.loads(), 2);
    for node in [&loading, &other] {
        until("nothing is left behind", || node.is_idle()).await;
    }
}

async fn a_load_meets_a_tag_of_the_same_node(fleet: Fleet) {
    meets(fleet, From::SameNode).await;
}

async fn a_load_meets_a_tag_of_another_node(fleet: Fleet) {
    meets(fleet, From::OtherNode).await;
}

/// A tag is invalidated during a background refresh. The value that the refresh read before is not stored,
/// neither as a value nor as a fallback.
async fn a_refresh_meets_a_tag(fleet: Fleet) {
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let long = Duration::from_secs(60);
        let node = fleet.node_with(|b| b.ttl(ms(150)).stale_for(long).stale_while_revalidate(true));
        nodes.push(node.await);
    }
    let (one, two) = (&nodes[0], &nodes[1]);
    let source = Source::new();
    one.insert("k", 1).tag("t").await.unwrap();
    assert_eq!(value(two, "k").await, Some(1));
    tokio::time::sleep(ms(200)).await;
    let load = source.clone();
    let stale = one.get_or_load("k", move || load.held()).tag("t").ttl(Duration::from_secs(60));
    assert_eq!(*stale.await.unwrap(), 1, "stale, at once");
    source.begun(1).await;
    source.write();
    two.invalidate_tag("t").await.unwrap();
    until("the change is heard", || one.stats().invalidations_received >= 2).await;
    source.let_go(1);
    until("the refresh has ended", || one.is_idle()).await;
    for node in &nodes {
        assert_eq!(value(node, "k").await, None, "neither the stale value nor the refreshed one");
        let failing = || async { Err::<u64, _>(No(1)) };
        assert!(node.get_or_load("k", failing).await.is_err(), "nor is either a fallback");
    }
    for node in &nodes {
        let load = source.clone();
        let fresh = node.get_or_load("k", move || load.now()).tag("t").ttl(Duration::from_secs(60));
        assert_eq!(*fresh.await.unwrap(), 2);
    }
}

/// After a clear, a loader fails. The cleared value does not come back.
async fn a_clear_and_a_failing_loader(fleet: Fleet) {
    let long = Duration::from_secs(60);
    let one = fleet.node_with(|b| b.ttl(ms(100)).stale_for(long)).await;
    let two = fleet.node_with(|b| b.ttl(ms(100)).stale_for(long)).await;
    one.insert("k", 1).tag("t").await.unwrap();
    assert_eq!(value(&two, "k").await, Some(1));
    tokio::time::sleep(ms(150)).await;
    let failing = || async { Err::<u64, _>(No(1)) };
    assert_eq!(*two.get_or_load("k", failing).await.unwrap(), 1, "a fallback, so far");
    let stamp = one.invalidate_all().await.unwrap();
    for node in [&one, &two] {
        assert!(node.get_or_load("k", failing).at_least(&stamp).await.is_err());
    }
    until("the change is heard", || two.stats().invalidations_received >= 2).await;
    for node in [&one, &two] {
        assert!(node.get_or_load("k", failing).await.is_err());
        assert_eq!(value(node, "k").await, None);
    }
}

/// One tag of thousands of entries: all are removed in one round trip.
async fn many_entries_one_tag(fleet: Fleet) {
    const ENTRIES: u64 = 20_000;
    let (one, two) = (fleet.patient_node().await, fleet.patient_node().await);
    let keys: Vec<String> = (0..ENTRIES).map(|n| format!("k{n}")).collect();
    for part in keys.chunks(5000) {
        one.insert_many(part.iter().map(|key| (key.clone(), 1))).tag("all").await.unwrap();
    }
    one.insert("other", 1).tag("another").await.unwrap();
    let found = async |node: &Cache| {
        let keys = keys.iter().map(String::as_str);
        node.get_many(keys).await.unwrap().iter().flatten().count() as u64
    };
    assert_eq!((found(&one).await, found(&two).await), (ENTRIES, ENTRIES));
    let calls = || match &fleet {
        Fleet::Redis(server) => {
            let stats: String = server.cli(&["INFO", "commandstats"]);
            let calls = |name: &str| {
                let line =
                    stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")))?;
                line.split(',').next()?.parse::<u64>().ok()
            };
            calls("hset").unwrap_or(0)
        }
        Fleet::Memory(_) => 0,
    };
    let before = calls();
    let stamp = one.invalidate_tag("all").await.unwrap();
    if matches!(fleet, Fleet::Redis(_)) {
        assert!(calls() - before <= 6, "the work does not depend on the entries");
    }
    let heard = || two.stats().invalidations_received > ENTRIES;
    until("the other has heard", heard).await;
    assert_eq!((found(&one).await, found(&two).await), (0, 0));
    assert_eq!(found(&fleet.node().await).await, 0);
    assert!(two.get("other").at_least(&stamp).await.unwrap().is_some());
}

on_both_tiers! {
    a_tag_reaches_every_node,
    a_load_meets_a_tag_of_the_same_node,
    a_load_meets_a_tag_of_another_node,
    a_refresh_meets_a_tag,
    a_clear_and_a_failing_loader,
    many_entries_one_tag,
}
