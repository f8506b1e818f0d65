//! The shared state of nodes: values, absences, revalidation, stamps.

use std::time::Duration;

use async_cache::testing::{No, Source, ms, until};
use async_cache::{MemoryBackend, TieredCache};
use futures_util::future::join_all;
use integration_tests::fleet::Fleet;
use integration_tests::on_both_tiers;

/// A value that one node loads is read by another from L2, and then from L1.
async fn a_value_is_loaded_once_for_all(fleet: Fleet) {
    let (one, two) = (fleet.node().await, fleet.node().await);
    let source = Source::new();
    for node in [&one, &two, &two] {
        let load = source.clone();
        assert_eq!(*node.get_or_load("k", move || load.now()).await.unwrap(), 1);
    }
    assert_eq!(source.loads(), 1);
    let stats = two.stats();
    assert_eq!((stats.l2_hits, stats.l1_hits, stats.loads), (1, 1, 0), "{stats:?}");
}

/// A thousand tasks on two nodes ask for one cold key.
async fn one_load_in_the_fleet(fleet: Fleet) {
    let nodes = [fleet.node().await, fleet.node().await];
    let source = Source::new();
    let tasks = (0..1000).map(|n: usize| {
        let (node, source) = (nodes[n % 2].clone(), source.clone());
        tokio::spawn(async move { node.get_or_load("k", move || source.slow(ms(100))).await })
    });
    for outcome in join_all(tasks).await {
        assert_eq!(*outcome.unwrap().unwrap(), 1);
    }
    assert_eq!(source.loads(), 1);
    assert_eq!(nodes[0].stats().lease_waits + nodes[1].stats().lease_waits, 1);
}

/// An absence is shared, too. An empty answer of `get` is not an absence.
async fn an_absence_is_shared(fleet: Fleet) {
    let (one, two) = (fleet.node().await, fleet.node().await);
    let source = Source::new();
    let absent = |source: &Source| {
        let source = source.clone();
        move || async move { source.now().await.map(|_| None::<u64>) }
    };
    for node in [&one, &two, &one, &two] {
        assert_eq!(node.get("k").await.unwrap(), None);
        assert_eq!(node.get_or_load_optional("k", absent(&source)).await.unwrap(), None);
    }
    assert_eq!(source.loads(), 1);
    two.insert("k", 7).await.unwrap();
    until("the node has heard", || one.stats().invalidations_received > 0).await;
    assert_eq!(one.get_or_load_optional("k", absent(&source)).await.unwrap().as_deref(), Some(&7));
}

/// The inserting node sees the value at once. Other nodes see it at once with the stamp, and otherwise when the
/// message has arrived. The inserting node keeps it in L1 although it receives its own message.
async fn an_insert_reaches_every_node(fleet: Fleet) {
    let (one, two) = (fleet.node().await, fleet.node().await);
    one.insert("k", 1).await.unwrap();
    assert_eq!(two.get("k").await.unwrap().as_deref(), Some(&1));
    let stamp = one.insert("k", 2).await.unwrap();
    assert_eq!(one.get("k").await.unwrap().as_deref(), Some(&2));
    assert_eq!(two.get("k").at_least(&stamp).await.unwrap().as_deref(), Some(&2));
    until("both have heard", || {
        one.stats().invalidations_received == 2 && two.stats().invalidations_received == 2
    })
    .await;
    let before = one.stats();
    assert_eq!(one.get("k").await.unwrap().as_deref(), Some(&2));
    assert_eq!(one.stats().l1_hits, before.l1_hits + 1, "the insert stayed in L1");
    assert_eq!(two.get("k").await.unwrap().as_deref(), Some(&2));
}

/// The stamp of a clear also works, and so does its text form.
async fn a_stamp_of_a_clear_voids_l1_and_l2(fleet: Fleet) {
    let (one, two) = (fleet.node().await, fleet.node().await);
    one.insert("k", 1).await.unwrap();
    assert_eq!(two.get("k").await.unwrap().as_deref(), Some(&1));
    let stamp = one.invalidate_all().await.unwrap();
    let carried: async_cache::Stamp = stamp.to_string().parse().unwrap();
    assert_eq!(two.get("k").at_least(&carried).await.unwrap(), None);
    assert_eq!(two.get_many(["k"]).at_least(&carried).await.unwrap(), [None]);
    assert_eq!(one.get("k").await.unwrap(), None);
    let foreign = "others@0:1".parse().unwrap();
    let error = two.get("k").at_least(&foreign).await.unwrap_err();
    assert_eq!(error.kind(), async_cache::ErrorKind::Config);
}

