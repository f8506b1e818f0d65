//! Joining what is under way: never what is older than a lookup insists on, and never for ever.

use std::collections::HashMap;

use async_cache_core::testing::{No, Source, ms, until};
use tokio::time::Instant;

use crate::stage::{Holder, Stage};
use crate::{key, tier};

/// 1. a get that insists on a stamp loads version 1; 2. version 2 is committed and invalidated elsewhere, which this
///    node has not heard of yet; 3. a get here insists on the stamp of that.
#[tokio::test(start_paused = true)]
async fn a_load_from_before_the_stamp_is_not_joined() {
    for many in [false, true] {
        let tier = tier();
        let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
        let (node, source) = (stage.node().await, Source::new());
        let first = node.invalidate("k").await.unwrap();
        stage.hold_events();
        let old = tokio::spawn({
            let (node, source) = (node.clone(), source.clone());
            async move { node.get_or_load("k", move || source.held()).at_least(&first).await }
        });
        source.begun(1).await;
        source.write();
        let second = other.invalidate("k").await.unwrap();
        let new = tokio::spawn({
            let (node, source) = (node.clone(), source.clone());
            let batch = source.clone();
            let all = move |_: Vec<String>| async move {
                batch.now().await.map(|value| HashMap::from([("k".to_owned(), value)]))
            };
            async move {
                if many {
                    let found = node.get_many_or_load(["k"], all).at_least(&second).await.unwrap();
                    return **found[0].as_ref().unwrap();
                }
                *node.get_or_load("k", move || source.now()).at_least(&second).await.unwrap()
            }
        });
        tokio::time::sleep(ms(50)).await;
        source.let_go(1);
        assert_eq!(*old.await.unwrap().unwrap(), 1);
        assert_eq!(new.await.unwrap(), 2, "many: {many}");
    }
}

/// 1. a get asks L2, and is cancelled before the answer; 2. others have joined it: one of them goes on at once.
#[tokio::test(start_paused = true)]
async fn who_joined_a_lookup_that_was_cancelled_goes_on_at_once() {
    let stage = Stage::on(&tier());
    let (node, source) = (stage.node().await, Source::new());
    stage.hold_events();
    tokio::time::sleep(ms(1_001)).await;
    assert!(!node.is_serving(), "L2 judges what is read from it");
    stage.answers_are_late();
    let get = || {
        let (node, source) = (node.clone(), source.clone());
        tokio::spawn(async move { node.get_or_load("k", move || source.now()).await })
    };
    let leader = get();
    stage.an_answer_is_on_its_way().await;
    let joined = [get(), get()];
    tokio::time::sleep(ms(10)).await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    let begun = Instant::now();
    tokio::time::sleep(ms(10)).await;
    stage.answers_arrive();
    for joined in joined {
        assert_eq!(*joined.await.unwrap().unwrap(), 1);
    }
    assert!(begun.elapsed() < ms(50), "{:?}", begun.elapsed());
    assert_eq!(source.loads(), 1);
}

/// While most lookups find nothing in L2, it is asked for the lease at once: one question less. Found again, values
/// are read first again.
#[tokio::test(start_paused = true)]
async fn a_cold_key_is_not_read_first_while_nothing_is_found() {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let node = stage.node().await;
    let ask = async |key: String| {
        node.get_or_load(&key, || async { Ok::<_, No>(1) }).await.unwrap();
    };
    for n in 0..100 {
        ask(format!("cold {n}")).await;
    }
    let reads = stage.reads();
    assert!((20..60).contains(&reads), "{reads} of the first hundred were read first");
    ask("cold".to_owned()).await;
    assert_eq!(stage.reads(), reads);

    for n in 0..60 {
        other.insert(&format!("warm {n}"), 1).await.unwrap();
    }
    for n in 0..60 {
        ask(format!("warm {n}")).await;
    }
    let reads = stage.reads();
    ask("colder".to_owned()).await;
    assert_eq!(stage.reads(), reads + 1);
}

/// A batch takes longer than a lease lives: what it loads is stored all the same.
#[tokio::test(start_paused = true)]
async fn leases_are_kept_alive_for_as_long_as_a_load_runs() {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    for node in [stage.node().await, stage.bare_node()] {
        let slow = |value: u64| async move {
            tokio::time::sleep(ms(1_000)).await;
            Ok::<_, No>(value)
        };
        let all = move |keys: Vec<String>| async move {
            slow(1).await.map(|one| keys.into_iter().map(|key| (key, one)).collect::<HashMap<_, _>>())
        };
        node.get_or_load("one", move || slow(1)).lease_ttl(ms(100)).await.unwrap();
        node.get_many_or_load(["two", "three"], all).lease_ttl(ms(100)).await.unwrap();
        assert_eq!(node.stats().fills_rejected, 0);
        for key in ["one", "two", "three"] {
            assert_eq!(other.get(key).await.unwrap().as_deref(), Some(&1), "{key}");
        }
        other.invalidate_all().await.unwrap();
        node.shutdown().await;
    }
}

/// 1. a get waits for another node's load, and has come to ask rarely; 2. the bus is lost; 3. the load ends: nobody
///    tells the get, which asks often from 2 on.
#[tokio::test(start_paused = true)]
async fn who_waits_asks_often_once_no_wake_up_will_come() {
    for many in [false, true] {
        let mut took = Vec::new();
        for _ in 0..10 {
            let tier = tier();
            let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
            let node = stage.node().await;
            let mut holder = Holder::beside(&stage);
            other.insert("k", 1).await.unwrap();
            let value = holder.frame(&key()).await;
            other.invalidate("k").await.unwrap();
            let lease = holder.lease(&key()).await;
            let waiting = tokio::spawn({
                let node = node.clone();
                let all = |_: Vec<String>| async { Err::<HashMap<String, u64>, _>(No(0)) };
                async move {
                    if many {
                        drop(node.get_many_or_load(["k"], all).await.unwrap());
                    } else {
                        drop(node.get_or_load("k", || async { Err::<u64, _>(No(0)) }).await.unwrap());
                    }
                }
            });
            until("it waits", || node.stats().lease_waits == 1).await;
            tokio::time::sleep(ms(700)).await;
            stage.loses_the_bus();
            stage.hold_events();
            tokio::time::sleep(ms(30)).await;
            holder.fill(&key(), lease, &value).await;
            let begun = Instant::now();
            waiting.await.unwrap();
            took.push(begun.elapsed());
        }
        // It asks after 10, 20 and 40 ms; otherwise after 250.
        took.sort_unstable();
        assert!(took[9] < ms(80), "many: {many}: {took:?}");
    }
}
