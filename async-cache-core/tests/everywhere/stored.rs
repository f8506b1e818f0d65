//! Options of what is stored: how long it lives, and what makes it void.

use super::*;

async fn lives_half_a_second(cache: &Cache, bring: impl AsyncFn(&str), what: &str) {
    bring("k").await;
    sleep(ms(490)).await;
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&1), "{what}");
    sleep(ms(20)).await;
    assert_eq!(cache.get("k").await.unwrap(), None, "{what}");
}

#[tokio::test(start_paused = true)]
async fn ttl() {
    holds_everywhere!(lives_half_a_second, Tiers::ALL, |x| x.ttl(ms(500)));
}

/// Past it L1 asks L2, if there is one; otherwise it is the end.
async fn is_asked_for_after_half_a_second(cache: &Cache, bring: impl AsyncFn(&str), what: &str) {
    bring("k").await;
    let hits = async || {
        let before = cache.stats();
        let found = cache.get("k").await.unwrap().is_some();
        let after = cache.stats();
        (found, after.l1_hits - before.l1_hits, after.l2_hits - before.l2_hits)
    };
    sleep(ms(490)).await;
    assert_eq!(hits().await, (true, 1, 0), "{what}");
    sleep(ms(20)).await;
    let asked = hits().await;
    let expected = if what.ends_with("Both") { (true, 0, 1) } else { (false, 0, 0) };
    assert_eq!(asked, expected, "{what}");
}

#[tokio::test(start_paused = true)]
async fn l1_ttl() {
    holds_everywhere!(is_asked_for_after_half_a_second, [Tiers::L1, Tiers::Both], |x| x.l1_ttl(ms(500)));
}

/// Without it all of them live for five minutes.
async fn do_not_expire_together(cache: &Cache, bring: impl AsyncFn(&str), what: &str) {
    let keys: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    for key in &keys {
        bring(key).await;
    }
    sleep(secs(160)).await;
    let left = cache.get_many(keys.iter()).await.unwrap().into_iter().flatten().count();
    assert!((5..=45).contains(&left), "{left} are left: {what}");
}

#[tokio::test(start_paused = true)]
async fn ttl_jitter() {
    holds_everywhere!(do_not_expire_together, Tiers::ALL, |x| x.ttl_jitter(0.9));
}

async fn is_a_fallback_for_a_minute(cache: &Cache, bring: impl AsyncFn(&str), what: &str) {
    let failing = || async { Err::<u64, _>(No(0)) };
    bring("k").await;
    sleep(secs(301)).await;
    assert_eq!(*cache.get_or_load("k", failing).await.expect(what), 1);
    sleep(secs(60)).await;
    assert_eq!(cache.get_or_load("k", failing).await.unwrap_err().kind(), ErrorKind::Loader, "{what}");
}

#[tokio::test(start_paused = true)]
async fn stale_for() {
    holds_everywhere!(is_a_fallback_for_a_minute, Tiers::ALL, |x| x.stale_for(secs(60)));
}

async fn has_a_tag(cache: &Cache, bring: impl AsyncFn(&str), what: &str) {
    bring("k").await;
    cache.invalidate_tag("other").await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&1), "{what}");
    cache.invalidate_tag("t").await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), None, "{what}");
}

#[tokio::test(start_paused = true)]
async fn tag() {
    holds_everywhere!(has_a_tag, Tiers::ALL, |x| x.tag("t"));
}

/// Finds nothing.
macro_rules! find_nothing {
    ($cache:expr, $way:expr, $options:expr, |$x:ident| $with:expr) => {{
        let nothing = || async { Ok::<_, No>(None::<u64>) };
        let none = |keys: Vec<String>| async move {
            Ok::<_, No>(keys.into_iter().map(|key| (key, None::<u64>)).collect::<HashMap<_, _>>())
        };
        match $way {
            Way::Optional => {
                let $x = $cache.get_or_load_optional("k", nothing);
                assert_eq!($with.await.unwrap(), None);
            }
            Way::Many => {
                let $x = $cache.get_many_or_load(["k"], none);
                assert_eq!($with.await.unwrap(), [None]);
            }
            Way::Loader => {
                let $x = $options;
                let loader = $cache.data_loader(none).options($with).build();
                assert_eq!(loader.load("k".to_owned()).await.unwrap(), None);
            }
            _ => {
                let $x = $cache.warm_many(["k".to_owned()], none);
                assert_eq!($with.await.failed.len(), 0);
            }
        }
    }};
}

/// That there is nothing is remembered for five seconds.
async fn is_absent_for_five_seconds(cache: &Cache, what: &str) {
    let source = Source::new();
    let ask = async || {
        let load = source.clone();
        let asked = cache.get_or_load_optional("k", move || async move { load.now().await.map(Some) });
        asked.await.unwrap()
    };
    sleep(ms(4_900)).await;
    assert_eq!((ask().await, source.loads()), (None, 0), "{what}");
    sleep(ms(200)).await;
    assert_eq!((ask().await.as_deref(), source.loads()), (Some(&1), 1), "{what}");
}

#[tokio::test(start_paused = true)]
async fn negative_ttl() {
    for tiers in Tiers::ALL {
        for way in Way::OPTIONAL {
            let cache = tiers.cache(|builder| builder.negative_ttl(secs(5))).await;
            find_nothing!(cache, way, Defaults::default(), |x| x);
            is_absent_for_five_seconds(&cache, &format!("of the cache, {way:?}, {tiers:?}")).await;

            let cache = tiers.cache(|builder| builder).await;
            find_nothing!(cache, way, StoreOptions::new(), |x| x.negative_ttl(secs(5)));
            is_absent_for_five_seconds(&cache, &format!("of the call, {way:?}, {tiers:?}")).await;
        }
    }
}
