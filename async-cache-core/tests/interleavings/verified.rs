//! The verifier: what it reports of a node with a fault, and that it reports nothing of a sound one.

mod cost;
mod numbers;
mod tags;

use std::collections::HashMap;
use std::time::Duration;

use async_cache_core::testing::{Mutant, No, Source, ms, until};
use async_cache_core::{
    ErrorKind, Event, EventStream, Evidence, Knowledge, TieredCache, TieredCacheBuilder, Verify,
};
use async_cache_memory::MemoryBackend;
use tokio::time::{Instant, sleep};

use crate::stage::{Cache, Stage};
use crate::tier;
use crate::told::told;

/// The bound of these nodes, and a little more.
const BOUND: Duration = Duration::from_millis(1_100);

/// What was reported since the last look.
fn reports(events: &mut EventStream) -> Vec<(Evidence, Knowledge)> {
    let reports = told(events).into_iter();
    let report = |event| {
        if let Event::StaleHit { evidence, knew, .. } = event { Some((evidence, knew)) } else { None }
    };
    reports.filter_map(report).collect()
}

async fn node(stage: &Stage, mutant: Option<Mutant>) -> Cache {
    let options = |builder: TieredCacheBuilder<String, u64>| {
        let builder = builder.verify(Verify::sample(1.0));
        match mutant {
            Some(mutant) => builder.mutant(mutant),
            None => builder,
        }
    };
    stage.node_with(options).await
}

/// Every kind of change, made here and elsewhere, and hits after each.
#[tokio::test(start_paused = true)]
async fn of_a_sound_node_nothing_is_reported() {
    let stage = Stage::on(&tier());
    let (node, other, row) = (node(&stage, None).await, stage.beside().node().await, Source::new());
    let mut events = node.subscribe();
    for turn in 0..60 {
        let by = if turn % 2 == 0 { &node } else { &other };
        row.write();
        match turn % 5 {
            0 => drop(by.invalidate("k").await.unwrap()),
            1 => drop(by.invalidate_tag("t").await.unwrap()),
            2 => drop(by.invalidate_all().await.unwrap()),
            3 => drop(by.insert("k", row.version()).await.unwrap()),
            _ => {
                let row = row.clone();
                by.refresh("k", move || row.now()).await.unwrap();
            }
        }
        for _ in 0..5 {
            let row = row.clone();
            node.get_or_load("k", move || row.now()).tag("t").await.unwrap();
            sleep(ms(300)).await;
        }
    }
    sleep(BOUND).await;
    let stats = node.stats();
    assert_eq!(reports(&mut events), []);
    assert_eq!((stats.stale_hits, stats.suspected_hits), (0, 0));
    assert!(stats.verified_hits > 100, "{stats:?}");
    assert!(stats.l1_hits > 200, "hits that are sampled are counted as any: {stats:?}");
}

/// 1. A read is on its way; 2. the node receives an invalidation of the key; 3. the old value arrives, and a node
///    without the check stores it.
#[tokio::test(start_paused = true)]
async fn a_change_that_the_node_had_received() {
    let stage = Stage::on(&tier());
    let (node, other) = (node(&stage, Some(Mutant::NoStamp)).await, stage.beside().node().await);
    let mut events = node.subscribe();
    other.insert("k", 1).await.unwrap();
    until("it has heard of it", || node.stats().invalidations_received == 1).await;
    stage.answers_are_late();
    let reads = node.clone();
    let read = tokio::spawn(async move { reads.get_many(&["k".to_owned(), "l".to_owned()]).await });
    stage.an_answer_is_on_its_way().await;
    other.invalidate("k").await.unwrap();
    until("it has heard of that, too", || node.stats().invalidations_received == 2).await;
    stage.answers_arrive();
    read.await.unwrap().unwrap();
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1), "the node has the fault");
    sleep(2 * BOUND).await;
    let reports = reports(&mut events);
    let [(Evidence::ChangeReceived, knew)] = reports[..] else { panic!("{reports:?}") };
    assert!(knew.reflects < knew.applied && knew.serving_lease_age < ms(600), "{knew:?}");
    assert_eq!((node.stats().stale_hits, node.stats().suspected_hits), (1, 0));
}

