//! The servers of a run, and the ways that lead to them.
//!
//! Each cache handle reaches every server through a proxy of its own. A cluster and Sentinels tell the nodes where
//! the servers are, so each handle has an address in 127.0.0.0/8, and its proxies listen there on the ports of the
//! servers. The nodes of the cluster tell only their ports, and clients keep the address at which they asked. The
//! answers of Sentinels contain `127.0.0.1`, and their proxies change it into the address of the handle.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use integration_tests::cluster::{NodeSettings, RedisCluster, owner_in};
use integration_tests::ports::free_port;
use integration_tests::proxy::{Alias, Answers};
use integration_tests::sentinels::MASTER;
use integration_tests::{Proxy, RedisServer, Route, Sentinels};
use redis::FromRedisValue;
use serde::Serialize;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::node::{DRAWN_NAMESPACE, LIVES_NAMESPACE, NAMESPACE};

/// The arrangement of the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Topology {
    /// One server.
    Single,
    /// A master and a replica, which three Sentinels watch.
    Sentinel,
    /// Three masters, each with a replica.
    Cluster,
}

impl Topology {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        }
    }

    /// The number of partitions of a namespace.
    pub(crate) fn partitions(self) -> u16 {
        if self == Self::Cluster { PARTITIONS as u16 } else { 1 }
    }
}

/// The partitions of a namespace in a cluster.
pub(crate) const PARTITIONS: usize = 64;
pub(crate) const NAMESPACES: [&str; 3] = [NAMESPACE, LIVES_NAMESPACE, DRAWN_NAMESPACE];
const MASTERS: usize = 3;
/// The longest time for servers to be well again: a failover, and the copying of all data to a replica.
const WELL_WITHIN: Duration = Duration::from_secs(90);

/// All servers of a run.
#[derive(Debug)]
pub(crate) enum Deployment {
    Single(RedisServer),
    Sentinel(Sentinels),
    Cluster(Box<Cluster>),
}

/// A cluster, the proxies in front of the ports for its other nodes, and the slots of the partitions.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub redis: RedisCluster,
    pub buses: Vec<Proxy>,
    /// For each namespace and partition.
    pub slots: [[u16; PARTITIONS]; NAMESPACES.len()],
}

/// The address from which a server of the cluster opens its connections to others.
pub(crate) fn origin(server: usize) -> IpAddr {
    Ipv4Addr::new(127, 9, server as u8 + 1, 1).into()
}

/// The address of a handle. Its text is as long as `127.0.0.1`.
fn address(handle: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 1 + (handle / 9) as u8, 1 + (handle % 9) as u8, 1)
}

/// The ways of one handle to the servers.
#[derive(Debug)]
pub(crate) struct Ways {
    /// To each server.
    pub links: Vec<Link>,
    /// To each Sentinel.
    pub watchers: Vec<Proxy>,
    /// What its cache is given.
    pub urls: Vec<String>,
    /// The servers through its proxies.
    pub servers: Vec<String>,
}

/// The way of a handle to a server.
#[derive(Debug)]
pub(crate) struct Link {
    pub server: usize,
    pub handle: usize,
    pub proxy: Proxy,
}

impl Deployment {
    pub(crate) async fn start(topology: Topology) -> Self {
        match topology {
            Topology::Single => Self::Single(block_in_place(RedisServer::start)),
            Topology::Sentinel => Self::Sentinel(block_in_place(Sentinels::start)),
            Topology::Cluster => Self::Cluster(Box::new(Cluster::start().await)),
        }
    }

    pub(crate) fn servers(&self) -> Vec<&RedisServer> {
        match self {
            Self::Single(server) => vec![server],
            Self::Sentinel(sentinels) => sentinels.servers.iter().collect(),
            Self::Cluster(cluster) => cluster.redis.nodes().iter().map(Arc::as_ref).collect(),
        }
    }

