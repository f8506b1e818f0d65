//! Every figure of `Stats`, exactly: what a scenario adds to each, and nothing to any other.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_cache_core::testing::{No, Source, ms, until};
use async_cache_core::{OutagePolicy, Stats};
use async_cache_memory::MemoryBackend;
use futures_util::future::join_all;

use crate::stage::{Cache, Stage};

const MINUTE: Duration = Duration::from_secs(60);

/// The counts that are not zero.
pub(crate) fn figures(stats: &Stats) -> BTreeMap<&'static str, u64> {
    let all = [
        ("l1_hits", stats.l1_hits),
        ("l2_hits", stats.l2_hits),
        ("misses", stats.misses),
        ("loads", stats.loads),
        ("load_failures", stats.load_failures),
        ("coalesced_waits", stats.coalesced_waits),
        ("lease_waits", stats.lease_waits),
        ("stale_served", stats.stale_served),
        ("invalidations_sent", stats.invalidations_sent),
        ("invalidations_received", stats.invalidations_received),
        ("fills_rejected", stats.fills_rejected),
        ("l1_refused", stats.l1_refused),
        ("codec_failures", stats.codec_failures),
        ("amended_choices", stats.amended_choices),
        ("unreadable", stats.unreadable),
        ("unasked_keys", stats.unasked_keys),
        ("l2_errors", stats.l2_errors),
        ("flushes", stats.flushes),
    ];
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Says what a scenario adds to the figures of a node: what is expected, and nothing else.
pub(crate) async fn adds(
    node: &Cache,
    what: impl AsyncFnOnce(),
    expected: &[(&'static str, u64)],
    case: &str,
) -> Stats {
    // What was changed before is heard.
    tokio::time::sleep(ms(5)).await;
    let before = figures(&node.stats());
    what().await;
    until("nothing is under way", || node.is_idle()).await;
    tokio::time::sleep(ms(5)).await;
    let stats = node.stats();
    let mut added = figures(&stats);
    for (name, count) in before {
        *added.get_mut(name).unwrap() -= count;
    }
    added.retain(|_, count| *count > 0);
    let expected = expected.iter().copied().filter(|(_, count)| *count > 0).collect::<BTreeMap<_, _>>();
    assert_eq!(added, expected, "{case}");
    stats
}

/// Two nodes on one tier, the first behind a stage, and a database.
struct World {
    stage: Stage,
    node: Cache,
    other: Cache,
    source: Source,
}

impl World {
    async fn new() -> Self {
        let tier = MemoryBackend::new(1_000);
        let stage = Stage::on(&tier);
        let (node, other) = (stage.node().await, Stage::on(&tier).node().await);
        Self { stage, node, other, source: Source::new() }
    }

    /// A value that has expired and is a fallback, in both tiers.
    async fn expired() -> Self {
        let world = Self::new().await;
        world.node.insert("k", 1).ttl(ms(500)).stale_for(MINUTE).await.unwrap();
        tokio::time::sleep(ms(600)).await;
        world
    }

    async fn adds(&self, what: impl AsyncFnOnce(&Self), expected: &[(&'static str, u64)]) -> Stats {
        adds(&self.node, async || what(self).await, expected, "").await
    }
}

fn none(_: Vec<String>) -> std::future::Ready<Result<HashMap<String, u64>, No>> {
    std::future::ready(Ok(HashMap::new()))
}

const TEN: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

fn all(keys: Vec<String>) -> HashMap<String, u64> {
    keys.into_iter().map(|key| (key, 1)).collect()
}

#[tokio::test(start_paused = true)]
async fn of_lookups_without_a_loader() {
    let world = World::new().await;
    world.adds(async |w| assert_eq!(w.node.get("k").await.unwrap(), None), &[("misses", 1)]).await;
    world.other.insert("k", 1).await.unwrap();
    world.adds(async |w| assert!(w.node.get("k").await.unwrap().is_some()), &[("l2_hits", 1)]).await;
    world.adds(async |w| assert!(w.node.get("k").await.unwrap().is_some()), &[("l1_hits", 1)]).await;
    world.adds(async |w| assert!(w.node.contains("k").await.unwrap()), &[("l1_hits", 1)]).await;
    world.other.insert("l", 1).await.unwrap();
    let many = async |w: &World| drop(w.node.get_many(["k", "l", "m"]).await.unwrap());
    world.adds(many, &[("l1_hits", 1), ("l2_hits", 1), ("misses", 1)]).await;
}

/// A hit that is not a plain one: insisting on a stamp, or where another lookup has landed meanwhile.
#[tokio::test(start_paused = true)]
async fn of_hits_found_by_a_closer_look() {
    let world = World::new().await;
    let stamp = world.node.insert("k", 1).await.unwrap();
    tokio::time::sleep(ms(10)).await;
    let (source, at_least) = (&world.source, &stamp);
    world.adds(async |w| drop(w.node.get("k").at_least(at_least).await.unwrap()), &[("l1_hits", 1)]).await;
    world
        .adds(async |w| drop(w.node.get_many(["k"]).at_least(at_least).await.unwrap()), &[("l1_hits", 1)])
        .await;
    let load = source.clone();
    let one =
        async |w: &World| drop(w.node.get_or_load("k", move || load.now()).at_least(at_least).await.unwrap());
    world.adds(one, &[("l1_hits", 1)]).await;
    let batch =
        async |w: &World| drop(w.node.get_many_or_load(["k"], none).at_least(at_least).await.unwrap());
    world.adds(batch, &[("l1_hits", 1)]).await;
}

#[tokio::test(start_paused = true)]
async fn of_one_load_and_those_who_wait() {
    let world = World::new().await;
    let crowd = async |w: &World| {
        let calls = (0..100).map(|_| {
            let load = w.source.clone();
            w.node.get_or_load("k", move || load.slow(ms(50)))
        });
        assert!(join_all(calls).await.iter().all(Result::is_ok));
    };
    world.adds(crowd, &[("misses", 1), ("loads", 1), ("coalesced_waits", 99)]).await;
}

/// Nobody was answered: no hit among them.
#[tokio::test(start_paused = true)]
async fn of_a_failed_load_and_those_who_wait() {
    let world = World::new().await;
    let crowd = async |w: &World| {
        let calls = (0..100).map(|_| {
            let load = w.source.clone();
            w.node.get_or_load("k", move || load.failing())
        });
        assert!(join_all(calls).await.iter().all(Result::is_err));
    };
    let stats = world.adds(crowd, &[("misses", 100), ("loads", 1), ("load_failures", 1)]).await;
    assert!(stats.hit_rate() < f64::EPSILON, "{}", stats.hit_rate());

    let crowd = async |w: &World| {
        let calls = (0..3).map(|_| {
            let load = w.source.clone();
            w.node
                .get_many_or_load(TEN, move |_| {
                    let load = load.failing();
                    async move { load.await.map(|_| all(vec![])) }
                })
                .into_future()
        });
        assert!(join_all(calls).await.iter().all(Result::is_err));
    };
    world.adds(crowd, &[("misses", 30), ("loads", 1), ("load_failures", 1)]).await;
}

#[tokio::test(start_paused = true)]
async fn of_batches() {
    let world = World::new().await;
    let crowd = async |w: &World| {
        let calls = (0..3).map(|_| {
            let load = w.source.clone();
            let batch = move |keys: Vec<String>| {
                let load = load.slow(ms(50));
                async move { load.await.map(|_| all(keys)) }
            };
            w.node.get_many_or_load(TEN, batch).into_future()
        });
        assert!(join_all(calls).await.iter().all(Result::is_ok));
    };
    world.adds(crowd, &[("misses", 10), ("loads", 1), ("coalesced_waits", 20)]).await;
    let again = async |w: &World| drop(w.node.get_many_or_load(TEN, none).await.unwrap());
    world.adds(again, &[("l1_hits", 10)]).await;
    world.other.insert("stored", 1).await.unwrap();
    let unasked = |_: Vec<String>| async { Ok::<_, No>(all(vec!["unasked".to_owned(), "x".to_owned()])) };
    let mixed = async |w: &World| {
        drop(w.node.get_many_or_load(["stored", "0", "x", "nowhere"], unasked).await.unwrap());
    };
    world
        .adds(mixed, &[("l1_hits", 1), ("l2_hits", 1), ("misses", 2), ("loads", 1), ("unasked_keys", 1)])
        .await;
}

/// Who is answered with a stale value is counted by that, and by nothing else.
#[tokio::test(start_paused = true)]
async fn of_stale_answers() {
    let world = World::expired().await;
    let crowd = async |w: &World| {
        let calls = (0..10).map(|_| {
            let load = w.source.clone();
            w.node.get_or_load("k", move || load.failing())
        });
        assert!(join_all(calls).await.iter().all(Result::is_ok));
    };
    world.adds(crowd, &[("stale_served", 10), ("loads", 1), ("load_failures", 1)]).await;
    let backoff = async |w: &World| {
        let load = w.source.clone();
        w.node.get_or_load("k", move || load.now()).await.unwrap();
    };
    let stats = world.adds(backoff, &[("stale_served", 1)]).await;
    assert!(
        (stats.hit_rate() - 1.0).abs() < f64::EPSILON,
        "a stale answer needed no load: {}",
        stats.hit_rate()
    );

    let world = World::expired().await;
    let crowd = async |w: &World| {
        let calls = (0..10).map(|_| {
            let load = w.source.clone();
            w.node.get_or_load("k", move || load.slow(ms(500))).stale_for(MINUTE).soft_timeout(ms(50))
        });
        assert!(join_all(calls).await.iter().all(Result::is_ok));
    };
    world.adds(crowd, &[("stale_served", 10), ("loads", 1)]).await;

    let world = World::expired().await;
    let crowd = async |w: &World| {
        let calls = (0..10).map(|_| {
            let load = w.source.clone();
            w.node.get_or_load("k", move || load.slow(ms(500))).stale_for(MINUTE).stale_while_revalidate(true)
        });
        assert!(join_all(calls).await.iter().all(Result::is_ok));
    };
    world.adds(crowd, &[("stale_served", 10), ("loads", 1)]).await;
}

#[tokio::test(start_paused = true)]
async fn of_stale_answers_in_batches() {
    let world = World::expired().await;
    let crowd = async |w: &World| {
        let calls = (0..3).map(|_| {
            let load = w.source.clone();
            let batch = move |_: Vec<String>| {
                let load = load.failing();
                async move { load.await.map(|_| all(vec![])) }
            };
            w.node.get_many_or_load(["k"], batch).into_future()
        });
        assert!(join_all(calls).await.iter().all(Result::is_ok));
    };
    world.adds(crowd, &[("stale_served", 3), ("loads", 1), ("load_failures", 1)]).await;

    let world = World::expired().await;
    let batch = |keys: Vec<String>| async { Ok::<_, No>(all(keys)) };
    let behind = async |w: &World| {
        drop(
            w.node
                .get_many_or_load(["k"], batch)
                .stale_for(MINUTE)
                .stale_while_revalidate(true)
                .await
                .unwrap(),
        );
    };
    world.adds(behind, &[("stale_served", 1), ("loads", 1)]).await;
}

/// A node that waits for another's load is answered by L2, and loads nothing.
#[tokio::test(start_paused = true)]
async fn of_a_load_elsewhere() {
    let world = World::new().await;
    let both = async |w: &World| {
        let (theirs, ours) = (w.source.clone(), w.source.clone());
        let other = w.other.get_or_load("k", move || theirs.slow(ms(200)));
        let late = async {
            tokio::time::sleep(ms(50)).await;
            w.node.get_or_load("k", move || ours.now()).await
        };
        let (other, late) = tokio::join!(other, late);
        assert_eq!((*other.unwrap(), *late.unwrap()), (1, 1));
    };
    world.adds(both, &[("l2_hits", 1), ("lease_waits", 1)]).await;

    let failing = async |w: &World| {
        let (theirs, ours) = (w.source.clone(), w.source.clone());
        let other = w.other.get_or_load("m", move || theirs.failing());
        let late = async {
            tokio::time::sleep(ms(50)).await;
            w.node.get_or_load("m", move || ours.now()).await
        };
        let (other, late) = tokio::join!(other, late);
        // The other may find in L2 what was loaded here since.
        assert!(late.is_ok() && other.is_ok_and(|value| *value == 1), "{late:?}");
    };
    world.adds(failing, &[("misses", 1), ("loads", 1), ("lease_waits", 1)]).await;
}

#[tokio::test(start_paused = true)]
async fn of_changes() {
    let world = World::new().await;
    let heard = world.other.stats().invalidations_received;
    let changes = async |w: &World| {
        w.node.insert("k", 1).await.unwrap();
        w.node.insert_many([("a".to_owned(), 1), ("b".to_owned(), 2)]).await.unwrap();
        w.node.invalidate("k").await.unwrap();
        w.node.invalidate_many(["a", "b"]).await.unwrap();
        w.node.invalidate_tag("t").await.unwrap();
        w.node.invalidate_all().await.unwrap();
    };
    world.adds(changes, &[("invalidations_sent", 8), ("invalidations_received", 8)]).await;
    assert_eq!(world.other.stats().invalidations_received - heard, 8);

    let overtaken = async |w: &World| {
        let source = w.source.clone();
        let load = tokio::spawn({
            let node = w.node.clone();
            async move { node.get_or_load("k", move || source.held()).await }
        });
        w.source.begun(1).await;
        w.other.invalidate("k").await.unwrap();
        w.source.let_go(1);
        load.await.unwrap().unwrap();
    };
    let once = [("misses", 1), ("loads", 1), ("fills_rejected", 1), ("invalidations_received", 1)];
    world.adds(overtaken, &once).await;
}

/// One error of L2 for each operation that failed; each lookup still counts once.
#[tokio::test(start_paused = true)]
async fn of_lookups_while_l2_is_away() {
    let world = World::new().await;
    world.node.insert("held", 1).l1_ttl(ms(1)).await.unwrap();
    tokio::time::sleep(ms(10)).await;
    world.stage.reads_fail();
    let gets = async |w: &World| {
        for _ in 0..5 {
            w.node.get("k").await.unwrap_err();
        }
    };
    world.adds(gets, &[("misses", 5), ("l2_errors", 5)]).await;
    let held = async |w: &World| assert!(w.node.get("held").await.unwrap().is_some());
    world.adds(held, &[("stale_served", 1), ("l2_errors", 1)]).await;
    let many = async |w: &World| assert_eq!(w.node.get_many(["held"]).await.unwrap().len(), 1);
    world.adds(many, &[("stale_served", 1), ("l2_errors", 1)]).await;
    let many = async |w: &World| drop(w.node.get_many(["held", "k"]).await.unwrap_err());
    world.adds(many, &[("misses", 2), ("l2_errors", 1)]).await;
    let load = async |w: &World| {
        let source = w.source.clone();
        w.node.get_or_load("loaded", move || source.now()).await.unwrap();
    };
    world.adds(load, &[("misses", 1), ("loads", 1), ("l2_errors", 1)]).await;
}

#[tokio::test(start_paused = true)]
async fn of_lookups_that_may_not_do_without_l2() {
    let stage = Stage::on(&MemoryBackend::new(1_000));
    let node = stage.node_with(|builder| builder.outage(OutagePolicy::Fail)).await;
    stage.reads_fail();
    let source = Source::new();
    let calls = (0..10).map(|_| {
        let load = source.clone();
        node.get_or_load("k", move || load.now())
    });
    assert!(join_all(calls).await.iter().all(Result::is_err));
    let stats = node.stats();
    assert_eq!((stats.misses, stats.loads, stats.coalesced_waits), (10, 0, 0), "{stats:?}");
    assert!(stats.hit_rate() < f64::EPSILON && stats.l2_errors >= 1);
}