/// `get_many` returns values of L1 and L2 and missing ones, in the order of the keys.
async fn many_keys_from_both_tiers(fleet: Fleet) {
    let (one, two) = (fleet.node().await, fleet.node().await);
    one.insert_many((0..100).map(|n| (format!("k{n}"), n))).await.unwrap();
    // A value that is read before the message of its insert is not kept in L1.
    until("the other node has heard", || two.stats().invalidations_received == 100).await;
    assert!(two.contains("k7").await.unwrap());
    let names: Vec<String> = (0..120).rev().map(|n| format!("k{n}")).collect();
    let answers = two.get_many(names.iter().map(String::as_str)).await.unwrap();
    for (n, answer) in (0..120).rev().zip(answers) {
        assert_eq!(answer.as_deref().copied(), (n < 100).then_some(n));
    }
    let stats = two.stats();
    assert_eq!((stats.l1_hits, stats.l2_hits, stats.misses), (1, 100, 20), "{stats:?}");
}

/// An insert of thousands of values takes longer than the limit of one command, and succeeds.
async fn an_insert_of_very_many(fleet: Fleet) {
    const MANY: u64 = 100_000;
    let node = fleet.patient_node().await;
    node.insert_many((0..MANY).map(|n| (format!("k{n}"), n))).await.unwrap();
    let other = fleet.patient_node().await;
    for n in [0, 511, 512, MANY / 2, MANY - 1] {
        assert_eq!(other.get(&format!("k{n}")).await.unwrap().as_deref(), Some(&n));
    }
}

/// With an L2 and no L1, the process keeps no values, and loads are still shared.
async fn without_l1(fleet: Fleet) {
    let cache: TieredCache<u64, String> =
        TieredCache::builder().namespace("bare").l2(fleet.backend().await).build().unwrap();
    let loads = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let calls = (0..10).map(|_| {
        let loads = std::sync::Arc::clone(&loads);
        cache.get_or_load(&7, move || async move {
            loads.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            tokio::time::sleep(ms(20)).await;
            Ok::<_, No>("seven".to_owned())
        })
    });
    for outcome in join_all(calls).await {
        assert_eq!(*outcome.unwrap(), "seven");
    }
    assert_eq!(loads.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert_eq!(cache.get(&7).await.unwrap().as_deref().map(String::as_str), Some("seven"));
    cache.invalidate(&7).await.unwrap();
    assert_eq!(cache.get(&7).await.unwrap(), None);
    assert_eq!(cache.stats().l1_hits, 0);
}

/// Copying a value from L2 to L1 does not extend its life.
async fn promotion_does_not_extend_a_life(fleet: Fleet) {
    let (one, two) = (fleet.node().await, fleet.node().await);
    let begun = tokio::time::Instant::now();
    one.insert("k", 1).ttl(ms(400)).await.unwrap();
    tokio::time::sleep_until(begun + ms(200)).await;
    if two.get("k").await.unwrap().is_some() {
        until("the promoted copy has expired", || begun.elapsed() > ms(400 + 20)).await;
        let before = two.stats().l1_hits;
        assert_eq!(two.get("k").await.unwrap(), None, "alive after {:?}", begun.elapsed());
        assert_eq!(two.stats().l1_hits, before);
    }
}

/// A value type in two schema versions: each version is a miss for the other, and is overwritten.
async fn another_schema_is_a_miss(fleet: Fleet) {
    let old = fleet.node_with(|builder| builder.schema_version(1)).await;
    let new = fleet.node_with(|builder| builder.schema_version(2)).await;
    old.insert("k", 1).await.unwrap();
    let source = Source::new();
    source.write();
    let load = source.clone();
    assert_eq!(new.get("k").await.unwrap(), None);
    assert_eq!(*new.get_or_load("k", move || load.now()).await.unwrap(), 2);
    assert!(new.stats().unreadable >= 1);
    let third = fleet.node_with(|builder| builder.schema_version(2)).await;
    assert_eq!(third.get("k").await.unwrap().as_deref(), Some(&2), "it was overwritten");
}

/// Nodes with different codecs get an error, and never read each other's values.
async fn another_codec_is_refused(fleet: Fleet) {
    struct Text;
    impl async_cache::Codec<u64> for Text {
        fn name(&self) -> &'static str {
            "text"
        }
        fn encode(&self, value: &u64, out: &mut Vec<u8>) -> Result<(), async_cache::BoxError> {
            out.extend_from_slice(value.to_string().as_bytes());
            Ok(())
        }
        fn decode(&self, bytes: &[u8]) -> Result<u64, async_cache::BoxError> {
            Ok(std::str::from_utf8(bytes)?.parse()?)
        }
    }
    let one = fleet.node().await;
    one.insert("k", 1).await.unwrap();
    let built = TieredCache::<String, u64>::builder()
        .namespace("rows")
        .l1(MemoryBackend::new(10))
        .l2_with(fleet.backend().await, Text)
        .build();
    let error = match built {
        Err(error) => error,
        Ok(two) => {
            let waited = tokio::time::timeout(Duration::from_secs(5), two.ready()).await;
            let error = waited.expect("who waits for it to be ready is told").unwrap_err();
            assert_eq!(error.kind(), async_cache::ErrorKind::Config, "{error}");
            two.get("k").await.unwrap_err()
        }
    };
    assert_eq!(error.kind(), async_cache::ErrorKind::Config, "{error}");
    let said = format!("{error}");
    assert!(said.contains("rows") && said.contains("text") && said.contains("bincode-2"), "{said}");
    assert_eq!(one.get("k").await.unwrap().as_deref(), Some(&1));
}

