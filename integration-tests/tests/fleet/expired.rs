//! Expiries in a fleet: a value is fresh on no node any more, and remains a fallback on each.

use std::time::Duration;

use async_cache::testing::{No, ms, until};
use async_cache::{Error, ErrorKind, Source, Stamp};
use integration_tests::fleet::{Cache, Fleet};
use integration_tests::{Data, eventually_is, on_both_tiers};

/// The ways to expire the key `k`, which has the tag `t`.
#[derive(Debug, Clone, Copy)]
enum Way {
    Key,
    Many,
    Tag,
    Tags,
}

const WAYS: [Way; 4] = [Way::Key, Way::Many, Way::Tag, Way::Tags];

impl Way {
    async fn expire(self, node: &Cache) -> Result<Stamp, Error> {
        match self {
            Self::Key => node.expire("k").await,
            Self::Many => node.expire_many(["k", "other"]).await,
            Self::Tag => node.expire_tag("t").await,
            Self::Tags => node.expire_tags(["s", "t"]).await,
        }
    }
}

async fn node(fleet: &Fleet) -> Cache {
    fleet.node_with(|builder| builder.stale_for(Duration::from_secs(60)).error_backoff(ms(1))).await
}

async fn fail() -> Result<u64, No> {
    Err(No(0))
}

fn row(version: u64) -> std::future::Ready<Result<u64, No>> {
    std::future::ready(Ok(version))
}

async fn stale(node: &Cache) -> Option<u64> {
    let found = node.get_or_load("k", fail).traced().await.ok()?;
    (found.source == Source::Stale).then_some(*found.value)
}

async fn every_node_falls_back_until_one_has_loaded(fleet: Fleet) {
    let nodes = [node(&fleet).await, node(&fleet).await];
    for (version, way) in (1..).zip(WAYS) {
        let stored = nodes[0].insert("k", version).tag("t").await.unwrap();
        // It has an older value, which it may show for a moment more.
        let found = nodes[1].get("k").at_least(&stored).await.unwrap();
        assert_eq!(found.as_deref(), Some(&version));
        let stamp = way.expire(&nodes[0]).await.unwrap();
        for node in &nodes {
            let what = format!("{way:?}: it is not fresh");
            eventually_is(&what, async || node.get("k").await.unwrap().is_none()).await;
            assert_eq!(stale(node).await, Some(version), "{way:?}");
            let insisting = node.get_or_load("k", fail).at_least(&stamp).await;
            assert_eq!(insisting.unwrap_err().kind(), ErrorKind::Loader, "{way:?}");
        }
        // A node that begins now has no entry, and knows of no change.
        let late = node(&fleet).await;
        assert_eq!(late.get("k").await.unwrap(), None, "{way:?}");
        assert_eq!(stale(&late).await, Some(version), "{way:?}");
        assert_eq!(
            *nodes[1].get_or_load("k", move || row(100 + version)).tag("t").await.unwrap(),
            100 + version
        );
        for node in nodes.iter().chain([&late]) {
            assert_eq!(
                *node.get_or_load("k", fail).at_least(&stamp).await.unwrap(),
                100 + version,
                "{way:?}"
            );
        }
    }
}

async fn a_value_without_stale_for_is_removed(fleet: Fleet) {
    let nodes = [fleet.node().await, fleet.node().await];
    for way in WAYS {
        nodes[0].insert("k", 1).tag("t").await.unwrap();
        assert_eq!(nodes[1].get("k").await.unwrap().as_deref(), Some(&1));
        let stamp = way.expire(&nodes[0]).await.unwrap();
        let failed = nodes[1].get_or_load("k", fail).at_least(&stamp).await;
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Loader);
        assert!(nodes[0].get_or_load("k", fail).await.is_err(), "{way:?}");
    }
}

async fn an_invalidation_ends_the_fallback_everywhere(fleet: Fleet) {
    let nodes = [node(&fleet).await, node(&fleet).await];
    for way in WAYS {
        nodes[0].insert("k", 1).tag("t").await.unwrap();
        way.expire(&nodes[1]).await.unwrap();
        assert_eq!(stale(&nodes[1]).await, Some(1));
        match way {
            Way::Key | Way::Many => nodes[0].invalidate("k").await.unwrap(),
            Way::Tag | Way::Tags => nodes[0].invalidate_tag("t").await.unwrap(),
        };
        for node in &nodes {
            let what = format!("{way:?}: it is no fallback");
            eventually_is(&what, async || stale(node).await.is_none()).await;
        }
    }
}

/// The lookups of many keys take the same steps.
async fn many_keys_fall_back_each_for_itself(fleet: Fleet) {
    let nodes = [node(&fleet).await, node(&fleet).await];
    for way in WAYS {
        nodes[0].insert("k", 1).tag("t").await.unwrap();
        nodes[0].insert("fresh", 2).await.unwrap();
        way.expire(&nodes[0]).await.unwrap();
        let failing = |_: Vec<String>| async { Err::<std::collections::HashMap<String, u64>, _>(No(0)) };
        let keys = ["k".to_owned(), "fresh".to_owned()];
        let late = node(&fleet).await;
        let found = late.get_many_or_load(&keys, failing).await.unwrap();
        assert_eq!(found.iter().flatten().map(|value| **value).collect::<Vec<_>>(), [1, 2], "{way:?}");
        assert_eq!(late.stats().stale_served, 1, "{way:?}");
    }
}

on_both_tiers! {
    every_node_falls_back_until_one_has_loaded,
    a_value_without_stale_for_is_removed,
    an_invalidation_ends_the_fallback_everywhere,
    many_keys_fall_back_each_for_itself,
}

/// What a node could not send becomes an invalidation: nothing is a fallback that a change may have reached.
#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_that_cannot_be_sent_becomes_an_invalidation() {
    let fleet = Fleet::redis();
    let (here, other) = (node(&fleet).await, node(&fleet).await);
    here.insert("k", 1).tag("t").await.unwrap();
    assert_eq!(other.get("k").await.unwrap().as_deref(), Some(&1));
    fleet.server().kill();
    until("it does not serve", || !here.is_serving() && !other.is_serving()).await;
    assert_eq!(here.expire("k").await.unwrap_err().kind(), ErrorKind::Backend);
    assert_eq!(here.stats().pending_invalidations, 1);
    assert_eq!(here.get_or_load("k", fail).await.unwrap_err().kind(), ErrorKind::Loader);
    fleet.server().restart(Data::Drop);
    until("it is sent", || here.stats().pending_invalidations == 0).await;
    until("both serve again", || here.is_serving() && other.is_serving()).await;
    assert_eq!(stale(&other).await, None);
}

/// The stored bytes of a value that keeps its time to live: Redis drops it when it would have.
#[tokio::test]
async fn redis_keeps_the_end_of_an_expired_value() {
    let fleet = Fleet::redis();
    let node = node(&fleet).await;
    node.insert("k", 1).await.unwrap();
    let name = "{rows:0}V:k";
    let before: i64 = fleet.server().cli(&["PTTL", name]);
    node.expire("k").await.unwrap();
    let after: i64 = fleet.server().cli(&["PTTL", name]);
    assert!(after > 0 && after <= before, "{before} ms, then {after} ms");
    assert_eq!(stale(&node).await, Some(1));
}