    pub(crate) fn sentinels(&self) -> Option<&Sentinels> {
        if let Self::Sentinel(sentinels) = self { Some(sentinels) } else { None }
    }

    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        if let Self::Cluster(cluster) = self { Some(cluster) } else { None }
    }

    /// The numbers of the servers that are masters now. It waits for servers that do not answer.
    pub(crate) fn masters(&self) -> Vec<usize> {
        match self {
            Self::Single(_) => vec![0],
            _ => {
                let roles = block_in_place(|| self.servers().into_iter().map(RedisServer::role).collect());
                let roles: Vec<String> = roles;
                (0..roles.len()).filter(|at| roles[*at] == "master").collect()
            }
        }
    }

    /// The replica of a master.
    pub(crate) fn replica_of(&self, master: usize) -> std::io::Result<usize> {
        let port = self.servers()[master].port();
        let follows = |server: &RedisServer| {
            server.try_cli::<String>(&["INFO", "replication"]).is_ok_and(|info| {
                info.contains("role:slave") && info.contains(&format!("master_port:{port}\r"))
            })
        };
        let found = block_in_place(|| self.servers().into_iter().position(follows));
        found.ok_or_else(|| std::io::Error::other(format!("server {master} has no replica")))
    }

    /// Starts the proxies of a handle.
    pub(crate) async fn ways(&self, handle: usize) -> Ways {
        if let Self::Single(server) = self {
            let proxy = Proxy::start(server.port()).await;
            let urls = vec![server.url_at(proxy.port())];
            let links = vec![Link { server: 0, handle, proxy }];
            return Ways { links, watchers: Vec::new(), servers: urls.clone(), urls };
        }
        let ip = address(handle);
        let at = |port: u16| SocketAddr::from((ip, port));
        let url = |server: &RedisServer| format!("redis://{ip}:{}", server.port());
        let alias: Option<Alias> = ip.to_string().into_bytes().try_into().ok();
        let renamed = alias.map_or(Answers::Unchanged, Answers::Renamed);
        // A master tells the addresses of its replicas. The nodes of a cluster tell ports alone.
        let told = if self.sentinels().is_some() { renamed } else { Answers::Unchanged };
        let mut links = Vec::new();
        for (server, process) in self.servers().into_iter().enumerate() {
            let proxy = Proxy::start_at(at(process.port()), process.port(), told).await;
            links.push(Link { server, handle, proxy });
        }
        let servers: Vec<String> = self.servers().into_iter().map(url).collect();
        let mut watchers = Vec::new();
        let members = self.sentinels().map(|sentinels| &sentinels.members[..]).unwrap_or_default();
        for member in members {
            watchers.push(Proxy::start_at(at(member.port()), member.port(), renamed).await);
        }
        let urls = if members.is_empty() { servers.clone() } else { members.iter().map(url).collect() };
        Ways { links, watchers, urls, servers }
    }

    /// What a cache without proxies is given.
    pub(crate) fn direct(&self, user: Option<&str>) -> Vec<String> {
        let login = user.map_or_else(String::new, |user| format!("{user}:{user}@"));
        let url = |server: &RedisServer| format!("redis://{login}127.0.0.1:{}", server.port());
        match self {
            Self::Sentinel(sentinels) => sentinels.members.iter().map(url).collect(),
            _ => self.servers().into_iter().map(url).collect(),
        }
    }

    /// Keeps replicas from taking the places of their masters, until all is [well](Self::get_well) again.
    pub(crate) fn forbid_failovers(&self) {
        match self {
            Self::Single(_) => {}
            Self::Sentinel(sentinels) => block_in_place(|| {
                sentinels
                    .members
                    .iter()
                    .for_each(|member| set(member, ["down-after-milliseconds", "600000"]));
            }),
            Self::Cluster(_) => self.allow_failovers("yes"),
        }
    }

    fn allow_failovers(&self, forbidden: &str) {
        let words = ["CONFIG", "SET", "cluster-replica-no-failover", forbidden];
        block_in_place(|| {
            for server in self.servers() {
                let _ = server.try_cli::<()>(&words);
            }
        });
    }

    /// Waits until each master has its replica, and no server counts as failed on another. Allows failovers again.
    pub(crate) async fn get_well(&self) -> std::io::Result<()> {
        if !until(WELL_WITHIN, || self.is_well()).await {
            let what = block_in_place(|| self.describe());
            return Err(std::io::Error::other(format!("the servers did not become well again: {what}")));
        }
        match self {
            Self::Single(_) => {}
            Self::Sentinel(sentinels) => block_in_place(|| {
                sentinels.members.iter().for_each(|member| set(member, ["down-after-milliseconds", "1000"]));
            }),
            Self::Cluster(_) => self.allow_failovers("no"),
        }
        Ok(())
    }

    /// What the servers say of themselves and of one another.
    pub(crate) fn describe(&self) -> String {
        let of = |server: &RedisServer| {
            let ask = |words: &[&str]| server.try_cli::<String>(words).unwrap_or_default();
            let (info, nodes) = (ask(&["INFO", "replication"]), ask(&["CLUSTER", "NODES"]));
            format!("\nserver at {}:\n{info}{nodes}", server.port())
        };
        self.servers().into_iter().map(of).collect()
    }

    fn is_well(&self) -> bool {
        let replicates = |server: &RedisServer| {
            let info = server.try_cli::<String>(&["INFO", "replication"]).unwrap_or_default();
            info.contains("master_link_status:up") || info.contains("connected_slaves:1\r")
        };
        let knows = |server: &RedisServer| {
            let info = server.try_cli::<String>(&["CLUSTER", "INFO"]).unwrap_or_default();
            let nodes = server.try_cli::<String>(&["CLUSTER", "NODES"]).unwrap_or_default();
            // A node that is suspected or taken for failed has one of the flags `fail?` and `fail`.
            let nodes = nodes.replace("nofailover", "");
            info.contains("cluster_state:ok") && !nodes.contains("fail") && !nodes.contains("handshake")
        };
        match self {
            Self::Single(server) => server.connection().is_ok(),
            Self::Sentinel(sentinels) => {
                self.servers().into_iter().all(replicates)
                    && sentinels.members.iter().all(|member| watches(member, &self.servers()))
            }
            Self::Cluster(_) => self.servers().into_iter().all(|server| replicates(server) && knows(server)),
        }
    }
}