/// 1. A read is on its way; 2. this node invalidates the key; 3. the old value arrives, and a node without the check
///    stores it.
async fn stores_what_it_has_voided(stage: &Stage) -> (Cache, Cache) {
    let (node, other) = (node(stage, Some(Mutant::NoStamp)).await, stage.beside().node().await);
    other.insert("k", 1).await.unwrap();
    until("it has heard of it", || node.stats().invalidations_received == 1).await;
    stage.answers_are_late();
    let reads = node.clone();
    let read = tokio::spawn(async move { reads.get_many(&["k".to_owned(), "l".to_owned()]).await });
    stage.an_answer_is_on_its_way().await;
    node.invalidate("k").await.unwrap();
    until("it has heard of that, too", || node.stats().invalidations_received == 2).await;
    stage.answers_arrive();
    read.await.unwrap().unwrap();
    sleep(ms(10)).await;
    (node, other)
}

/// It is reported at once. Nothing is left to answer at a second look.
#[tokio::test(start_paused = true)]
async fn a_change_that_this_node_had_made() {
    let stage = Stage::on(&tier());
    let (node, _other) = stores_what_it_has_voided(&stage).await;
    let mut events = node.subscribe();
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1), "the node has the fault");
    sleep(ms(50)).await;
    let reports = reports(&mut events);
    let [(Evidence::ChangeReturned, knew)] = reports[..] else { panic!("{reports:?}") };
    assert!(knew.reflects < knew.reached, "{knew:?}");
    assert_eq!((node.stats().stale_hits, node.stats().suspected_hits), (1, 0));
}

/// An L2 that has gone back to an older memory has a floor above the change. So has one that was cleared since.
#[tokio::test(start_paused = true)]
async fn a_change_that_l2_may_have_lost_proves_nothing() {
    let stage = Stage::on(&tier());
    let (node, other) = stores_what_it_has_voided(&stage).await;
    let mut events = node.subscribe();
    stage.hold_events();
    other.invalidate_all().await.unwrap();
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1), "the node has the fault");
    sleep(2 * BOUND).await;
    assert_eq!(reports(&mut events), []);
}

/// The clock of the server was far ahead, and was set back. An L2 that is emptied then begins with lower numbers.
#[tokio::test(start_paused = true)]
async fn a_change_that_l2_has_not_reached_proves_nothing() {
    let stage = Stage::on(&tier());
    let (node, _other) = stores_what_it_has_voided(&stage).await;
    let mut events = node.subscribe();
    stage.numbers_begin_again();
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1), "the node has the fault");
    sleep(ms(50)).await;
    assert_eq!(reports(&mut events), []);
}

/// 1. An invalidation is lost on the way; 2. a node that does not compare numbers goes on.
#[tokio::test(start_paused = true)]
async fn a_change_that_the_node_did_not_know_of() {
    let stage = Stage::on(&tier());
    let mutant = Mutant::HeartbeatWithoutSequenceCheck;
    let (node, other) = (node(&stage, Some(mutant)).await, stage.beside().node().await);
    let mut events = node.subscribe();
    other.insert("k", 1).await.unwrap();
    node.get("k").await.unwrap();
    stage.hold_events();
    other.invalidate("k").await.unwrap();
    until("it is on its way", || stage.held_events() > 0).await;
    stage.lose_held_events();
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1));
    sleep(2 * BOUND).await;
    let reports = reports(&mut events);
    let [(Evidence::ChangeUnknown, knew)] = reports[..] else { panic!("{reports:?}") };
    assert!(knew.applied < knew.reached, "{knew:?}");
}

/// The same, and the next change shows that one was missed. A node that does not verify its L1 then goes on.
async fn misses_a_change(lost: impl AsyncFnOnce(&Cache)) -> (Cache, Cache, EventStream) {
    let stage = Stage::on(&tier());
    let mutant = Mutant::ReconnectWithoutFlush;
    let (node, other) = (node(&stage, Some(mutant)).await, stage.beside().node().await);
    let events = node.subscribe();
    other.insert("k", 1).tag("t").await.unwrap();
    node.get("k").await.unwrap();
    stage.hold_events();
    lost(&other).await;
    until("it is on its way", || stage.held_events() > 0).await;
    stage.lose_held_events();
    other.invalidate("another").await.unwrap();
    sleep(ms(500)).await;
    until("the node serves", || node.is_serving()).await;
    assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&1), "the node has the fault");
    (node, other, events)
}

