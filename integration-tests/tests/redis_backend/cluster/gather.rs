//! Concurrent reads of single keys share commands, one for each slot, and a way to each master.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_cache_core::backend::{Check, Read};
use async_cache_core::key::Key;
use async_cache_core::{ErrorKind, Result};
use async_cache_redis::RedisBackend;
use futures_util::future::join_all;
use futures_util::poll;
use integration_tests::RedisServer;
use integration_tests::cluster::RedisCluster;
use integration_tests::server::major_version;
use redis::Value;
use tokio::task::JoinHandle;

use crate::rig::{Node, RECORD, key};

const MASTERS: usize = 3;
const PARTITIONS: u16 = 64;

/// Long enough for a busy machine.
const LONG: Duration = Duration::from_secs(60);

async fn node(cluster: &RedisCluster) -> Arc<Node> {
    let backend = RedisBackend::builder().cluster(cluster.urls()).command_timeout(LONG).connections(1);
    Arc::new(Node::unsubscribed(backend.connect().await.unwrap(), "ns", RECORD))
}

/// The keys of a namespace, and where they are.
struct Keys {
    keys: Vec<Key>,
    slots: HashMap<u16, u16>,
}

impl Keys {
    fn new(cluster: &RedisCluster, count: usize) -> Self {
        let slot = |partition: u16| (partition, cluster.slot_of(&format!("{{ns:{partition}}}")));
        let keys = (0..count).map(|n| key(&format!("k{n}"))).collect();
        Self { keys, slots: (0..PARTITIONS).map(slot).collect() }
    }

    fn partition(&self, n: usize) -> u16 {
        self.keys[n].partition(PARTITIONS)
    }

    fn name(&self, n: usize) -> String {
        format!("{{ns:{}}}V:k{n}", self.partition(n))
    }

    fn slot(&self, n: usize) -> u16 {
        self.slots[&self.partition(n)]
    }

    /// The master of a key of a cluster whose slots have not moved.
    fn master(&self, n: usize) -> usize {
        usize::from(self.slot(n)) * MASTERS / 16_384
    }

    fn server<'a>(&self, cluster: &'a RedisCluster, n: usize) -> &'a RedisServer {
        cluster.node(self.master(n))
    }

    /// Stores `value n` under each key.
    fn plant(&self, cluster: &RedisCluster) {
        for n in 0..self.keys.len() {
            let value = format!("value {n}");
            self.server(cluster, n).cli::<()>(&["SET", &self.name(n), &value]);
        }
    }

    /// Reads all keys at once, from one task.
    async fn read_all(&self, node: &Node) -> Vec<Result<Read>> {
        join_all(self.keys.iter().map(|key| node.region.read_one(key, Check::Plain))).await
    }

    /// Reads all keys at once, each from a task of its own.
    fn begin(&self, node: &Arc<Node>) -> Vec<JoinHandle<Result<Read>>> {
        let read = |key: &Key| {
            let (node, key) = (Arc::clone(node), key.clone());
            tokio::spawn(async move { node.region.read_one(&key, Check::Plain).await })
        };
        self.keys.iter().map(read).collect()
    }
}

/// The partitions of the names in each read that a server has executed.
fn reads(commands: &[String]) -> Vec<Vec<u16>> {
    let is_read = |command: &&String| command.starts_with("\"GET\"") || command.starts_with("\"MGET\"");
    let partition = |name: &str| name.split_once("{ns:")?.1.split_once('}')?.0.parse().ok();
    commands
        .iter()
        .filter(is_read)
        .map(|command| command.split(' ').filter_map(partition).collect())
        .collect()
}

fn check(read: Result<Read>, n: usize) {
    assert_eq!(read.unwrap().value.unwrap(), format!("value {n}"), "k{n}");
}

