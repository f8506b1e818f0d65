//! Every alert fires if its fault is caused, and none fires without one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::causes;
use crate::exporter::address;
use crate::files::ops;
use crate::prometheus::{Firing, Prometheus};

/// The time in which all alerts must fire. They take about ten seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which fault each alert is about, by the namespace that has it.
const EXPECTED: [(&str, &str); 17] = [
    ("AsyncCacheStaleHit", "stale"),
    ("AsyncCacheSuspectedHit", "suspected"),
    ("AsyncCacheL1Suspended", "cut"),
    ("AsyncCacheServingLeaseOld", "cut"),
    ("AsyncCacheL2Unreachable", "cut"),
    ("AsyncCacheL2Refused", "refused"),
    ("AsyncCachePendingInvalidations", "cut"),
    ("AsyncCacheL2Errors", "cut"),
    ("AsyncCacheSlowL2", "slow"),
    ("AsyncCacheInvalidationLag", "lagging"),
    ("AsyncCacheMessagesLost", "deaf"),
    ("AsyncCacheLoadFailures", "failing"),
    ("AsyncCacheFillsRejected", "contended"),
    ("AsyncCacheCodecFailures", "odd"),
    ("AsyncCacheL1Refused", "heavy"),
    ("AsyncCacheAmendedChoices", "amended"),
    ("AsyncCacheUnreadable", "foreign"),
];

/// Alerts that a busy machine may fire in a namespace without a fault.
const OF_SLOWNESS: [&str; 7] = [
    "AsyncCacheL1Suspended",
    "AsyncCacheServingLeaseOld",
    "AsyncCacheL2Unreachable",
    "AsyncCacheL2Errors",
    "AsyncCacheSlowL2",
    "AsyncCacheInvalidationLag",
    "AsyncCacheMessagesLost",
];

#[test]
fn each_alert_has_a_test() {
    let rules = std::fs::read_to_string(ops("prometheus/rules.yml")).expect("the rules");
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let expected: BTreeSet<&str> = EXPECTED.iter().map(|(alert, _)| *alert).collect();
    assert_eq!(alerts.collect::<BTreeSet<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_alert_fires_when_its_fault_is_caused() {
    let address = address();
    let prometheus = Prometheus::start(address);
    let _faults = causes::all().await;
    let mut missing: BTreeSet<Firing> = EXPECTED
        .iter()
        .map(|(alert, namespace)| Firing { alert: (*alert).to_owned(), namespace: (*namespace).to_owned() })
        .collect();
    let start = Instant::now();
    while !missing.is_empty() {
        for firing in prometheus.firing() {
            let slow = OF_SLOWNESS.contains(&firing.alert.as_str());
            assert!(firing.namespace != "calm" || slow, "{firing:?}: nothing is wrong there");
            if missing.remove(&firing) {
                println!("{:5.1} s: {firing:?}", start.elapsed().as_secs_f64());
            }
        }
        assert!(
            start.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {missing:?}; others: {:?}",
            prometheus.firing()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
