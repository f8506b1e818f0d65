//! Commands for each partition: heartbeats and baselines on a cluster.

use async_cache_core::ErrorKind;
use async_cache_core::backend::BusEvent;
use async_cache_redis::RedisBackend;
use futures_util::future::join_all;
use integration_tests::cluster::RedisCluster;

use crate::rig::{Node, RECORD};

async fn subscribed(backend: &RedisBackend, namespace: &str) -> Node {
    let node = Node::unsubscribed(backend.clone(), namespace, RECORD);
    for partition in 0..64 {
        node.heard.heard(&BusEvent::PartitionSubscribed { partition }).await;
        node.region.baseline(partition, None).await.unwrap();
    }
    node
}

// One thread: on several, the first heartbeat may leave before the last is due.
#[tokio::test]
async fn heartbeats_that_are_due_together_are_one_command_for_each_master() {
    let cluster = RedisCluster::start(3);
    let backend = RedisBackend::builder().cluster(cluster.urls()).connect().await.unwrap();
    let (users, rows) = (subscribed(&backend, "users").await, subscribed(&backend, "rows").await);
    let monitors: Vec<_> = cluster.nodes().iter().map(|server| server.monitor()).collect();
    let both = (0..64).flat_map(|partition| [(&users, partition), (&rows, partition)]);
    let beats = both.map(|(node, partition)| node.region.heartbeat(partition, 1000 + u64::from(partition)));
    for pulse in join_all(beats).await {
        pulse.unwrap();
    }
    for monitor in monitors {
        let commands = monitor.commands();
        let beats =
            commands.iter().filter(|command| command.starts_with("\"EVALSHA\"") && command.contains("}M\""));
        assert_eq!(beats.count(), 1);
    }
    for node in [&users, &rows] {
        for of in 0..64 {
            let echo = |event: &BusEvent| match event {
                BusEvent::Echo { partition, beat, .. } => {
                    (*partition == of && *beat == 1000 + u64::from(of)).then_some(())
                }
                _ => None,
            };
            node.heard.wait("the echo of each partition", echo).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_is_refused_fails_alone() {
    let cluster = RedisCluster::start(2);
    let first = RedisBackend::builder().cluster(cluster.urls()).connect().await.unwrap();
    let (users, rows) = (subscribed(&first, "users").await, subscribed(&first, "rows").await);
    // Partition 1 of one namespace becomes that of another record.
    let meta = "{users:1}M";
    let owner = cluster.owner_of(cluster.slot_of(meta)).unwrap();
    cluster.node(owner).cli::<()>(&["HSET", meta, "v", "another record"]);
    let other = cluster.owner_of(cluster.slot_of("{rows:1}M")).unwrap();
    cluster.node(other).cli::<()>(&["SET", "{rows:1}M", "no hash"]);
    let both = (0..64).flat_map(|partition| [(&users, partition), (&rows, partition)]);
    let beats = both.clone().map(|(node, partition)| node.region.heartbeat(partition, 7));
    for ((_, partition), pulse) in both.zip(join_all(beats).await) {
        match pulse {
            Ok(_) => assert_ne!(partition, 1),
            Err(error) => {
                assert_eq!((partition, error.kind()), (1, ErrorKind::Config), "{error}");
            }
        }
    }
}

/// Partition 0 is visited once before the others, although all of them wait for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_begins_with_one_command_for_each_partition() {
    let cluster = RedisCluster::start(3);
    let backend = RedisBackend::builder().cluster(cluster.urls()).connect().await.unwrap();
    let monitors: Vec<_> = cluster.nodes().iter().map(|server| server.monitor()).collect();
    let node = Node::unsubscribed(backend, "rows", RECORD);
    for state in join_all((0..64).map(|partition| node.region.baseline(partition, None))).await {
        state.unwrap();
    }
    let commands: Vec<String> =
        monitors.into_iter().flat_map(integration_tests::server::Monitor::commands).collect();
    let sent =
        commands.iter().filter(|command| command.starts_with("\"EVALSHA\"") && command.contains("{rows:"));
    assert_eq!(sent.count(), 1 + 64);
}
