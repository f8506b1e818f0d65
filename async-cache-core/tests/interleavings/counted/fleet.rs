//! What other nodes and the shared tier add: waits, changes, outages; and lookups without a loader.

use async_cache_core::testing::{ms, until};

use super::{LOADED, Tiers, cases, failing, held_and_failing, now};
use crate::key;
use crate::stage::Holder;

/// Another caller has stored a value meanwhile: it answers in the place of the failure.
#[tokio::test(start_paused = true)]
async fn a_load_that_fails_where_there_is_a_value_by_then() {
    for case in cases(|builder| builder).await {
        let overtaken = async || {
            let change = async {
                case.source.begun(1).await;
                case.cache.insert("k", 7).await.unwrap();
                case.source.let_go(1);
            };
            assert_eq!(tokio::join!(case.ask(held_and_failing), change).0.unwrap(), Some(7));
        };
        let found = [
            ("l1_hits", case.has_l1()),
            ("l2_hits", 1 - case.has_l1()),
            ("loads", 1),
            ("load_failures", 1),
            ("invalidations_sent", 1),
            ("invalidations_received", case.has_l2()),
        ];
        case.adds(overtaken, &found).await;
    }
}

/// Another node loads: its value answers here, or it takes too long.
#[tokio::test(start_paused = true)]
async fn a_load_of_another_node() {
    for case in cases(|builder| builder.wait_timeout(ms(500))).await {
        if case.tiers == Tiers::L1 {
            continue;
        }
        let other = case.other();
        other.insert("k", 1).await.unwrap();
        let mut holder = Holder::beside(&case.stage);
        let value = holder.frame(&key()).await;
        other.invalidate("k").await.unwrap();
        let lease = holder.lease(&key()).await;
        let filled = async || {
            let fill = async {
                until("it waits", || case.cache.stats().lease_waits == 1).await;
                holder.fill(&key(), lease, &value).await;
            };
            assert_eq!(tokio::join!(case.ask(failing), fill).0.unwrap(), Some(1));
        };
        case.adds(filled, &[("l2_hits", 1), ("lease_waits", 1)]).await;

        other.invalidate("k").await.unwrap();
        let _lease = holder.lease(&key()).await;
        let impatient = [LOADED[0], LOADED[1], ("lease_waits", 1), ("fills_rejected", 1)];
        case.adds(async || assert_eq!(case.ask(now).await.unwrap(), Some(1)), &impatient).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_l2_has_no_room_for() {
    for case in cases(|builder| builder).await {
        if case.tiers == Tiers::L1 {
            continue;
        }
        case.stage.is_full();
        let full = [LOADED[0], LOADED[1], ("fills_rejected", 1)];
        case.adds(async || assert_eq!(case.ask(now).await.unwrap(), Some(1)), &full).await;
    }
}

/// One error of L2 for each question that failed, and one lookup.
#[tokio::test(start_paused = true)]
async fn a_load_while_l2_is_away() {
    for case in cases(|builder| builder).await {
        if case.tiers == Tiers::L1 {
            continue;
        }
        case.stage.reads_fail();
        let away = [LOADED[0], LOADED[1], ("l2_errors", 1)];
        case.adds(async || assert_eq!(case.ask(now).await.unwrap(), Some(1)), &away).await;
    }
}

/// The same of verbs without a loader: of one key, and of two.
#[tokio::test(start_paused = true)]
async fn lookups_without_a_loader() {
    let two = ["k".to_owned(), "l".to_owned()];
    for case in cases(|builder| builder).await {
        let get = async || drop(case.cache.get("k").await.unwrap());
        let contains = async || _ = case.cache.contains("k").await.unwrap();
        let get_many = async || drop(case.cache.get_many(two.iter()).await.unwrap());
        case.adds(get, &[("misses", 1)]).await;
        case.adds(contains, &[("misses", 1)]).await;
        case.adds(get_many, &[("misses", 2)]).await;

        case.cache.insert_many(two.clone().map(|key| (key, 1))).await.unwrap();
        let hits =
            |count: u64| [("l1_hits", count * case.has_l1()), ("l2_hits", count * (1 - case.has_l1()))];
        case.adds(get, &hits(1)).await;
        case.adds(contains, &hits(1)).await;
        case.adds(get_many, &hits(2)).await;

        // It has expired, and is a fallback: of no use here.
        case.expires().await;
        case.adds(get, &[("misses", 1)]).await;
        case.adds(get_many, &[("misses", 1), hits(1)[0], hits(1)[1]]).await;

        if case.tiers != Tiers::L1 {
            case.cache.invalidate_all().await.unwrap();
            case.stage.reads_fail();
            case.adds(
                async || drop(case.cache.get("k").await.unwrap_err()),
                &[("misses", 1), ("l2_errors", 1)],
            )
            .await;
            let many = async || drop(case.cache.get_many(two.iter()).await.unwrap_err());
            case.adds(many, &[("misses", 2), ("l2_errors", 1)]).await;
        }
    }
}

/// What is heard of another node's changes, of one's own, and of what was missed.
#[tokio::test(start_paused = true)]
async fn changes_heard_and_missed() {
    for case in cases(|builder| builder).await.into_iter().filter(|case| case.tiers == Tiers::Both) {
        let other = case.other();
        for _ in 0..2 {
            let keys = async || drop(other.invalidate_many(["a", "b"]).await.unwrap());
            case.adds(keys, &[("invalidations_received", 2)]).await;
            case.adds(
                async || drop(other.invalidate_tag("t").await.unwrap()),
                &[("invalidations_received", 1)],
            )
            .await;
            case.adds(async || drop(other.invalidate_all().await.unwrap()), &[("invalidations_received", 1)])
                .await;
            case.adds(async || drop(other.insert("k", 1).await.unwrap()), &[("invalidations_received", 1)])
                .await;
        }
        let missed = async || {
            case.stage.hold_events();
            other.invalidate("a").await.unwrap();
            until("it is on the way", || case.stage.held_events() > 0).await;
            case.stage.lose_held_events();
            other.invalidate("b").await.unwrap();
            until("it is missed", || case.cache.stats().flushes > 0).await;
        };
        case.adds(missed, &[("invalidations_received", 1), ("flushes", 1)]).await;
    }
}
