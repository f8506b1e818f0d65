//! Changes reach every node, whichever master has the key.

use async_cache::testing::until;
use integration_tests::cluster::RedisCluster;
use integration_tests::eventually_is;

use super::{LONG, master_of, node};

/// Keys of all masters.
fn keys(cluster: &RedisCluster) -> Vec<String> {
    let keys: Vec<String> = (0..100).map(|number| format!("key-{number}")).collect();
    for master in 0..3 {
        assert!(keys.iter().any(|key| master_of(cluster, key) == master), "no key of master {master}");
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_keys_tags_and_everything_reach_the_other_node() {
    let cluster = RedisCluster::start(3);
    let (a, b) = (node(&cluster, LONG).await, node(&cluster, LONG).await);
    let keys = keys(&cluster);
    let store = async |version: u64| {
        a.insert_many(keys.iter().map(|key| (key.clone(), version))).tag("all").await.unwrap();
        let found = b.get_many(&keys).await.unwrap();
        assert!(found.iter().all(|value| value.as_deref() == Some(&version)), "{version}: {found:?}");
    };
    let in_l1 = || b.stats().l1_hits;
    store(1).await;
    let before = in_l1();
    b.get_many(&keys).await.unwrap();
    assert_eq!(in_l1() - before, 100, "the other node holds them");

    let stamp = a.invalidate_many(&keys).await.unwrap();
    let found = b.get_many(&keys).at_least(&stamp).await.unwrap();
    assert!(found.iter().all(Option::is_none), "{found:?}");
    store(2).await;

    let stamp = a.invalidate_tag("all").await.unwrap();
    let found = b.get_many(&keys).at_least(&stamp).await.unwrap();
    assert!(found.iter().all(Option::is_none), "{found:?}");
    store(3).await;

    let stamp = a.invalidate_all().await.unwrap();
    let found = b.get_many(&keys).at_least(&stamp).await.unwrap();
    assert!(found.iter().all(Option::is_none), "{found:?}");
    store(4).await;

    // Without a stamp, the bus brings it.
    a.invalidate_many(&keys).await.unwrap();
    let heard = b.stats().invalidations_received;
    until("the other node has heard", || b.stats().invalidations_received >= heard).await;
    for key in &keys {
        eventually_is("the old value is gone", async || b.get(key).await.unwrap().is_none()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_load_per_key_in_the_fleet() {
    let cluster = RedisCluster::start(3);
    let (a, b) = (node(&cluster, LONG).await, node(&cluster, LONG).await);
    let table = super::table::Table::default();
    let keys = keys(&cluster);
    let gets = keys.iter().flat_map(|key| [(&a, key), (&b, key), (&a, key), (&b, key)]);
    futures_util::future::join_all(gets.map(|(node, key)| table.get(node, key, LONG))).await;
    assert!(keys.iter().all(|key| table.loads(key) == 1));
}
