//! Soft and hard limits on a load.

use async_cache_core::ErrorKind;
use async_cache_core::testing::{Source, ms, until};
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::rig::{Builder, Cache, Tiers, on, pass, secs};

on! {
    l1: crate::rig::Tiers::L1 => {
        a_hundred_impatient_callers_cause_one_load, the_soft_limit_needs_something_to_answer,
        each_caller_has_its_own_patience, the_hard_limit_ends_the_load, a_load_within_the_limits_is_waited_for,
        a_hung_load_holds_nobody_for_ever,
    }
    both: crate::rig::Tiers::both() => {
        a_hundred_impatient_callers_cause_one_load, the_soft_limit_needs_something_to_answer,
        each_caller_has_its_own_patience, the_hard_limit_ends_the_load, a_load_within_the_limits_is_waited_for,
        a_hung_load_holds_nobody_for_ever, the_lease_is_given_back_however_the_load_ends,
        the_soft_limit_covers_the_wait_for_another_node,
    }
    l2: crate::rig::Tiers::l2() => {
        a_hundred_impatient_callers_cause_one_load, the_soft_limit_needs_something_to_answer,
        each_caller_has_its_own_patience, the_hard_limit_ends_the_load, a_load_within_the_limits_is_waited_for,
    }
}

fn minute(builder: Builder) -> Builder {
    builder.ttl(secs(60)).stale_for(secs(600))
}

async fn expired(tiers: &Tiers, source: &Source) -> Cache {
    let cache = tiers.node(minute).await;
    let load = source.clone();
    assert_eq!(*cache.get_or_load("k", move || load.now()).await.unwrap(), 1);
    pass(secs(61)).await;
    source.write();
    cache
}

async fn a_hundred_impatient_callers_cause_one_load(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let begun = Instant::now();
    let calls = (0..100).map(|_| {
        let load = source.clone();
        cache.get_or_load("k", move || load.slow(secs(5))).soft_timeout(ms(100))
    });
    for answer in join_all(calls).await {
        assert_eq!(*answer.unwrap(), 1);
    }
    assert!(begun.elapsed() < ms(110), "{:?}", begun.elapsed());
    assert_eq!((source.loads(), cache.stats().stale_served), (2, 100));
    // The load goes on and lands, though nobody waits for it any more.
    pass(secs(5)).await;
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&2));
    assert_eq!(source.loads(), 2);
}

async fn the_soft_limit_needs_something_to_answer(tiers: Tiers) {
    let (cache, source) = (tiers.node(minute).await, Source::new());
    let begun = Instant::now();
    let call = cache.get_or_load("k", move || source.slow(secs(5))).soft_timeout(ms(100));
    assert_eq!(*call.await.unwrap(), 1);
    assert!(begun.elapsed() >= secs(5));
}

async fn each_caller_has_its_own_patience(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let (a, b) = (source.clone(), source.clone());
    let hasty = cache.get_or_load("k", move || a.slow(secs(1))).soft_timeout(ms(100));
    let patient = cache.get_or_load("k", move || b.slow(secs(1)));
    let (hasty, patient) = tokio::join!(hasty, patient);
    assert_eq!((*hasty.unwrap(), *patient.unwrap()), (1, 2));
    assert_eq!(source.loads(), 2);
}

async fn the_hard_limit_ends_the_load(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let load = source.clone();
    let call =
        cache.get_or_load("k", move || load.slow(secs(3600))).load_timeout(ms(500)).stale_on_error(false);
    assert_eq!(call.await.unwrap_err().kind(), ErrorKind::Timeout);
    until("nothing is left", || cache.is_idle()).await;
    pass(secs(2)).await;
    assert_eq!(*cache.get_or_load("k", move || source.now()).await.unwrap(), 2);
}

async fn a_load_within_the_limits_is_waited_for(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let call =
        cache.get_or_load("k", move || source.slow(ms(90))).soft_timeout(ms(100)).load_timeout(ms(200));
    assert_eq!(*call.await.unwrap(), 2);
    assert_eq!(cache.stats().stale_served, 0);
}

async fn a_hung_load_holds_nobody_for_ever(tiers: Tiers) {
    let (cache, source) = (tiers.node(minute).await, Source::new());
    let calls = (0..10).map(|_| {
        let load = source.clone();
        cache.get_or_load("k", move || load.slow(secs(86_400)))
    });
    let begun = Instant::now();
    for outcome in join_all(calls).await {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert!(begun.elapsed() <= secs(31), "the default limit is thirty seconds");
    assert_eq!(source.loads(), 1);
}

/// An error, a panic, a deadline, a value that is not to be stored: another node loads at once,
/// and does not wait for the lease to lapse.
async fn the_lease_is_given_back_however_the_load_ends(tiers: Tiers) {
    use async_cache_core::Loaded;
    use async_cache_core::testing::No;
    let cache = tiers.node(|builder| minute(builder).lease_ttl(secs(3600))).await;
    let other = tiers.node(minute).await;
    let source = Source::new();
    let (error, deadline) = (source.clone(), source.clone());
    let panic = || async {
        if true {
            panic!("no");
        }
        Ok::<u64, No>(0)
    };
    assert!(cache.get_or_load("error", move || error.failing()).await.is_err());
    assert!(cache.get_or_load("panic", panic).await.is_err());
    let late = cache.get_or_load("deadline", move || deadline.slow(secs(9))).load_timeout(ms(50));
    assert!(late.await.is_err());
    let unstored = || async { Ok::<_, No>(Loaded::new(1).uncached()) };
    assert!(cache.get_or_load("uncached", unstored).await.is_ok());
    let wrong = || async { Ok::<_, No>(Loaded::new(1).ttl(ms(0))) };
    assert!(cache.get_or_load("option", wrong).await.is_ok());

    for key in ["error", "panic", "deadline", "uncached", "option"] {
        let begun = Instant::now();
        let load = source.clone();
        assert_eq!(*other.get_or_load(key, move || load.now()).await.unwrap(), 1, "{key}");
        assert!(begun.elapsed() < ms(50), "{key}: {:?}", begun.elapsed());
    }
}

async fn the_soft_limit_covers_the_wait_for_another_node(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let other = tiers.node(minute).await;
    let load = source.clone();
    let elsewhere = tokio::spawn(async move { other.get_or_load("k", move || load.slow(secs(2))).await });
    source.begun(2).await;
    let (begun, unused) = (Instant::now(), source.clone());
    let call = cache.get_or_load("k", move || unused.now()).soft_timeout(ms(100));
    assert_eq!(*call.await.unwrap(), 1);
    assert!(begun.elapsed() < ms(110), "{:?}", begun.elapsed());
    assert_eq!(*elsewhere.await.unwrap().unwrap(), 2);
    until("the new value has arrived", || cache.is_idle()).await;
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&2));
    assert_eq!(source.loads(), 2);
}
