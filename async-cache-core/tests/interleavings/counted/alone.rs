//! What a node does by itself: loads, hits, failures, values that cannot be.

use std::collections::HashMap;
use std::time::Duration;

use async_cache_core::testing::{No, ms, until};
use async_cache_core::{Amended, ErrorKind, Event, UnreadableCause};
use futures_util::future::join_all;

use super::{
    FAILED, LOADED, Load, MINUTE, Tiers, UNREADABLE, UNWRITABLE, Way, cases, failing, held, now, of_no_life,
    panicking, slow, unwritable,
};

#[tokio::test(start_paused = true)]
async fn a_miss_and_then_a_hit() {
    for case in cases(|builder| builder).await {
        case.adds(async || assert_eq!(case.ask(now).await.unwrap(), Some(1)), &LOADED).await;
        let hit = [("l1_hits", case.has_l1()), ("l2_hits", 1 - case.has_l1())];
        case.adds(async || assert_eq!(case.ask(now).await.unwrap(), Some(1)), &hit).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails() {
    for case in cases(|builder| builder.load_timeout(ms(200))).await {
        let loads: [(Load, ErrorKind); 3] = [
            (failing, ErrorKind::Loader),
            (panicking, ErrorKind::LoaderPanicked),
            (slow, ErrorKind::Timeout),
        ];
        for (load, cause) in loads {
            let failed = |event: &Event| matches!(event, Event::LoadFailed { kind, .. } if *kind == cause);
            let fail = async || assert_eq!(case.ask(load).await.unwrap_err().kind(), cause);
            case.adds_and_tells(fail, &FAILED, &[failed]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crowd() {
    for case in cases(|builder| builder).await {
        let crowd =
            async || assert!(join_all((0..10).map(|_| case.ask(slow))).await.iter().all(Result::is_ok));
        case.adds(crowd, &[("misses", 1), ("loads", 1), ("coalesced_waits", 9)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_choice_that_cannot_be() {
    for case in cases(|builder| builder).await {
        let amended = [LOADED[0], LOADED[1], ("amended_choices", 1)];
        let choose = async || assert_eq!(case.ask(of_no_life).await.unwrap(), Some(1));
        let told = |event: &Event| matches!(event, Event::ChoiceAmended { to: Amended::Uncached, .. });
        case.adds_and_tells(choose, &amended, &[told]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_written_or_read() {
    for case in cases(|builder| builder).await {
        let unwritten = [LOADED[0], LOADED[1], ("codec_failures", case.has_l2())];
        let write = async || assert_eq!(case.ask(unwritable).await.unwrap(), Some(UNWRITABLE));
        if case.tiers == Tiers::L1 {
            case.adds(write, &unwritten).await;
            continue;
        }
        let told = |event: &Event| matches!(event, Event::NotEncoded { .. });
        case.adds_and_tells(write, &unwritten, &[told]).await;
        case.cache.invalidate("k").await.unwrap();
        case.other().insert("k", UNREADABLE).await.unwrap();
        let unread = [LOADED[0], LOADED[1], ("unreadable", 1)];
        let read = async || assert_eq!(case.ask(now).await.unwrap(), Some(1));
        let told = |event: &Event| matches!(event, Event::Unreadable { cause: UnreadableCause::Codec, .. });
        case.adds_and_tells(read, &unread, &[told]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_have_expired() {
    for case in cases(|builder| builder.stale_for(MINUTE)).await {
        case.expires().await;
        let excused = [("stale_served", 1), ("loads", 1), ("load_failures", 1)];
        case.adds(async || assert_eq!(case.ask(failing).await.unwrap(), Some(1)), &excused).await;
        case.adds(async || assert_eq!(case.ask(now).await.unwrap(), Some(1)), &[("stale_served", 1)]).await;
    }
    let behind = [("stale_served", 1), ("loads", 1)];
    for case in cases(|builder| builder.stale_for(MINUTE).stale_while_revalidate(true)).await {
        case.expires().await;
        case.adds(async || assert_eq!(case.ask(slow).await.unwrap(), Some(1)), &behind).await;
    }
    for case in cases(|builder| builder.stale_for(MINUTE).soft_timeout(ms(100))).await {
        case.expires().await;
        case.adds(async || assert_eq!(case.ask(slow).await.unwrap(), Some(1)), &behind).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_an_invalidation_meets() {
    for case in cases(|builder| builder).await {
        let overtaken = async || {
            let change = async {
                case.source.begun(1).await;
                case.cache.invalidate("k").await.unwrap();
                case.source.let_go(1);
            };
            assert_eq!(tokio::join!(case.ask(held), change).0.unwrap(), Some(1));
        };
        let met = [
            LOADED[0],
            LOADED[1],
            ("fills_rejected", 1),
            ("invalidations_sent", 1),
            ("invalidations_received", case.has_l2()),
        ];
        case.adds_and_tells(overtaken, &met, &[|event: &Event| matches!(event, Event::FillRejected { .. })])
            .await;
    }
}

/// One call of the loader, and an error for each key that it could not load.
#[tokio::test(start_paused = true)]
async fn keys_of_a_batch_that_fail() {
    for case in cases(|builder| builder).await.into_iter().filter(|case| case.way == Way::Loader) {
        let each = |keys: Vec<String>| async move {
            let load = |key: String| if key == "k" { (key, Ok(1)) } else { (key, Err::<u64, _>(No(1))) };
            keys.into_iter().map(load).collect::<HashMap<_, _>>()
        };
        let load = async || {
            let found =
                case.cache.data_loader_each(each).build().load_many(["k", "l", "m"].map(String::from)).await;
            assert_eq!(found.iter().filter(|found| found.is_err()).count(), 2);
        };
        let failed = [("misses", 3), ("loads", 1), ("load_failures", 2)];
        let mut events = case.cache.subscribe();
        case.adds(load, &failed).await;
        let told = crate::told::told(&mut events);
        let told =
            told.iter().filter(|event| matches!(event, Event::LoadFailed { kind: ErrorKind::Loader, .. }));
        assert_eq!(told.count(), 2);
    }
}

/// Fresh, and to be refreshed soon: whether or not it is refreshed behind the answer, it is a hit.
#[tokio::test(start_paused = true)]
async fn a_value_that_is_to_be_refreshed_soon() {
    for case in cases(|builder| builder.refresh_ahead(100.0)).await {
        assert_eq!(case.ask(slow).await.unwrap(), Some(1));
        tokio::time::sleep(Duration::from_secs(299)).await;
        let before = case.cache.stats();
        assert_eq!(case.cache.get("k").await.unwrap().as_deref(), Some(&1));
        assert_eq!(case.ask(now).await.unwrap(), Some(1));
        let after = case.cache.stats();
        let hits = (after.l1_hits - before.l1_hits, after.l2_hits - before.l2_hits);
        assert_eq!(hits, (2 * case.has_l1(), 2 - 2 * case.has_l1()), "{:?}, {:?}", case.way, case.tiers);
        until("nothing is under way", || case.cache.is_idle()).await;
    }
}

/// Keys that are too long to be cached are loaded all the same.
#[tokio::test(start_paused = true)]
async fn keys_that_are_too_long() {
    let long = "x".repeat(2_000);
    for case in cases(|builder| builder).await {
        let all = |keys: Vec<String>| async move {
            Ok::<_, No>(keys.into_iter().map(|key| (key, 1)).collect::<HashMap<_, _>>())
        };
        let none = |_: Vec<String>| async { Err::<HashMap<String, u64>, _>(No(0)) };
        let load = async || match case.way {
            Way::Loader => drop(case.cache.data_loader(all).build().load(long.clone()).await.unwrap()),
            _ => drop(case.cache.get_many_or_load([long.as_str()], all).await.unwrap()),
        };
        case.adds(load, &LOADED).await;
        let fail = async || match case.way {
            Way::Loader => drop(case.cache.data_loader(none).build().load(long.clone()).await.unwrap_err()),
            _ => drop(case.cache.get_many_or_load([long.as_str()], none).await.unwrap_err()),
        };
        case.adds(fail, &FAILED).await;
        let each = |keys: Vec<String>| async move {
            keys.into_iter().map(|key| (key, Err::<u64, _>(No(1)))).collect::<HashMap<_, _>>()
        };
        let each =
            async || drop(case.cache.data_loader_each(each).build().load(long.clone()).await.unwrap_err());
        case.adds(each, &FAILED).await;
    }
}
