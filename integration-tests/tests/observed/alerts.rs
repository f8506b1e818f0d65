//! Every alert fires if its fault is caused, and none fires without one.

use std::collections::BTreeSet;

use integration_tests::observed::exporter::address;
use integration_tests::observed::prometheus::{Prometheus, hurried};

use crate::{FILES, causes};

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
    let expected: BTreeSet<String> = EXPECTED.iter().map(|(alert, _)| (*alert).to_owned()).collect();
    assert_eq!(FILES.alerts(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_alert_fires_when_its_fault_is_caused() {
    let rules = hurried(&FILES.rules(), &[("lease_age_seconds > 30", "lease_age_seconds > 3")]);
    let prometheus = Prometheus::start(address(), &rules);
    let _faults = causes::all().await;
    let slow = |alert: &str| OF_SLOWNESS.contains(&alert);
    prometheus.fires(&EXPECTED, |firing| firing.about != "calm" || slow(&firing.alert)).await;
    prometheus.answers(&FILES.queries());
}
