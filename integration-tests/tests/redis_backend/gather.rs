//! Concurrent reads of single keys share commands. Their callers see no difference.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_cache_core::Result;
use async_cache_core::backend::{Check, Read};
use async_cache_core::key::Key;
use async_cache_redis::RedisBackend;
use futures_util::future::{BoxFuture, join_all};
use futures_util::poll;
use integration_tests::RedisServer;
use integration_tests::proxy::{Conditions, Flow, Proxy, Route};
use redis::Value;
use tokio::runtime;

use crate::rig::{Node, RECORD, key};

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(30);
const STALLED: Conditions =
    Conditions { delay: Duration::ZERO, jitter: Duration::ZERO, bytes_per_s: None, flow: Flow::Stalled };

fn keys(count: usize) -> Vec<Key> {
    (0..count).map(|i| key(&format!("k{i}"))).collect()
}

fn plant(server: &RedisServer, count: usize, value: impl Fn(usize) -> Vec<u8>) {
    for i in 0..count {
        server.cli_raw::<()>(&[b"SET", format!("{{ns:0}}V:k{i}").as_bytes(), &value(i)]);
    }
}

/// Reads all keys at once, from one task.
async fn read_all(node: &Node, keys: &[Key]) -> Vec<Result<Read>> {
    join_all(keys.iter().map(|key| node.region.read_one(key, Check::Plain))).await
}

/// The commands of the reads, each with its number of keys.
fn sent(commands: &[String]) -> Vec<(&str, usize)> {
    let words = |command: &str| command.split(' ').count() - 1;
    let read = |command: &&String| command.starts_with("\"GET\"") || command.starts_with("\"MGET\"");
    let sent = commands.iter().filter(read);
    sent.map(|command| (command.split('"').nth(1).unwrap(), words(command))).collect()
}

/// How often the server has executed a command.
fn executed(server: &RedisServer, command: &str) -> usize {
    let stats: String = server.cli(&["INFO", "commandstats"]);
    let line = format!("cmdstat_{command}:calls=");
    stats
        .lines()
        .find_map(|stat| stat.strip_prefix(&line)?.split(',').next()?.parse().ok())
        .unwrap_or_default()
}

async fn impatient(server: &RedisServer, proxy: &Proxy, read: Duration) -> Node {
    let builder = RedisBackend::builder().url(server.url_at(proxy.port())).connections(1);
    Node::of(builder.read_timeout(read).connect().await.unwrap()).await
}

/// Polls each read once, which sends it.
async fn begin<'a>(node: &'a Node, keys: &'a [Key]) -> Vec<BoxFuture<'a, Result<Read>>> {
    let mut reads: Vec<BoxFuture<'a, _>> =
        keys.iter().map(|key| Box::pin(node.region.read_one(key, Check::Plain)) as _).collect();
    for read in &mut reads {
        assert!(poll!(read).is_pending());
    }
    reads
}