/// Whether a Sentinel takes the master for the master and everything for well.
fn watches(member: &RedisServer, servers: &[&RedisServer]) -> bool {
    let master: Vec<String> = member.try_cli(&["SENTINEL", "MASTER", MASTER]).unwrap_or_default();
    let replicas: Vec<Vec<String>> = member.try_cli(&["SENTINEL", "REPLICAS", MASTER]).unwrap_or_default();
    let field = |fields: &[String], name: &str| {
        fields.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone()).unwrap_or_default()
    };
    let port = field(&master, "port");
    field(&master, "flags") == "master"
        && servers.iter().any(|server| server.port().to_string() == port && server.role() == "master")
        && replicas.len() == 1
        && field(&replicas[0], "flags") == "slave"
}

/// Changes a setting of a Sentinel that runs.
fn set(member: &RedisServer, [name, value]: [&str; 2]) {
    let _ = member.try_cli::<()>(&["SENTINEL", "SET", MASTER, name, value]);
}

/// Runs a command on a server, and ignores an error, because the server may be away.
pub(crate) fn ask<T: FromRedisValue>(server: &RedisServer, words: &[&[u8]]) -> Option<T> {
    let mut command = redis::Cmd::new();
    words.iter().for_each(|word| {
        command.arg(*word);
    });
    block_in_place(|| command.query(&mut server.connection().ok()?).ok())
}

/// Waits for a condition. False if it does not come true in time.
pub(crate) async fn until(limit: Duration, condition: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !block_in_place(&condition) {
        if begun.elapsed() > limit {
            return false;
        }
        sleep(Duration::from_millis(10)).await;
    }
    true
}

impl Cluster {
    async fn start() -> Self {
        let (mut buses, mut settings) = (Vec::new(), Vec::new());
        for server in 0..2 * MASTERS {
            let bus_port = free_port();
            let bus = Proxy::start(bus_port).await;
            let arguments = [
                ["--cluster-announce-ip", "127.0.0.1"],
                ["--cluster-preferred-endpoint-type", "unknown-endpoint"],
                // A replica does not come from 127.0.0.1.
                ["--protected-mode", "no"],
                ["--bind-source-addr", &origin(server).to_string()],
            ];
            let arguments = arguments.as_flattened().iter().map(ToString::to_string).collect();
            settings.push(NodeSettings { bus_port, told_bus_port: bus.port(), arguments });
            buses.push(bus);
        }
        let redis = block_in_place(|| RedisCluster::with_settings(MASTERS, &settings));
        let slot = |namespace: &str, partition| redis.slot_of(&format!("{{{namespace}:{partition}}}"));
        let slots = block_in_place(|| NAMESPACES.map(|name| std::array::from_fn(|at| slot(name, at))));
        Self { redis, buses, slots }
    }

    /// For each namespace the partitions of these servers, one bit for each.
    pub(crate) fn partitions_of(&self, servers: &[usize]) -> [u64; NAMESPACES.len()] {
        let ports: Vec<u16> = servers.iter().map(|server| self.redis.node(*server).port()).collect();
        let nodes: String = ask(self.redis.node(servers[0]), &[b"CLUSTER", b"NODES"]).unwrap_or_default();
        self.partitions_with(|slot| owner_in(&nodes, slot).is_some_and(|port| ports.contains(&port)))
    }

    /// For each namespace the partitions with such slots, one bit for each.
    pub(crate) fn partitions_with(&self, wanted: impl Fn(u16) -> bool) -> [u64; NAMESPACES.len()] {
        let bits = |slots: [u16; PARTITIONS]| {
            (0..PARTITIONS).filter(|at| wanted(slots[*at])).fold(0, |bits, at| bits | 1 << at)
        };
        self.slots.map(bits)
    }

    /// Cuts a server off from all other servers, as far as these know one another as nodes of the cluster.
    pub(crate) fn isolate(&self, server: usize) {
        let others = |at: usize| at != server;
        for (at, bus) in self.buses.iter().enumerate() {
            let peers: Vec<IpAddr> = match at == server {
                true => (0..self.buses.len()).filter(|at| others(*at)).map(origin).collect(),
                false => vec![origin(server)],
            };
            bus.shut_out(&peers);
        }
    }

    /// Cuts two servers off from each other in the same way.
    pub(crate) fn part(&self, [one, other]: [usize; 2]) {
        self.buses[one].shut_out(&[origin(other)]);
        self.buses[other].shut_out(&[origin(one)]);
    }

    /// Ends both. All connections are made again, because some have lost data.
    pub(crate) fn rejoin(&self) {
        self.buses.iter().for_each(|bus| bus.shut_out(&[]));
        self.buses.iter().for_each(|bus| Route::ALL.into_iter().for_each(|route| bus.cut(route)));
    }
}
