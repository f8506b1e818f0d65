//! Changes that one master has not executed, because it is away.

use std::time::Duration;

use async_cache::testing::until;
use integration_tests::cluster::RedisCluster;
use integration_tests::fleet::Cache;
use integration_tests::{Data, eventually_is};

use super::{PARTITIONS, master_of, node};

/// Long enough for a busy machine.
const BOUND: Duration = Duration::from_secs(10);

/// How many failed attempts show that retries do no harm.
const ATTEMPTS: u64 = 20;

/// The number of partitions of a master.
fn partitions_of(cluster: &RedisCluster, master: usize) -> u64 {
    let owner = |partition| cluster.owner_of(cluster.slot_of(&format!("{{rows:{partition}}}")));
    (0..PARTITIONS).filter(|partition| owner(*partition) == Some(master)).count() as u64
}

/// Asserts that L1 answers all of these without a question to L2.
async fn answered_by_l1(cache: &Cache, keys: &[String]) {
    let before = cache.stats();
    for key in keys {
        assert!(cache.get(key).await.unwrap().is_some(), "{key}");
    }
    let after = cache.stats();
    assert_eq!(after.l1_hits - before.l1_hits, keys.len() as u64);
    assert_eq!(after.l2_hits + after.misses, before.l2_hits + before.misses);
}

async fn store(cache: &Cache, keys: &[String], version: u64) {
    cache.insert_many(keys.iter().map(|key| (key.clone(), version))).tag("t").await.unwrap();
}

/// Waits until the pending changes have failed this often.
async fn attempts(cache: &Cache) {
    let before = cache.stats().l2_errors;
    until("the change has been retried", || cache.stats().l2_errors >= before + ATTEMPTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_all_partitions_is_retried_where_it_has_failed_alone() {
    let cluster = RedisCluster::start(3);
    let (a, b) = (node(&cluster, BOUND).await, node(&cluster, BOUND).await);
    let keys = (0..60).map(|number| format!("key-{number}"));
    let (_, unharmed): (Vec<String>, Vec<String>) = keys.partition(|key| master_of(&cluster, key) == 0);
    let (tagged, others) = unharmed.split_at(unharmed.len() / 2);
    let away = partitions_of(&cluster, 0);
    assert!(away > 1);
    store(&a, tagged, 1).await;
    a.insert_many(others.iter().map(|key| (key.clone(), 1))).await.unwrap();

    cluster.node(0).kill();
    until("the loss is noticed", || !a.is_serving()).await;
    let error = a.invalidate_tag("t").await.unwrap_err();
    let (made, all) = (u64::from(PARTITIONS) - away, PARTITIONS);
    assert!(
        format!("{error:#}").contains(&format!("{made} of {all} partitions have executed it")),
        "{error:#}"
    );
    assert!(!error.effect_is_known());
    assert_eq!(a.stats().pending_invalidations, away);
    answered_by_l1(&a, others).await;
    for key in tagged {
        assert_eq!(a.get(key).await.unwrap(), None, "the masters that answer have executed it");
    }
    store(&a, tagged, 2).await;
    attempts(&a).await;
    answered_by_l1(&a, tagged).await;
    answered_by_l1(&a, others).await;

    a.invalidate_all().await.unwrap_err();
    assert_eq!(a.stats().pending_invalidations, away, "the clear takes the place of the tag");
    for key in &unharmed {
        assert_eq!(a.get(key).await.unwrap(), None);
    }
    store(&a, &unharmed, 3).await;
    for key in &unharmed {
        eventually_is("the other node has it", async || b.get(key).await.unwrap().as_deref() == Some(&3))
            .await;
    }
    attempts(&a).await;
    answered_by_l1(&a, &unharmed).await;
    answered_by_l1(&b, &unharmed).await;

    cluster.node(0).restart(Data::Keep);
    until("nothing is pending", || a.stats().pending_invalidations == 0).await;
    answered_by_l1(&a, &unharmed).await;
}