#[tokio::test]
async fn many_at_once_are_few_commands() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    plant(&server, 200, |i| format!("value {i}").into_bytes());
    let keys = keys(200);
    // These reads let the backend learn the size of the values.
    for _ in 0..20 {
        read_all(&node, &keys).await;
    }
    let monitor = server.monitor();
    for (i, read) in read_all(&node, &keys).await.into_iter().enumerate() {
        assert_eq!(read.unwrap().value.unwrap(), format!("value {i}"));
    }
    assert_eq!(sent(&monitor.commands()), [("GET", 1), ("GET", 1), ("MGET", 128), ("MGET", 70)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gets_the_value_of_its_key() {
    let server = RedisServer::start();
    let node = Arc::new(Node::on(&server).await);
    plant(&server, 300, |i| format!("value {i}").into_bytes());
    let expected = |i: usize| i.is_multiple_of(3).then(|| format!("value {i}"));
    for i in 0..300 {
        let name = format!("{{ns:0}}V:k{i}");
        match i % 3 {
            1 => drop(server.cli::<Value>(&["DEL", &name])),
            2 => drop((server.cli::<Value>(&["DEL", &name]), server.cli::<Value>(&["SADD", &name, "x"]))),
            _ => {}
        }
    }
    for round in 0..20 {
        let reads = (0..300).map(|i| {
            let node = Arc::clone(&node);
            tokio::spawn(async move { node.region.read_one(&key(&format!("k{i}")), Check::Plain).await })
        });
        for (i, read) in join_all(reads).await.into_iter().enumerate() {
            let value = read.unwrap().unwrap().value;
            let value = value.map(|value| String::from_utf8(value.to_vec()).unwrap());
            assert_eq!(value, expected(i), "k{i} in round {round}");
        }
    }
    assert!(executed(&server, "get") + executed(&server, "mget") < 3000);
}

#[tokio::test]
async fn callers_that_go_away_strand_nobody() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    plant(&server, 10, |i| vec![i as u8]);
    let keys = keys(10);
    let monitor = server.monitor();
    let mut reads = begin(&node, &keys).await;
    // The one that went alone, the one that began the batch, and one of the others.
    for gone in [6, 2, 1, 0] {
        drop(reads.remove(gone));
    }
    let found: Vec<u8> =
        join_all(reads).await.into_iter().map(|read| read.unwrap().value.unwrap()[0]).collect();
    assert_eq!(found, [3, 4, 5, 7, 8, 9]);
    assert_eq!(sent(&monitor.commands()), [("MGET", 8)]);
}

#[tokio::test]
async fn a_lost_connection_is_everyones_error() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let node = impatient(&server, &proxy, LONG).await;
    proxy.set(Route::Commands, STALLED);
    let keys = keys(20);
    let reads = begin(&node, &keys).await;
    let asked = Instant::now();
    let (reads, ()) = tokio::join!(join_all(reads), async {
        // The batch is under way.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        proxy.cut(Route::Commands);
    });
    for read in reads {
        let error = read.unwrap_err();
        assert!(error.is_temporary() && error.to_string().contains("was lost"), "{error}");
    }
    assert!(asked.elapsed() < LONG / 4, "{:?}", asked.elapsed());
}

/// Three timeouts in a row close a connection, whether the reads shared a command or not.
#[tokio::test]
async fn who_waited_in_vain_is_counted() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    // On a busy machine the server still answers within this time, unless the proxy stalls it.
    let node = impatient(&server, &proxy, Duration::from_secs(3)).await;
    let keys = keys(3);
    for (readers, available) in [(2, true), (3, false)] {
        node.region.read_one(&keys[0], Check::Plain).await.unwrap();
        proxy.set(Route::Commands, STALLED);
        for read in read_all(&node, &keys[..readers]).await {
            let error = read.unwrap_err();
            assert!(error.to_string().contains("did not answer within 3s"), "{error}");
        }
        assert_eq!(node.region.info().available, available, "after {readers} timeouts");
        proxy.clear();
    }
}

#[tokio::test]
async fn answers_are_bounded_by_the_size_of_values() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let keys = keys(100);
    for (size, largest) in [(8 << 10, 32), (32 << 10, 8), (100 << 10, 1)] {
        plant(&server, 100, |_| vec![b'x'; size]);
        // These reads let the backend learn the size of the values.
        for _ in 0..10 {
            read_all(&node, &keys).await;
        }
        let monitor = server.monitor();
        for read in read_all(&node, &keys).await {
            assert_eq!(read.unwrap().value.unwrap().len(), size);
        }
        let commands = monitor.commands();
        let most = sent(&commands).iter().map(|(_, keys)| *keys).max();
        assert_eq!(most, Some(largest), "values of {size} bytes: {:?}", sent(&commands));
    }
}

/// The number of connections that are used to read all keys.
async fn connections_used(server: &RedisServer, node: &Node, keys: &[Key]) -> usize {
    let monitor = server.monitor();
    for read in read_all(node, keys).await {
        read.unwrap().value.unwrap();
    }
    let reads = monitor.by_client().into_iter().filter(|(_, command)| command.contains("GET\" "));
    reads.map(|(client, _)| client).collect::<HashSet<_>>().len()
}