/// The databases of one server share their channels. Nodes of one database receive no messages of another.
#[tokio::test]
async fn databases_of_one_server_are_worlds_apart() {
    let fleet = Fleet::redis();
    let node = async |database: u8| {
        let url = format!("{}/{database}", fleet.server().url());
        let redis = async_cache::RedisBackend::connect(url).await.unwrap();
        let cache: TieredCache<String, u64> =
            TieredCache::builder().namespace("rows").l1(MemoryBackend::new(100)).l2(redis).build().unwrap();
        cache.ready().await.unwrap();
        cache
    };
    let (here, beside, far) = (node(0).await, node(0).await, node(3).await);
    here.insert("k", 1).await.unwrap();
    until("the change has been heard", || here.stats().invalidations_received == 1).await;
    let before = here.stats();
    for value in 0..20 {
        far.insert("k", 100 + value).await.unwrap();
    }
    // When this message has arrived, all earlier ones have arrived, too.
    beside.insert("other", 1).await.unwrap();
    until("the change has been heard", || here.stats().invalidations_received > 1).await;
    let after = here.stats();
    assert_eq!((after.invalidations_received, after.flushes), (2, before.flushes), "{after:?}");
    assert_eq!(here.get("k").await.unwrap().as_deref(), Some(&1));
    assert_eq!(far.get("k").await.unwrap().as_deref(), Some(&119));
}

/// 100,000 distinct cold keys leave nothing behind except their entries.
async fn many_cold_keys_leave_nothing_behind(fleet: Fleet) {
    let node = fleet.patient_node().await;
    let keys: Vec<String> = (0..100_000).map(|n| format!("key-{n}")).collect();
    for chunk in keys.chunks(1000) {
        let loads = chunk.iter().map(|key| {
            let n = key.len() as u64;
            node.get_or_load(key, move || async move { Ok::<_, No>(n) })
        });
        for outcome in join_all(loads).await {
            outcome.unwrap();
        }
    }
    until("nothing is under way", || node.is_idle() && node.stats().in_flight == 0).await;
    let stats = node.stats();
    assert_eq!((stats.loads, stats.entries), (100_000, 100_000), "{stats:?}");
    if let Fleet::Redis(server) = &fleet {
        let leases: Vec<String> = server.cli(&["KEYS", "{rows:0}L:*"]);
        let waiters: Vec<String> = server.cli(&["KEYS", "{rows:0}W:*"]);
        assert_eq!((leases.len(), waiters.len()), (0, 0));
        assert_eq!(server.cli::<u64>(&["DBSIZE"]), 100_001, "the values and the namespace's own record");
    }
    tokio::time::timeout(Duration::from_secs(5), node.shutdown()).await.expect("every task ends");
}

on_both_tiers! {
    a_value_is_loaded_once_for_all,
    one_load_in_the_fleet,
    an_absence_is_shared,
    an_insert_reaches_every_node,
    a_stamp_of_a_clear_voids_l1_and_l2,
    many_keys_from_both_tiers,
    an_insert_of_very_many,
    without_l1,
    promotion_does_not_extend_a_life,
    another_schema_is_a_miss,
    another_codec_is_refused,
    many_cold_keys_leave_nothing_behind,
}