#[tokio::test(start_paused = true)]
async fn a_clear() {
    let (_node, _other, mut events) =
        misses_a_change(async |other| drop(other.invalidate_all().await.unwrap())).await;
    sleep(2 * BOUND).await;
    let reports = reports(&mut events);
    assert!(matches!(reports[..], [(Evidence::Cleared, _)]), "{reports:?}");
}

/// Nothing that is left in L2 proves the invalidation of a key. That another value is there is a suspicion.
#[tokio::test(start_paused = true)]
async fn another_value_in_l2() {
    let (node, _other, mut events) =
        misses_a_change(async |other| drop(other.insert("k", 2).await.unwrap())).await;
    sleep(2 * BOUND).await;
    let reports = reports(&mut events);
    assert!(matches!(reports[..], [(Evidence::L2Differs, _)]), "{reports:?}");
    assert_eq!((node.stats().stale_hits, node.stats().suspected_hits), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_tag() {
    let lost = async |other: &Cache| drop(other.invalidate_tag("t").await.unwrap());
    let (_node, _other, mut events) = misses_a_change(lost).await;
    sleep(2 * BOUND).await;
    let reports = reports(&mut events);
    assert!(matches!(reports[..], [(Evidence::TagInvalidated, _)]), "{reports:?}");
}

/// Nobody invalidates the key. The loader of the lookup itself shows that.
#[tokio::test(start_paused = true)]
async fn a_source_that_changed_without_an_invalidation() {
    for l2 in [true, false] {
        let builder = TieredCache::<u64, u64>::builder().namespace("rows").l1(MemoryBackend::new(10));
        let builder = if l2 { builder.l2(MemoryBackend::new(10)) } else { builder };
        let verify = Verify::sample(1.0).with_source().same(|a, b| a == b);
        let (cache, row) = (builder.verify(verify).build().unwrap(), Source::new());
        cache.ready().await.unwrap();
        let mut events = cache.subscribe();
        let get = async || {
            let row = row.clone();
            *cache.get_or_load(&1, move || row.now()).await.unwrap()
        };
        let first = (get().await, get().await);
        sleep(2 * BOUND).await;
        assert_eq!(reports(&mut events), [], "L2 {l2}: the source agrees");
        assert_eq!(row.loads(), 2, "L2 {l2}: the loader of the sampled hit ran once more");
        row.write();
        assert_eq!((first.0, get().await), (first.1, first.0));
        sleep(2 * BOUND).await;
        let reports = reports(&mut events);
        assert!(matches!(reports[..], [(Evidence::SourceDiffers, _)]), "L2 {l2}: {reports:?}");
        assert_eq!(cache.stats().suspected_hits, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_is_checked_than_the_limit_allows() {
    let stage = Stage::on(&tier());
    let node = stage.node_with(|builder| builder.verify(Verify::sample(1.0).per_second(10))).await;
    node.insert("k", 1).await.unwrap();
    for _ in 0..5_000 {
        node.get("k").await.unwrap();
        tokio::task::yield_now().await;
    }
    sleep(Duration::from_secs(3)).await;
    let stats = node.stats();
    assert!((25..=35).contains(&stats.verified_hits), "{stats:?}");
    assert!(stats.verify_skipped > 4_000, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn only_the_share_is_sampled() {
    let stage = Stage::on(&tier());
    let verify = Verify::sample(0.01).per_second(10_000);
    let node = stage.node_with(|builder| builder.verify(verify)).await;
    node.insert("k", 1).await.unwrap();
    for _ in 0..20_000 {
        node.get("k").await.unwrap();
    }
    sleep(BOUND).await;
    let stats = node.stats();
    let sampled = stats.verified_hits + stats.verify_skipped;
    assert!((100..=350).contains(&sampled), "200 of 20,000: {sampled}");
}

/// Lookups that are traced or have a stamp do not end as a hit at once. They are sampled all the same.
#[tokio::test(start_paused = true)]
async fn every_kind_of_lookup_is_sampled() {
    let stage = Stage::on(&tier());
    let node = stage.node_with(|builder| builder.verify(Verify::sample(1.0).per_second(10_000))).await;
    let stamp = node.invalidate("k").await.unwrap();
    node.insert("k", 1).await.unwrap();
    let load = || async { Ok::<_, No>(1) };
    let mut sampled = 0;
    let mut more = async |lookup: &str, times: u64| {
        sleep(ms(50)).await;
        let stats = node.stats();
        let before = std::mem::replace(&mut sampled, stats.verified_hits + stats.verify_skipped);
        assert_eq!(sampled - before, times, "{lookup}");
    };
    for _ in 0..5 {
        assert_eq!(node.get("k").traced().await.unwrap().source, async_cache_core::Source::L1);
    }
    more("a traced get", 5).await;
    for _ in 0..5 {
        assert_eq!(node.get_or_load("k", load).traced().await.unwrap().source, async_cache_core::Source::L1);
    }
    more("a traced lookup with a loader", 5).await;
    for _ in 0..5 {
        node.get("k").at_least(&stamp).await.unwrap();
        node.get_or_load("k", load).at_least(&stamp).await.unwrap();
    }
    more("lookups with a stamp", 10).await;
    for _ in 0..5 {
        node.get("k").skip_l1().await.unwrap();
        node.refresh("k", load).await.unwrap();
    }
    more("lookups that are no hits", 0).await;
    node.get("k").await.unwrap();
    more("a hit at once", 1).await;
}

/// Lookups of many keys and data loaders are not sampled. They answer as without a verifier, and the next lookup of
/// this thread is not chosen in their place.
#[tokio::test(start_paused = true)]
async fn lookups_of_many_keys_leave_the_verifier_no_choice() {
    let stage = Stage::on(&tier());
    let node = stage.node_with(|builder| builder.verify(Verify::sample(1.0))).await;
    let rare = Stage::on(&tier()).node_with(|builder| builder.verify(Verify::sample(1e-9))).await;
    node.insert("k", 1).await.unwrap();
    rare.insert("k", 1).await.unwrap();
    let batch = |_: Vec<String>| async { Ok::<_, No>(HashMap::<String, u64>::new()) };
    let loader = node.data_loader(batch).delay(Duration::from_secs(1)).build();
    let begun = Instant::now();
    assert_eq!(loader.load("k".to_owned()).await.unwrap().as_deref(), Some(&1));
    assert_eq!(begun.elapsed(), Duration::ZERO, "a hit waits for no batch");
    rare.get("k").traced().await.unwrap();
    node.get_many(&["k".to_owned()]).await.unwrap();
    rare.get("k").traced().await.unwrap();
    node.get_many_or_load(&["k".to_owned()], batch).await.unwrap();
    rare.get("k").traced().await.unwrap();
    sleep(BOUND).await;
    for cache in [&node, &rare] {
        let stats = cache.stats();
        assert_eq!((stats.verified_hits, stats.verify_skipped), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_verified_is_refused_with_a_remedy() {
    fn refused(builder: TieredCacheBuilder<u64, u64>, verify: Verify<u64>) -> String {
        let error = builder.namespace("rows").verify(verify).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }
    let both = || TieredCache::builder().l1(MemoryBackend::new(10)).l2(MemoryBackend::new(10));
    let l1 = || TieredCache::builder().l1(MemoryBackend::new(10));
    for share in [0.0, -1.0, 1.5, f64::NAN] {
        assert!(refused(both(), Verify::sample(share)).contains("above 0 and at most 1"), "{share}");
    }
    assert!(refused(both(), Verify::sample(0.1).per_second(0)).contains("1 to 10,000"));
    assert!(
        refused(TieredCache::builder().l2(MemoryBackend::new(10)), Verify::sample(0.1))
            .contains("without an L1")
    );
    assert!(refused(l1(), Verify::sample(0.1)).contains("with_source"));
    assert!(refused(l1(), Verify::sample(0.1).with_source()).contains(".same("));
}
