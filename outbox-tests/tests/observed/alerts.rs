//! Every alert fires if its fault is caused, and none fires without one.

use std::collections::BTreeSet;

use integration_tests::fleet::Fleet;
use integration_tests::observed::exporter::address;
use integration_tests::observed::prometheus::{Prometheus, hurried};
use tokio::task::JoinSet;

use crate::{FILES, logs, tables};

/// Which fault each alert is about, by the table or the slot that has it.
const EXPECTED: [(&str, &str); 15] = [
    ("AsyncCacheOutboxOld", "away"),
    ("AsyncCacheOutboxCacheFailures", "away"),
    ("AsyncCacheOutboxNobodyAtWork", "dropped"),
    ("AsyncCacheOutboxNobodyAtWork", "missing"),
    ("AsyncCacheOutboxDatabaseFailures", "missing"),
    ("AsyncCacheOutboxUnknownNamespace", "unknown"),
    ("AsyncCacheOutboxUnreadable", "unreadable"),
    ("AsyncCacheLogOld", "away"),
    ("AsyncCacheLogCacheFailures", "away"),
    ("AsyncCacheLogNobodyAtWork", "dropped"),
    ("AsyncCacheLogNobodyAtWork", "missing"),
    ("AsyncCacheLogDatabaseFailures", "missing"),
    ("AsyncCacheLogRefused", "refusing"),
    ("AsyncCacheLogKept", "kept"),
    ("AsyncCacheLogSlotCreated", "created"),
];

/// Alerts that may fire without a fault of their own: on a busy machine, and because the slots of a server keep the same
/// log.
const ELSEWHERE: [&str; 5] = [
    "AsyncCacheOutboxOld",
    "AsyncCacheOutboxCacheFailures",
    "AsyncCacheLogOld",
    "AsyncCacheLogCacheFailures",
    "AsyncCacheLogKept",
];

/// The limits that the test waits for, and shorter ones.
const LIMITS: [(&str, &str); 2] =
    [("oldest_seconds > 60", "oldest_seconds > 3"), ("> 1073741824", "> 33554432")];

#[test]
fn each_alert_has_a_test() {
    let expected: BTreeSet<String> = EXPECTED.iter().map(|(alert, _)| (*alert).to_owned()).collect();
    assert_eq!(FILES.alerts(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_alert_fires_when_its_fault_is_caused() {
    let target = address();
    let (mut tasks, fleet) = (JoinSet::new(), Fleet::redis());
    let node = fleet.node().await;
    // Before Prometheus starts: until they are at work, nobody is.
    tables::calm(&mut tasks, node.clone()).await;
    logs::calm(&mut tasks, node.clone()).await;
    // A service may create a slot before its first scrape.
    logs::created(&mut tasks, &node).await;
    let prometheus = Prometheus::start(target, &hurried(&FILES.rules(), &LIMITS));

    let away = Fleet::redis();
    let cut_off = away.node().await;
    away.server().kill();
    tables::faults(&mut tasks, &node, &cut_off).await;
    logs::faults(&mut tasks, &node, &cut_off).await;
    let elsewhere = |alert: &str| ELSEWHERE.contains(&alert);
    prometheus.fires(&EXPECTED, |firing| firing.about != "calm" || elsewhere(&firing.alert)).await;
    prometheus.answers(&FILES.queries());
}
