//! A Redis Cluster that belongs to a test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::RedisResult;

use crate::ports::free_port;
use crate::server::{RedisServer, major_version};

mod slots;

/// The number of slots of a cluster.
const SLOTS: usize = 16_384;

/// The maximum time for a change of the cluster to be known to all its nodes.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many keys move in one command.
const KEYS: &str = "100";

/// What nodes older than Redis 7.0 add to their port: there they listen for other nodes.
const OLD_BUS: u16 = 10_000;

/// The settings of one node.
#[derive(Debug)]
pub struct NodeSettings {
    /// The port on which it listens for other nodes. Nodes older than Redis 7.0 have one of their own.
    pub bus_port: u16,
    /// The port that it tells other nodes. It may be that of a proxy.
    pub told_bus_port: u16,
    /// Further arguments of `redis-server`.
    pub arguments: Vec<String>,
}

impl Default for NodeSettings {
    fn default() -> Self {
        let bus_port = free_port();
        Self { bus_port, told_bus_port: bus_port, arguments: Vec::new() }
    }
}

/// Masters that share the slots, and their replicas. All are killed when this is dropped.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Arc<RedisServer>>,
    bus_ports: Vec<u16>,
    masters: usize,
    /// The number of nodes that have been removed. They are not running any more.
    removed: usize,
}

impl RedisCluster {
    /// Starts masters without replicas.
    ///
    /// # Panics
    ///
    /// If there is no `redis-server`, or if it does not become a cluster.
    #[must_use]
    pub fn start(masters: usize) -> Self {
        Self::with_replicas(masters, 0)
    }

    /// Starts masters, each with this number of replicas. Nodes 0 to `masters - 1` are the masters. Node
    /// `masters + n` is a replica of master `n % masters`.
    ///
    /// # Panics
    ///
    /// If there is no `redis-server`, or if it does not become a cluster.
    #[must_use]
    pub fn with_replicas(masters: usize, replicas: usize) -> Self {
        let settings = (0..masters * (1 + replicas)).map(|_| NodeSettings::default());
        Self::with_settings(masters, &settings.collect::<Vec<_>>())
    }

