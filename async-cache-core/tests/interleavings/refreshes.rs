//! A refresh replaces the old value on every node, or removes it where the new one cannot be stored; and a refresh
//! behind an answer troubles nobody.

use std::time::Duration;

use async_cache_core::testing::{No, Source, ms, until};
use async_cache_memory::MemoryBackend;

use crate::stage::{Cache, Holder, Stage};
use crate::{key, tier};

const MINUTE: Duration = Duration::from_secs(60);

/// A node behind a stage and another one; both hold version 1, and version 2 is committed.
async fn replaced() -> (Stage, Cache, Cache) {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let node = stage.node().await;
    other.insert("k", 1).await.unwrap();
    for holds in [&node, &other] {
        assert_eq!(holds.get("k").await.unwrap().as_deref(), Some(&1));
    }
    (stage, node, other)
}

/// Neither tier of either node has version 1 any more.
async fn is_gone(node: &Cache, other: &Cache) {
    for asked in [node, other] {
        let found = asked.get("k").await.unwrap();
        assert_ne!(found.as_deref(), Some(&1));
        let loaded = asked.get_or_load("k", || async { Ok::<_, No>(2) }).await.unwrap();
        assert_eq!(*loaded, 2);
    }
}

/// Another node holds the lease for longer than the refresh waits: what it loads is not stored.
#[tokio::test(start_paused = true)]
async fn one_that_has_waited_too_long_for_another_load() {
    let (stage, node, other) = replaced().await;
    let mut holder = Holder::beside(&stage);
    let _lease = holder.lease(&key()).await;
    let refresh = node.refresh("k", || async { Ok::<_, No>(2) }).wait_timeout(ms(200));
    assert_eq!(*refresh.await.unwrap(), 2);
    is_gone(&node, &other).await;
}

/// The lease has lapsed while it loaded: its fill is refused, and nothing else has changed the key.
#[tokio::test(start_paused = true)]
async fn one_whose_lease_has_lapsed() {
    let (stage, node, other) = replaced().await;
    stage.renewals_fail();
    let refresh = node.refresh("k", || async {
        tokio::time::sleep(ms(500)).await;
        Ok::<_, No>(2)
    });
    assert_eq!(*refresh.lease_ttl(ms(100)).await.unwrap(), 2);
    assert_eq!(node.stats().fills_rejected, 1);
    is_gone(&node, &other).await;
}

/// L2 cannot be reached: removed there once it can.
#[tokio::test(start_paused = true)]
async fn one_in_an_outage() {
    let (stage, node, other) = replaced().await;
    stage.goes_away();
    assert_eq!(*node.refresh("k", || async { Ok::<_, No>(2) }).await.unwrap(), 2);
    stage.comes_back();
    until("it has been removed", || node.is_idle() && node.stats().pending_invalidations == 0).await;
    is_gone(&node, &other).await;
}

/// One failure in the fleet is enough where nobody waits: 1. an expired value answers, and its refresh waits for
/// another node's load; 2. that fails; 3. the source is left alone.
#[tokio::test(start_paused = true)]
async fn one_behind_an_answer_does_not_load_what_failed_elsewhere() {
    for l1 in [true, false] {
        let stage = Stage::on(&MemoryBackend::new(100));
        let node = if l1 { stage.node().await } else { stage.bare_node() };
        let source = Source::new();
        node.insert("k", 1).ttl(ms(500)).stale_for(MINUTE).await.unwrap();
        tokio::time::sleep(ms(600)).await;
        let mut holder = Holder::beside(&stage);
        let lease = holder.lease(&key()).await;
        let load = source.clone();
        let stale =
            node.get_or_load("k", move || load.now()).stale_for(MINUTE).stale_while_revalidate(true).await;
        assert_eq!(*stale.unwrap(), 1);
        until("its refresh waits", || node.stats().lease_waits == 1).await;
        holder.release(&key(), lease).await;
        until("its refresh has ended", || node.is_idle()).await;
        assert_eq!((source.loads(), node.stats().loads), (0, 0), "with L1: {l1}");
    }
}

/// It waits for another node's load, and takes nothing from it: that may have read the source before.
#[tokio::test(start_paused = true)]
async fn one_that_waits_for_another_load_does_not_take_its_value() {
    for l1 in [true, false] {
        let tier = MemoryBackend::new(100);
        let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
        let node = if l1 { stage.node().await } else { stage.bare_node() };
        other.insert("k", 1).await.unwrap();
        let mut holder = Holder::beside(&stage);
        let old = holder.frame(&key()).await;
        let lease = holder.lease(&key()).await;
        let refreshing = tokio::spawn({
            let node = node.clone();
            async move { node.refresh("k", || async { Ok::<_, No>(2) }).await }
        });
        until("it waits", || node.stats().lease_waits == 1).await;
        holder.fill(&key(), lease, &old).await;
        assert_eq!(*refreshing.await.unwrap().unwrap(), 2, "with L1: {l1}");
        assert_eq!(other.get("k").await.unwrap().as_deref(), Some(&2));
    }
}
