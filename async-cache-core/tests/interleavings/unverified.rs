//! Answers that nothing verifies, which the policy for outages lets through: each says so.

use async_cache_core::testing::{No, Source, ms, until};
use async_cache_core::{Event, EventStream, StaleCause};

use crate::stage::Stage;
use crate::told::told;
use crate::{Change, tier};

fn causes(events: &mut EventStream) -> Vec<StaleCause> {
    let cause = |event| match event {
        Event::StaleServed { cause, .. } => Some(cause),
        _ => None,
    };
    told(events).into_iter().filter_map(cause).collect()
}

/// 1. a load begins; 2. another node inserts the key, and a get here stores that in L1; 3. the node is
///    cut off for longer than the bound; 4. the load fails, and what L1 holds stands in: it has not
///    expired, but it may have been invalidated since.
#[tokio::test(start_paused = true)]
async fn a_fresh_value_that_stands_in() {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let (node, source) = (stage.node().await, Source::new());
    let mut events = node.subscribe();
    let call = tokio::spawn({
        let (node, source) = (node.clone(), source.clone());
        async move {
            node.get_or_load("k", move || async move { source.held().await.and(Err::<u64, _>(No(0))) }).await
        }
    });
    source.begun(1).await;
    let heard = node.stats().invalidations_received;
    other.insert("k", 1).await.unwrap();
    until("the insert is heard", || node.stats().invalidations_received > heard).await;
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1));
    stage.hold_events();
    tokio::time::sleep(ms(1001)).await;
    stage.reads_fail();
    source.let_go(1);
    assert_eq!(*call.await.unwrap().unwrap(), 1);
    assert_eq!(causes(&mut events), [StaleCause::Outage]);
    assert_eq!(node.stats().stale_served, 1);
}

/// 1. a load begins; 2. the node is cut off, and would not hear of an invalidation that makes it forget
///    the load; 3. longer than the bound after 1 a get joins it.
#[tokio::test(start_paused = true)]
async fn a_load_that_is_joined_unheard() {
    let stage = Stage::on(&tier());
    let (node, source) = (stage.node().await, Source::new());
    let mut events = node.subscribe();
    let ask = || {
        let (node, source) = (node.clone(), source.clone());
        tokio::spawn(async move { node.get_or_load("k", move || source.held()).await })
    };
    let first = ask();
    source.begun(1).await;
    stage.hold_events();
    stage.goes_away();
    let in_time = ask();
    tokio::time::sleep(ms(1001)).await;
    let late = ask();
    tokio::time::sleep(ms(1)).await;
    source.let_go(1);
    for call in [first, in_time, late] {
        assert_eq!(*call.await.unwrap().unwrap(), 1);
    }
    assert_eq!((source.loads(), node.stats().stale_served), (1, 1));
    assert_eq!(causes(&mut events), [StaleCause::Outage]);
}

/// 1. a load begins that may find nothing; 2. the node is cut off; 3. longer than the bound after 1 a get
///    joins it that wants a value; 4. there is none: the get loads, and what it gets is verified.
#[tokio::test(start_paused = true)]
async fn an_absence_that_is_joined_unheard_and_does_not_answer() {
    let stage = Stage::on(&tier());
    let (node, source) = (stage.node().await, Source::new());
    let mut events = node.subscribe();
    let absence = tokio::spawn({
        let (node, source) = (node.clone(), source.clone());
        async move {
            node.get_or_load_optional("k", move || async move { source.held().await.map(|_| None::<u64>) })
                .await
        }
    });
    source.begun(1).await;
    stage.hold_events();
    stage.goes_away();
    tokio::time::sleep(ms(1001)).await;
    let value = tokio::spawn({
        let (node, source) = (node.clone(), source.clone());
        async move { node.get_or_load("k", move || source.now()).await }
    });
    tokio::time::sleep(ms(1)).await;
    assert_eq!(source.loads(), 1, "it has joined");
    source.let_go(1);
    assert_eq!(absence.await.unwrap().unwrap(), None);
    assert_eq!((*value.await.unwrap().unwrap(), source.loads()), (1, 2));
    assert_eq!((causes(&mut events), node.stats().stale_served), (Vec::new(), 0));
}

/// 1. a node holds a value, and is cut off; 2. a change of it fails here, and is to be retried; 3. the policy lets L1
///    answer: not with what was changed.
#[tokio::test(start_paused = true)]
async fn not_what_a_change_that_is_pending_was_to_void() {
    for change in Change::ALL {
        let stage = Stage::on(&tier());
        let node = stage.node().await;
        node.insert("k", 1).tag("t").await.unwrap();
        assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1));
        stage.goes_away();
        change.fail(&stage, &node).await;
        let old = Some(1);
        assert_ne!(node.get("k").await.ok().flatten().as_deref().copied(), old, "{change:?}");
        let many = node.get_many(["k"]).await.unwrap_or_default();
        assert_ne!(many.first().cloned().flatten().as_deref().copied(), old, "{change:?}");
        let failing = node.get_or_load("k", || async { Err::<u64, _>(No(0)) }).await;
        assert_ne!(failing.ok().as_deref().copied(), old, "{change:?}");
        assert_eq!(node.stats().stale_served, 0, "{change:?}");
    }
}

/// Cut off, and the source is slow: what has expired answers after the caller's patience.
#[tokio::test(start_paused = true)]
async fn an_expired_value_while_the_source_is_slow() {
    let stage = Stage::on(&tier());
    let (node, source) = (stage.node().await, Source::new());
    let minute = std::time::Duration::from_secs(60);
    node.insert("k", 1).ttl(ms(500)).stale_for(minute).await.unwrap();
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1));
    stage.hold_events();
    stage.goes_away();
    tokio::time::sleep(ms(1_500)).await;
    let mut events = node.subscribe();
    let begun = tokio::time::Instant::now();
    let slow = node.get_or_load("k", move || source.slow(ms(5_000))).stale_for(minute).soft_timeout(ms(50));
    assert_eq!(*slow.await.unwrap(), 1);
    assert!(begun.elapsed() < ms(1_000), "{:?}", begun.elapsed());
    assert_eq!(causes(&mut events), [StaleCause::Outage]);
}
