//! What bounds a lookup whose source or fleet lets it down: stamps, patience, backoff, what a batch leaves out.

use std::collections::HashMap;
use std::time::Duration;

use async_cache_core::testing::{No, Source, ms, until};
use async_cache_core::{DataLoader, ErrorKind};
use tokio::time::Instant;

use crate::stage::{Cache, Holder, Stage};
use crate::{key, tier};

const MINUTE: Duration = Duration::from_secs(60);

/// Cut off from the fleet, a node falls back on what L1 holds; not where the caller insists on more.
#[tokio::test(start_paused = true)]
async fn a_fallback_in_an_outage_is_no_older_than_the_stamp() {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let (node, source) = (stage.node().await, Source::new());
    let old = node.insert("k", 1).await.unwrap();
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1));
    stage.hold_events();
    stage.goes_away();
    let newer = other.invalidate("k").await.unwrap();
    tokio::time::sleep(ms(1_500)).await;

    let failing = || {
        let load = source.clone();
        node.get_or_load("k", move || load.failing())
    };
    assert_eq!(*failing().await.unwrap(), 1, "without a stamp the policy for outages lets it answer");
    assert_eq!(*failing().at_least(&old).await.unwrap(), 1, "it is of the stamp itself");
    assert_eq!(failing().at_least(&newer).await.unwrap_err().kind(), ErrorKind::Loader);
    node.get("k").at_least(&newer).await.unwrap_err();
    node.get_many(["k"]).at_least(&newer).await.unwrap_err();
    let batch = |_: Vec<String>| async { Err::<HashMap<String, u64>, _>(No(0)) };
    node.get_many_or_load(["k"], batch).at_least(&newer).await.unwrap_err();
    // Nor does a caller's impatience make it answer.
    let load = source.clone();
    let slow = node.get_or_load("k", move || load.slow(ms(500))).stale_for(MINUTE).soft_timeout(ms(10));
    let begun = Instant::now();
    slow.at_least(&newer).await.unwrap();
    assert!(begun.elapsed() >= ms(500), "it has waited for the load: {:?}", begun.elapsed());
}

/// A stale value stands in for a source that failed, and for nothing else.
#[tokio::test(start_paused = true)]
async fn a_stale_value_does_not_hide_that_the_cache_was_shut_down() {
    let node = Stage::on(&tier()).bare_node();
    node.insert("k", 1).ttl(ms(500)).stale_for(MINUTE).await.unwrap();
    tokio::time::sleep(ms(600)).await;
    let source = Source::new();
    let call = tokio::spawn({
        let (node, source) = (node.clone(), source.clone());
        async move { node.get_or_load("k", move || source.held()).await }
    });
    source.begun(1).await;
    node.shutdown().await;
    assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Shutdown);
}

/// What expires while L2 is asked, in vain, is no answer.
#[tokio::test(start_paused = true)]
async fn what_expires_while_l2_is_asked_is_no_answer() {
    let stage = Stage::on(&tier());
    let node = stage.node_with(|builder| builder.l1_ttl(ms(100))).await;
    node.insert("k", 1).ttl(ms(500)).await.unwrap();
    tokio::time::sleep(ms(400)).await;
    stage.answers_are_late();
    let call = tokio::spawn({
        let node = node.clone();
        async move { node.get_many(["k"]).await }
    });
    stage.an_answer_is_on_its_way().await;
    tokio::time::sleep(ms(200)).await;
    stage.answers_arrive();
    assert_eq!(call.await.unwrap().unwrap(), [None]);
}

async fn one(node: &Cache, source: &Source, wait: Duration) -> u64 {
    let load = source.clone();
    *node.get_or_load("k", move || load.now()).wait_timeout(wait).await.unwrap()
}

async fn of_many(node: &Cache, source: &Source, wait: Duration) -> u64 {
    let load = source.clone();
    let batch = move |_: Vec<String>| async move {
        Ok::<_, No>(HashMap::from([("k".to_owned(), load.now().await?)]))
    };
    let found = node.get_many_or_load(["k"], batch).wait_timeout(wait).await.unwrap();
    **found[0].as_ref().unwrap()
}

/// Past its limit a node loads by itself, and stores nothing: the lease is another's.
#[tokio::test(start_paused = true)]
async fn a_node_waits_for_anothers_load_for_so_long() {
    for many in [false, true] {
        let tier = tier();
        let (stage, source) = (Stage::on(&tier), Source::new());
        let node = stage.node().await;
        let mut holder = Holder::beside(&stage);
        let lease = holder.lease(&key()).await;
        let begun = Instant::now();
        let got =
            if many { of_many(&node, &source, ms(200)).await } else { one(&node, &source, ms(200)).await };
        let waited = begun.elapsed();
        assert_eq!((got, source.loads()), (1, 1));
        assert!(waited >= ms(200) && waited < ms(600), "many: {many}, {waited:?}");
        assert_eq!(node.get("k").await.unwrap(), None, "nothing is stored");
        holder.release(&key(), lease).await;
    }
}

