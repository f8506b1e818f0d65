//! What a check costs L2, and how long it holds up others.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_cache_core::testing::{Mutant, No, Source, ms, until};
use async_cache_core::{TieredCache, TieredCacheBuilder, Verify};
use async_cache_memory::MemoryBackend;
use tokio::time::{sleep, timeout};

use super::BOUND;
use crate::stage::Stage;
use crate::tier;

/// A namespace may have tens of thousands of tags. To read them takes L2 a tenth of a second, and a check needs those
/// of one value.
#[tokio::test(start_paused = true)]
async fn a_check_does_not_read_all_tags() {
    let tier = tier();
    let (stage, other) = (Stage::on(&tier), Stage::on(&tier).node().await);
    let node = stage.node_with(|builder| builder.verify(Verify::sample(1.0))).await;
    node.insert("k", 1).tag("t").await.unwrap();
    let before = stage.tables();
    stage.hold_events();
    other.insert("k", 2).await.unwrap();
    node.get("k").await.unwrap();
    until("it is checked", || node.stats().verified_hits == 1).await;
    sleep(2 * BOUND).await;
    assert_eq!(stage.tables(), before);
}

/// The loader of one lookup hangs when it runs again. The hits of other keys are checked meanwhile, and the limit is
/// that of the lookup.
#[tokio::test(start_paused = true)]
async fn a_loader_that_hangs_holds_up_no_other_check() {
    let builder = TieredCache::<u64, u64>::builder().l1(MemoryBackend::new(10)).load_timeout(ms(60_000));
    let verify = Verify::sample(1.0).with_source().same(|a, b| a == b);
    let (cache, row) = (builder.verify(verify).build().unwrap(), Source::new());
    cache.insert_many([(1, 1), (2, 1)]).await.unwrap();
    let hangs = || async { pending::<Result<u64, No>>().await };
    cache.get_or_load(&1, hangs).load_timeout(ms(500)).await.unwrap();
    cache.get_or_load(&2, move || row.now()).await.unwrap();
    let both = async |verified, skipped| {
        until("it is checked", || {
            let stats = cache.stats();
            (stats.verified_hits, stats.verify_skipped) == (verified, skipped)
        })
        .await;
    };
    timeout(ms(100), both(1, 0)).await.expect("the other key is checked at once");
    timeout(ms(500), both(1, 1)).await.expect("the loader that hangs has the limit of its lookup");
}

/// 1. An entry is under suspicion; 2. the loader of another key runs once more; 3. the second look at the entry reads
///    L2, which does not answer. The loader goes on meanwhile: it may hold a connection that others wait for.
#[tokio::test(start_paused = true)]
async fn a_second_look_does_not_stop_a_loader() {
    let stage = Stage::on(&tier());
    let faulty = |builder: TieredCacheBuilder<String, u64>| {
        builder.verify(Verify::sample(1.0).with_source()).mutant(Mutant::ReconnectWithoutFlush)
    };
    let (node, other) = (stage.node_with(faulty).await, stage.beside().node().await);
    node.insert("k", 1).await.unwrap();
    node.insert("suspect", 1).await.unwrap();
    stage.hold_events();
    other.insert("suspect", 2).await.unwrap();
    until("it is on its way", || stage.held_events() > 0).await;
    stage.lose_held_events();
    other.invalidate("another").await.unwrap();
    sleep(ms(500)).await;
    until("the node serves", || node.is_serving()).await;
    assert_eq!(node.get("suspect").await.unwrap().as_deref(), Some(&1), "the node has the fault");
    until("it is checked", || node.stats().verified_hits == 1).await;
    // The second look comes after `max_staleness`, which is a second.
    sleep(ms(900)).await;
    let ended = Arc::new(AtomicUsize::new(0));
    let slow = {
        let ended = Arc::clone(&ended);
        move || async move {
            sleep(ms(400)).await;
            ended.fetch_add(1, Ordering::SeqCst);
            Ok::<_, No>(1)
        }
    };
    node.get_or_load("k", slow).await.unwrap();
    stage.reads_wait();
    stage.a_read_waits().await;
    let loaded = until("the loader has ended", || ended.load(Ordering::SeqCst) == 1);
    timeout(ms(450), loaded).await.expect("it is not stopped");
    stage.reads_go_on();
}