/// Reads on one connection share commands. If the values are too large for that, all connections are used.
#[tokio::test]
async fn reads_meet_unless_values_are_large() {
    let server = RedisServer::start();
    let node = Node::on(&server).await;
    let keys = keys(20);
    plant(&server, 20, |_| vec![b'x'; 100 << 10]);
    // The second connection is made in the background.
    let asked = Instant::now();
    while connections_used(&server, &node, &keys).await < 2 {
        assert!(asked.elapsed() < LONG, "never on both");
    }
    plant(&server, 20, |_| vec![b'x'; 1 << 10]);
    for _ in 0..3 {
        read_all(&node, &keys).await;
    }
    assert_eq!(connections_used(&server, &node, &keys).await, 1);
}

/// A cancelled caller leaves its read in the batch. The number of batches is limited.
#[tokio::test]
async fn batches_under_way_are_bounded() {
    const BATCHES: usize = 64;
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let node = impatient(&server, &proxy, LONG).await;
    proxy.set(Route::Commands, STALLED);
    let two = keys(2);
    let stay = begin(&node, &two).await;
    for key in keys(BATCHES * 128) {
        drop(begin(&node, &[key]).await);
    }
    proxy.clear();
    for read in join_all(stay).await {
        read.unwrap();
    }
    // This command follows all earlier ones.
    node.region.state(0).await.unwrap();
    assert_eq!(executed(&server, "mget"), BATCHES);
}

/// If the server refuses a name or the command itself, the other reads of the batch are not affected.
#[tokio::test]
async fn what_is_refused_together_is_asked_alone() {
    let server = RedisServer::start();
    for rights in ["+@all -mget ~*", "+@all %RW~{ns:0}*"] {
        let mut user = vec!["ACL", "SETUSER", "reader", "reset", "on", ">secret", "&*"];
        user.extend(rights.split(' '));
        server.cli::<()>(&user);
        let url = server.url().replace("redis://", "redis://reader:secret@");
        let backend = RedisBackend::connect(url).await.unwrap();
        let node = Node::of(backend.clone()).await;
        let other = Node::unsubscribed(backend, "other", RECORD);
        plant(&server, 10, |i| vec![i as u8]);
        let keys = keys(10);
        let (ours, others) = tokio::join!(read_all(&node, &keys), read_all(&other, &keys));
        for (i, read) in ours.into_iter().enumerate() {
            assert_eq!(read.unwrap().value.unwrap()[0], i as u8, "{rights}");
        }
        for read in others {
            match rights.contains("ns") {
                true => assert!(read.unwrap_err().to_string().contains("does not permit it"), "{rights}"),
                false => assert_eq!(read.unwrap().value, None, "{rights}"),
            }
        }
        assert!(node.region.info().available);
    }
}

/// A batch is read on the runtime of its connection. Its callers may be on another runtime, and may live
/// longer.
#[test]
fn a_runtime_that_stands_still_or_ends_hangs_nobody() {
    let runtime = || runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = RedisServer::start();
    for (limit, ends) in [(SHORT, false), (LONG, true)] {
        let (mut theirs, ours) = (Some(runtime()), runtime());
        let builder = RedisBackend::builder().url(server.url()).connections(1).read_timeout(limit);
        // From here on their runtime does not run.
        let node =
            theirs.as_ref().unwrap().block_on(async { Node::of(builder.connect().await.unwrap()).await });
        let asked = Instant::now();
        ours.block_on(async {
            let keys = keys(5);
            let reads = begin(&node, &keys).await;
            if ends {
                theirs.take().unwrap().shutdown_background();
            }
            let mut errors = HashMap::new();
            for read in join_all(reads).await {
                *errors.entry(read.unwrap_err().to_string()).or_insert(0) += 1;
            }
            // A command under way may get the error of the lost connection before the end of the runtime is
            // known.
            let expected: &[&str] =
                if ends { &["was lost", "has ended"] } else { &["did not answer within 100ms"] };
            let is_expected = |error: &String| expected.iter().any(|text| error.contains(text));
            assert!(errors.keys().all(is_expected), "{errors:?}");
        });
        assert!(asked.elapsed() < LONG / 4, "{:?}", asked.elapsed());
    }
}