#[tokio::test]
async fn many_at_once_are_one_command_for_each_slot() {
    let cluster = RedisCluster::start(MASTERS);
    let node = node(&cluster).await;
    let keys = Keys::new(&cluster, 240);
    keys.plant(&cluster);
    // These reads let the backend learn the size of the values.
    for _ in 0..20 {
        keys.read_all(&node).await;
    }
    let monitors: Vec<_> = cluster.nodes().iter().map(|server| server.monitor()).collect();
    for (n, read) in keys.read_all(&node).await.into_iter().enumerate() {
        check(read, n);
    }
    for monitor in monitors {
        let reads = reads(&monitor.commands());
        let (alone, together): (Vec<_>, Vec<_>) = reads.into_iter().partition(|names| names.len() == 1);
        assert!(together.iter().all(|names| names.iter().all(|other| *other == names[0])), "{together:?}");
        let mut commands: Vec<u16> = together.iter().map(|names| names[0]).collect();
        let count = commands.len();
        commands.sort_unstable();
        commands.dedup();
        assert_eq!(commands.len(), count, "a partition has one command: {together:?}");
        // The two that go alone, and partitions with one key in the batch.
        assert!(alone.len() < 10, "{alone:?}");
        let gathered: usize = together.iter().map(Vec::len).sum();
        assert!(gathered > 40, "{together:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gets_the_value_of_its_key() {
    let cluster = RedisCluster::start(MASTERS);
    let node = node(&cluster).await;
    let keys = Keys::new(&cluster, 300);
    keys.plant(&cluster);
    for n in 0..300 {
        let (server, name) = (keys.server(&cluster, n), keys.name(n));
        match n % 3 {
            1 => drop(server.cli::<Value>(&["DEL", &name])),
            2 => {
                server.cli::<Value>(&["DEL", &name]);
                server.cli::<Value>(&["SADD", &name, "x"]);
            }
            _ => {}
        }
    }
    for _ in 0..20 {
        for (n, read) in join_all(keys.begin(&node)).await.into_iter().enumerate() {
            match n % 3 {
                0 => check(read.unwrap(), n),
                _ => assert_eq!(read.unwrap().unwrap().value, None, "k{n}"),
            }
        }
    }
}

// One thread: the map of the cluster does not change before all reads are under way.
#[tokio::test]
async fn reads_of_a_slot_that_has_moved_are_repeated_alone() {
    let cluster = RedisCluster::start(MASTERS);
    let node = node(&cluster).await;
    let keys = Keys::new(&cluster, 240);
    keys.plant(&cluster);
    for _ in 0..20 {
        keys.read_all(&node).await;
    }
    let (moved, from) = (keys.partition(0), keys.master(0));
    let to = (from + 1) % MASTERS;
    cluster.move_slot(keys.slot(0), to);
    let monitors = [cluster.node(from).monitor(), cluster.node(to).monitor()];
    for (n, read) in keys.read_all(&node).await.into_iter().enumerate() {
        check(read, n);
    }
    let [old, new] = monitors.map(|monitor| reads(&monitor.commands()));
    let count = |reads: &[Vec<u16>], of: &dyn Fn(u16) -> bool| -> usize {
        reads.iter().flatten().filter(|partition| of(**partition)).count()
    };
    let expected = |of: &dyn Fn(usize) -> bool| (0..240).filter(|n| of(*n)).count();
    let of_old = |n: usize| keys.master(n) == from && keys.partition(n) != moved;
    assert_eq!(count(&old, &|_| true), expected(&of_old), "each is read once: {old:?}");
    assert_eq!(count(&new, &|partition| partition == moved), expected(&|n| keys.partition(n) == moved));
    let of_new = |n: usize| keys.master(n) == to;
    assert_eq!(count(&new, &|partition| partition != moved), expected(&of_new), "each is read once: {new:?}");
}

// One thread: the reads of a master are in one batch.
#[tokio::test]
async fn while_a_slot_moves_only_a_key_that_has_left_waits() {
    let cluster = RedisCluster::start(MASTERS);
    let node = node(&cluster).await;
    let keys = Keys::new(&cluster, 240);
    keys.plant(&cluster);
    for _ in 0..20 {
        keys.read_all(&node).await;
    }
    let (slot, from) = (keys.slot(0), keys.master(0));
    let (source, to) = (cluster.node(from), (from + 1) % MASTERS);
    let of_slot: Vec<usize> = (0..240).filter(|n| keys.slot(*n) == slot).collect();
    let gone = *of_slot.last().unwrap();
    assert!(of_slot.len() > 2, "{of_slot:?}");
    cluster.begin_move(slot, from, to);
    let port = cluster.node(to).port().to_string();
    source.cli::<()>(&["MIGRATE", "127.0.0.1", &port, &keys.name(gone), "0", "5000"]);

    let read = |n: &usize| node.region.read_one(&keys.keys[*n], Check::Plain);
    let others: Vec<usize> = (0..240).filter(|n| *n != gone).collect();
    let mut found = pin!(join_all(others.iter().map(read)));
    let mut left = pin!(read(&gone));
    assert!(poll!(&mut found).is_pending() && poll!(&mut left).is_pending());
    let found = tokio::select! {
        biased;
        left = &mut left => panic!("neither master may answer: {left:?}"),
        found = &mut found => found,
    };
    for (n, read) in others.into_iter().zip(found) {
        check(read, n);
    }
    let errors: String = source.cli(&["INFO", "errorstats"]);
    // Before 7.0, the key that has left alone is refused in the same words.
    let together = if major_version() < 7 { "ASK:count=2\r" } else { "TRYAGAIN:count=1\r" };
    assert!(errors.contains(&format!("errorstat_{together}")), "they are refused together once: {errors}");
    while cluster.move_keys(slot, from, to) {}
    cluster.end_move(slot, from, to);
    check(left.await, gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_hangs_or_dies_keeps_no_read_of_another_waiting() {
    let cluster = RedisCluster::start(MASTERS);
    let node = node(&cluster).await;
    let keys = Keys::new(&cluster, 240);
    keys.plant(&cluster);
    for dies in [false, true] {
        cluster.node(0).pause();
        let (mut hanging, mut answered) = (Vec::new(), Vec::new());
        for (n, read) in keys.begin(&node).into_iter().enumerate() {
            if keys.master(n) == 0 { hanging.push((n, read)) } else { answered.push((n, read)) }
        }
        for (n, read) in answered {
            check(read.await.unwrap(), n);
        }
        assert!(hanging.len() > 20 && hanging.iter().all(|(_, read)| !read.is_finished()));
        if dies {
            cluster.node(0).kill();
        } else {
            cluster.node(0).resume();
        }
        for (n, read) in hanging {
            match read.await.unwrap() {
                Err(error) if dies => assert_eq!(error.kind(), ErrorKind::Backend, "{error}"),
                read => check(read, n),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_for_many_keys_answers_those_whose_masters_answer() {
    let cluster = RedisCluster::start(MASTERS);
    let node = node(&cluster).await;
    let keys = Keys::new(&cluster, 240);
    keys.plant(&cluster);
    cluster.node(0).kill();
    let reads = node.region.read_each(&keys.keys, Check::Plain).await;
    let (mut harmed, mut found) = (0, 0);
    for (n, read) in reads.into_iter().enumerate() {
        match keys.master(n) {
            0 => {
                assert_eq!(read.unwrap_err().kind(), ErrorKind::Backend);
                harmed += 1;
            }
            _ => {
                check(read, n);
                found += 1;
            }
        }
    }
    assert!(harmed > 20 && found > 20, "{harmed} of the master that is away, {found} of others");
}
