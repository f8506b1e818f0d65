//! The loader decides how its value is kept.

use async_cache_core::Loaded;
use async_cache_core::testing::{No, Source, ms};

use crate::rig::{Tiers, on, pass, secs};

on! {
    l1: crate::rig::Tiers::L1 => {
        each_option_is_the_loaders_over_the_callers, it_may_choose_what_cannot_be, it_may_store_nothing,
        an_unstored_value_ends_the_use_of_the_old_one, the_callers_options_stay_as_they_are,
        it_decides_behind_the_answer_too,
    }
    both: crate::rig::Tiers::both() => {
        each_option_is_the_loaders_over_the_callers, it_may_choose_what_cannot_be, it_may_store_nothing,
        an_unstored_value_ends_the_use_of_the_old_one, the_callers_options_stay_as_they_are,
        it_decides_behind_the_answer_too,
    }
    l2: crate::rig::Tiers::l2() => {
        each_option_is_the_loaders_over_the_callers, it_may_store_nothing,
        an_unstored_value_ends_the_use_of_the_old_one, it_decides_behind_the_answer_too,
    }
}

async fn each_option_is_the_loaders_over_the_callers(tiers: Tiers) {
    let cache = tiers.node(|builder| builder.ttl(secs(10)).stale_for(secs(10))).await;
    let longer = || async { Ok::<_, No>(Loaded::new(1).ttl(secs(100)).stale_for(secs(1000))) };
    cache.get_or_load("longer", longer).await.unwrap();
    let shorter = || async { Ok::<_, No>(Loaded::new(2).ttl(secs(5))) };
    cache.get_or_load("shorter", shorter).ttl(secs(50)).await.unwrap();
    pass(secs(6)).await;
    assert!(!cache.contains("shorter").await.unwrap());
    pass(secs(90)).await;
    assert!(cache.contains("longer").await.unwrap());
    pass(secs(900)).await;
    let source = Source::new();
    assert_eq!(*cache.get_or_load("longer", move || source.failing()).await.unwrap(), 1);
}

async fn it_may_choose_what_cannot_be(tiers: Tiers) {
    let cache = tiers.node(|builder| builder).await;
    for wrong in [
        Loaded::new(1).ttl(ms(0)),
        Loaded::new(1).refresh_ahead(-1.0),
        Loaded::new(1).stale_for(secs(u64::MAX)),
    ] {
        assert_eq!(*cache.refresh("k", move || async move { Ok::<_, No>(wrong) }).await.unwrap(), 1);
    }
    assert_eq!(cache.stats().amended_choices, 3);
    assert!(cache.is_idle());
}

async fn it_may_store_nothing(tiers: Tiers) {
    let cache = tiers.node(|builder| builder).await;
    let unstored = || async { Ok::<_, No>(Loaded::new(1).uncached()) };
    assert_eq!(*cache.get_or_load("k", unstored).await.unwrap(), 1);
    assert!(!cache.contains("k").await.unwrap());
}

/// Or else it would be served stale for ever, each time with a newer one known.
async fn an_unstored_value_ends_the_use_of_the_old_one(tiers: Tiers) {
    let cache =
        tiers.node(|builder| builder.ttl(secs(10)).stale_for(secs(1000)).stale_while_revalidate(true)).await;
    cache.get_or_load("k", || async { Ok::<_, No>(1) }).await.unwrap();
    pass(secs(11)).await;
    let unstored = || async { Ok::<_, No>(Loaded::new(2).uncached()) };
    assert_eq!(*cache.get_or_load("k", unstored).await.unwrap(), 1);
    pass(secs(1)).await;
    assert_eq!(*cache.get_or_load("k", unstored).await.unwrap(), 2);
    assert_eq!(*cache.get_or_load("k", unstored).await.unwrap(), 2);
}

async fn the_callers_options_stay_as_they_are(tiers: Tiers) {
    let cache = tiers.node(|builder| builder.ttl(secs(10))).await;
    cache.get_or_load("a", || async { Ok::<_, No>(Loaded::new(1).ttl(secs(1))) }).await.unwrap();
    cache.get_or_load("b", || async { Ok::<_, No>(1) }).await.unwrap();
    pass(secs(5)).await;
    assert!(!cache.contains("a").await.unwrap());
    assert!(cache.contains("b").await.unwrap());
}

async fn it_decides_behind_the_answer_too(tiers: Tiers) {
    let cache =
        tiers.node(|builder| builder.ttl(secs(10)).stale_for(secs(1000)).stale_while_revalidate(true)).await;
    cache.get_or_load("k", || async { Ok::<_, No>(1) }).await.unwrap();
    pass(secs(11)).await;
    let longer = || async { Ok::<_, No>(Loaded::new(2).ttl(secs(100))) };
    assert_eq!(*cache.get_or_load("k", longer).await.unwrap(), 1);
    pass(secs(90)).await;
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&2));
}