    /// Starts a node for each of these settings: the masters first, then replicas as in
    /// [`with_replicas`](Self::with_replicas).
    ///
    /// # Panics
    ///
    /// If there is no `redis-server`, or if it does not become a cluster.
    #[must_use]
    pub fn with_settings(masters: usize, settings: &[NodeSettings]) -> Self {
        let mut cluster = Self { nodes: Vec::new(), bus_ports: Vec::new(), masters, removed: 0 };
        for node in settings {
            cluster.launch(node);
        }
        for index in 0..masters {
            // Nodes older than Redis 7.0 know no ADDSLOTSRANGE.
            let slots = index * SLOTS / masters..(index + 1) * SLOTS / masters;
            let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
            let words = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str));
            cluster.nodes[index].cli::<()>(&words.collect::<Vec<_>>());
            let epoch = (index + 1).to_string();
            cluster.nodes[index].cli::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
        }
        for index in 1..cluster.nodes.len() {
            cluster.meet(index);
        }
        cluster.settle();
        for replica in masters..cluster.nodes.len() {
            cluster.follow(replica, (replica - masters) % masters);
        }
        cluster
    }

    fn launch(&mut self, settings: &NodeSettings) {
        let port = settings.bus_port.to_string();
        let told = settings.told_bus_port.to_string();
        let is_old = major_version() < 7;
        let bus = ["--cluster-port", &port, "--cluster-announce-bus-port", &told];
        let mut arguments = vec![
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "1500",
            "--cluster-replica-validity-factor",
            "0",
            "--cluster-require-full-coverage",
            "no",
            "--repl-diskless-sync-delay",
            "0",
        ];
        arguments.extend(if is_old { &[][..] } else { &bus });
        arguments.extend(settings.arguments.iter().map(String::as_str));
        let node = RedisServer::with_arguments(&arguments);
        self.bus_ports.push(if is_old { node.port() + OLD_BUS } else { settings.told_bus_port });
        self.nodes.push(Arc::new(node));
    }

    fn meet(&self, index: usize) {
        let ports = [self.nodes[index].port().to_string(), self.bus_ports[index].to_string()];
        self.nodes[0].cli::<()>(&["CLUSTER", "MEET", "127.0.0.1", &ports[0], &ports[1]]);
    }

    fn follow(&self, replica: usize, master: usize) {
        let id = self.id(master);
        until("the replica knows its master", || {
            self.nodes[replica].try_cli::<()>(&["CLUSTER", "REPLICATE", &id]).is_ok()
        });
        until("the replica has the data of its master", || {
            self.nodes[replica].cli::<String>(&["INFO", "replication"]).contains("master_link_status:up")
        });
    }

    /// Waits until every node that runs knows every other one, and the owners of all slots.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    pub fn settle(&self) {
        let known = format!("cluster_known_nodes:{}\r", self.nodes.len() - self.removed);
        for node in self.running() {
            until("the nodes know one another", || {
                let info: String = node.cli(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok")
                    && info.contains("cluster_slots_assigned:16384\r")
                    && info.contains(&known)
            });
        }
    }

    fn running(&self) -> impl Iterator<Item = &Arc<RedisServer>> {
        self.nodes.iter().filter(|node| node.connection().is_ok())
    }

    /// The URLs of the masters that the cluster began with.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes[..self.masters].iter().map(|node| node.url()).collect()
    }

    /// A node.
    #[must_use]
    pub fn node(&self, index: usize) -> &Arc<RedisServer> {
        &self.nodes[index]
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Arc<RedisServer>] {
        &self.nodes
    }

    fn id(&self, index: usize) -> String {
        self.nodes[index].cli(&["CLUSTER", "MYID"])
    }

    /// The slot of a name.
    #[must_use]
    pub fn slot_of(&self, name: &str) -> u16 {
        self.running().next().expect("a node runs").cli(&["CLUSTER", "KEYSLOT", name])
    }

    /// The node that owns a slot, as the nodes that run know it. `None` while they differ.
    ///
    /// # Panics
    ///
    /// If no node runs.
    #[must_use]
    pub fn owner_of(&self, slot: u16) -> Option<usize> {
        let mut owners =
            self.running().map(|node| owner_in(&node.cli::<String>(&["CLUSTER", "NODES"]), slot));
        let port = owners.next().expect("a node runs")?;
        let agreed = owners.all(|other| other == Some(port));
        agreed.then(|| self.nodes.iter().position(|node| node.port() == port)).flatten()
    }

    /// Waits until the nodes that run agree on an owner other than `not`.
    ///
    /// # Panics
    ///
    /// If that takes too long.
    pub fn new_owner_of(&self, slot: u16, not: usize) -> usize {
        let mut owner = None;
        until("the slot has another owner", || {
            owner = self.owner_of(slot).filter(|owner| *owner != not);
            owner.is_some()
        });
        owner.expect("it was just found")
    }

    /// Starts a master without slots. Returns its index.
    pub fn add_master(&mut self) -> usize {
        self.launch(&NodeSettings::default());
        let index = self.nodes.len() - 1;
        self.meet(index);
        self.settle();
        index
    }

    /// Moves the slots of a master to two others, one half to each, lets all nodes forget it, and kills it.
    ///
    /// # Panics
    ///
    /// If a node refuses.
    pub fn remove_master(&mut self, index: usize, heirs: [usize; 2]) {
        let slots = self.slots_of(index);
        let halves = slots.split_at(slots.len() / 2);
        for (slots, heir) in [halves.0, halves.1].into_iter().zip(heirs) {
            self.hand_over(slots, index, heir);
        }
        let id = self.id(index);
        for node in self.running().filter(|node| node.port() != self.nodes[index].port()) {
            node.cli::<()>(&["CLUSTER", "FORGET", &id]);
        }
        self.nodes[index].kill();
        self.removed += 1;
        self.settle();
    }

    /// The slots of a master, as it knows them.
    #[must_use]
    pub fn slots_of(&self, index: usize) -> Vec<u16> {
        let node = &self.nodes[index];
        let known: String = node.cli(&["CLUSTER", "NODES"]);
        (0..SLOTS as u16).filter(|slot| owner_in(&known, *slot) == Some(node.port())).collect()
    }

    /// How often the nodes that run have been asked about the cluster.
    #[must_use]
    pub fn questions(&self) -> u64 {
        let of = |node: &Arc<RedisServer>| {
            let stats: String = node.cli(&["INFO", "commandstats"]);
            let lines = stats.lines().filter(|line| line.starts_with("cmdstat_cluster"));
            lines
                .filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok())
                .sum::<u64>()
        };
        self.running().map(of).sum()
    }

    fn run<T: redis::FromRedisValue>(&self, index: usize, pipeline: &redis::Pipeline) -> RedisResult<T> {
        pipeline.query(&mut self.nodes[index].connection()?)
    }
}

/// The port of the node that owns a slot, in the answer to `CLUSTER NODES`.
#[must_use]
pub fn owner_in(nodes: &str, slot: u16) -> Option<u16> {
    let owner = nodes.lines().find(|line| {
        let ranges = line.split(' ').skip(8).filter(|range| !range.starts_with('['));
        ranges
            .filter_map(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?))
            })
            .any(|(first, last)| (first..=last).contains(&slot))
    })?;
    let address = owner.split(' ').nth(1)?.split('@').next()?;
    address.rsplit(':').next()?.parse().ok()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
