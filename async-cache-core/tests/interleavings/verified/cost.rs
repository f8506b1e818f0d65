//! What a check costs L2, and how long it holds up others.

use std::future::pending;

use async_cache_core::testing::{No, Source, ms, until};
use async_cache_core::{TieredCache, Verify};
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
