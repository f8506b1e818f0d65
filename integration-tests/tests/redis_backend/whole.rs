//! Properties of all scripts: format, partitions, batches, cost.

use async_cache_core::ErrorKind;
use async_cache_core::backend::{BusEvent, Check};
use async_cache_core::key::Key;
use bytes::Bytes;
use integration_tests::RedisServer;

use crate::rig::{LIFE, Node, RECORD, frame, key, patient, stored};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_format_is_refused_everywhere() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let seq = node.region.state(0).await.unwrap().seq;
    let other = Node::unsubscribed(patient(server.url()).connect().await.unwrap(), "ns", "v2 other");
    let many = patient(server.url()).partitions(4).connect().await.unwrap();
    let parted = Node::unsubscribed(many, "ns", RECORD);
    // The key is in a partition that only one of the two has.
    let far = (0..).map(|n| key(&n.to_string())).find(|key| key.partition(4) == 3).unwrap();
    for (stranger, its) in [(&other, "v2 other"), (&parted, "partitions=4")] {
        for error in [
            stranger.region.acquire_one(&far, stranger.ask()).await.unwrap_err(),
            stranger.region.invalidate(std::slice::from_ref(&far)).await.unwrap_err(),
            stranger.region.state(0).await.unwrap_err(),
        ] {
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(text.contains(its) && text.contains("v1 test;partitions=1"), "{text}");
            assert!(text.contains("{ns:0}M"), "what to delete: {text}");
        }
    }
    assert_eq!(node.region.state(0).await.unwrap().seq, seq, "not even the sequence moved");
    assert!(!server.cli::<bool>(&["EXISTS", "{ns:3}M"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_work_together() {
    let server = RedisServer::start();
    let connect = async || Node::of(patient(server.url()).partitions(4).connect().await.unwrap()).await;
    let (a, b) = (connect().await, connect().await);
    assert_eq!(a.region.info().partitions, 4);
    let keys: Vec<Key> = (0..2000).map(|n| key(&format!("key {n}"))).collect();
    let partitions: Vec<u16> = keys.iter().map(|key| key.partition(4)).collect();
    assert!((0..4).all(|p| partitions.contains(&p)));
    let now = a.region.state(0).await.unwrap().time_ms;
    let entries: Vec<(Key, Bytes)> =
        keys.iter().map(|k| (k.clone(), frame(a.token(), k.as_bytes()))).collect();
    let seqs = a.region.put(&entries, LIFE, now + 60_000).await.unwrap();

    let read = b.region.read(&keys, Check::Plain).await.unwrap();
    let expected: Vec<_> =
        entries.iter().zip(&seqs).map(|((_, frame), seq)| Some(stored(*seq, frame))).collect();
    assert_eq!(read.values.to_vec(), expected);
    // One key occurs twice and one does not exist. The answers are in the order of the keys.
    let some = [keys[5].clone(), key("absent"), keys[1].clone(), keys[5].clone()];
    let read = b.region.read(&some, Check::Plain).await.unwrap().values;
    assert_eq!(read.to_vec(), [expected[5].clone(), None, expected[1].clone(), expected[5].clone()]);
    assert!(b.region.read(&[], Check::Plain).await.unwrap().values.is_empty());
    assert_eq!(b.region.put(&[], LIFE, 0).await.unwrap(), [] as [u64; 0]);

    let gone = b.region.invalidate(&keys).await.unwrap();
    assert!(a.region.read(&keys, Check::Plain).await.unwrap().values.iter().all(Option::is_none));
    let last = keys.len() - 1;
    let event = BusEvent::Invalidated {
        partition: partitions[last],
        seq: gone[last],
        key: Bytes::copy_from_slice(keys[last].as_bytes()),
    };
    a.heard.heard(&event).await;
    for partition in 0..4 {
        let heard: Vec<u64> = a
            .heard
            .events()
            .iter()
            .filter_map(|event| match event {
                BusEvent::Invalidated { partition: p, seq, .. } if *p == partition => Some(*seq),
                _ => None,
            })
            .collect();
        let sent: Vec<u64> = seqs
            .iter()
            .chain(&gone)
            .zip(partitions.iter().chain(&partitions))
            .filter(|(_, p)| **p == partition)
            .map(|(seq, _)| *seq)
            .collect();
        assert_eq!(heard, sent, "partition {partition}: dense and in order");
    }
    assert_eq!(a.region.state(4).await.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_script_is_loaded_again() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let k = key("k");
    let flush = || server.cli::<()>(&["SCRIPT", "FLUSH"]);
    flush();
    node.store(&k, b"v").await;
    flush();
    let keys: Vec<Key> = (0..700).map(|n| key(&n.to_string())).collect();
    let seqs = node.region.invalidate(&keys).await.unwrap();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "each once");
    flush();
    node.region.heartbeat(0, 3).await.unwrap();
    flush();
    node.region.invalidate(std::slice::from_ref(&k)).await.unwrap();
    flush();
    node.lease(&k).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_operation_costs() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let keys: Vec<Key> = (0..100).map(|n| key(&n.to_string())).collect();
    let monitor = server.monitor();
    node.read(&keys[0]).await;
    node.region.read(&keys, Check::Plain).await.unwrap();
    node.lease(&keys[0]).await;
    node.region.invalidate(&keys[..2]).await.unwrap();
    let names: Vec<String> = monitor
        .commands()
        .iter()
        .map(|command| command.split('"').nth(1).unwrap_or_default().to_owned())
        // The breaker sends this command once a second.
        .filter(|name| name != "PING")
        .collect();
    assert_eq!(names, ["GET", "MGET", "EVALSHA", "EVALSHA", "EVALSHA"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_still_invalidates() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let k = key("k");
    node.store(&k, b"v").await;
    server.cli::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    server.cli::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let before = node.region.state(0).await.unwrap();
    let now = before.time_ms;
    let error =
        node.region.put(&[(k.clone(), frame(node.token(), b"w"))], LIFE, now + 60_000).await.unwrap_err();
    assert!(error.to_string().contains("no memory left"), "{error}");
    assert_eq!(node.region.state(0).await.unwrap().seq, before.seq, "refused before anything changed");
    node.region.invalidate(std::slice::from_ref(&k)).await.unwrap();
    assert_eq!(node.read(&k).await, None);
    node.region.clear(0).await.unwrap();
    server.cli::<i64>(&["DEL", "{ns:0}M"]);
    assert!(node.region.state(0).await.unwrap().seq > before.seq, "the fence goes through");
}