/// After two loads elsewhere that ended in vain it waits for no third.
#[tokio::test(start_paused = true)]
async fn a_node_waits_for_two_failures_elsewhere_and_no_third() {
    for many in [false, true] {
        let tier = tier();
        let (stage, source) = (Stage::on(&tier), Source::new());
        let node = stage.node().await;
        let mut holder = Holder::beside(&stage);
        let mut lease = holder.lease(&key()).await;
        let begun = Instant::now();
        let call = tokio::spawn({
            let (node, source) = (node.clone(), source.clone());
            async move {
                let wait = Duration::from_secs(30);
                if many { of_many(&node, &source, wait).await } else { one(&node, &source, wait).await }
            }
        });
        until("it waits", || node.stats().lease_waits == 1).await;
        for _ in 0..2 {
            holder.release(&key(), lease).await;
            // Before the node is told: it finds the lease taken again.
            lease = holder.lease(&key()).await;
            tokio::time::sleep(ms(20)).await;
        }
        assert_eq!(call.await.unwrap(), 1);
        assert!(begun.elapsed() < Duration::from_secs(5), "many: {many}, {:?}", begun.elapsed());
        assert_eq!(node.get("k").await.unwrap(), None, "nothing is stored");
    }
}

/// An absence that a batch found lives `negative_ttl`, in every tier.
#[tokio::test(start_paused = true)]
async fn an_absence_of_a_batch_lives_as_long_as_any() {
    let stage = Stage::on(&tier());
    for node in [stage.node().await, stage.bare_node()] {
        let source = Source::new();
        let ask = async || {
            let load = source.clone();
            let batch = move |_: Vec<String>| async move {
                load.now().await.map(|_| HashMap::from([("k".to_owned(), None::<u64>)]))
            };
            let asked =
                node.get_many_or_load(["k"], batch).ttl(60 * MINUTE).negative_ttl(Duration::from_secs(2));
            assert_eq!(asked.await.unwrap(), [None]);
        };
        ask().await;
        tokio::time::sleep(ms(1_500)).await;
        ask().await;
        assert_eq!(source.loads(), 1, "it is cached");
        tokio::time::sleep(ms(1_000)).await;
        ask().await;
        assert_eq!(source.loads(), 2, "and gone with its negative_ttl");
        node.shutdown().await;
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

/// A key that a batch leaves out, or has an error for, is another node's to load at once.
#[tokio::test(start_paused = true)]
async fn what_a_batch_does_not_fill_is_free_for_others() {
    let tier = tier();
    let (node, other) = (Stage::on(&tier).node().await, Stage::on(&tier).node().await);
    let batch = |_: Vec<String>| async { Ok::<_, No>(HashMap::from([("filled".to_owned(), 1)])) };
    let found = node.get_many_or_load(["filled", "k"], batch).await.unwrap();
    assert_eq!(found[1], None);
    let each = node.data_loader_each(|keys: Vec<String>| async move {
        keys.into_iter().map(|key| (key, Err::<u64, _>(No(1)))).collect::<HashMap<_, _>>()
    });
    each.build().load("failed".to_owned()).await.unwrap_err();
    for key in ["k", "failed"] {
        let begun = Instant::now();
        assert_eq!(*other.get_or_load(key, || async { Ok::<_, No>(2) }).await.unwrap(), 2);
        assert!(begun.elapsed() < ms(50), "`{key}` after {:?}", begun.elapsed());
    }
}

/// What a loader is primed with counts towards its limit.
#[tokio::test(start_paused = true)]
async fn a_loader_keeps_no_more_than_its_limit() {
    let source = Source::new();
    let count = source.clone();
    let loader =
        DataLoader::new(move |keys: Vec<u64>| {
            let load = count.clone();
            async move {
                load.now().await.map(|_| keys.into_iter().map(|key| (key, key)).collect::<HashMap<_, _>>())
            }
        })
        .max_entries(3)
        .build();
    for n in 0..10_u64 {
        loader.prime(n, n).await.unwrap();
    }
    for n in 0..10_u64 {
        assert_eq!(loader.load(n).await.unwrap().as_deref(), Some(&n));
    }
    assert_eq!(source.loads(), 7, "three of ten were kept");
}

/// Sixteen loads at once, or four batches.
#[tokio::test(start_paused = true)]
async fn warming_loads_so_many_at_once() {
    let (node, source) = (Stage::on(&tier()).node().await, Source::new());
    let load = source.clone();
    let report = node.warm((0..100).map(|n| n.to_string()), move |_| load.slow(ms(10))).await;
    assert_eq!((report.loaded, source.most_running()), (100, 16));
    let batches = Source::new();
    let load = batches.clone();
    let batch = move |keys: Vec<String>| {
        let load = load.slow(ms(10));
        async move { load.await.map(|_| keys.into_iter().map(|key| (key, 1)).collect::<HashMap<_, _>>()) }
    };
    let report = node.warm_many((1000..2000).map(|n| n.to_string()), batch).await;
    assert_eq!((report.loaded, batches.loads(), batches.most_running()), (1000, 10, 4));
}

/// What a cache costs the tier while nobody asks: a heartbeat every quarter of the bound, which is 1 s unless set.
#[tokio::test(start_paused = true)]
async fn a_cache_sends_a_heartbeat_every_quarter_of_the_bound() {
    for bound in [None, Some(ms(400)), Some(ms(5_000))] {
        let stage = Stage::on(&tier());
        let _node = stage
            .node_with(|builder| match bound {
                Some(bound) => builder.max_staleness(bound),
                None => builder,
            })
            .await;
        let before = stage.heartbeats();
        tokio::time::sleep(10 * bound.unwrap_or(ms(1_000))).await;
        let sent = stage.heartbeats() - before;
        assert!((39..=41).contains(&sent), "{sent} heartbeats within ten times {bound:?}");
    }
}
