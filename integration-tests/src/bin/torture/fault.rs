//! The faults of the system.

use std::collections::HashSet;
use std::time::Duration;

use fastrand::Rng;
use integration_tests::{Conditions, Data, Flow, Proxy, Route};
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::deployment::{Link, NAMESPACES, PARTITIONS, Topology};
use crate::node::NAMESPACE;
use crate::rig::Rig;
use crate::{cluster, failover, orders, sentinel, server};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// Everything takes longer, by a random time.
    Delay,
    /// Commands are executed, but their answers come after the deadline, or the commands reach the server after
    /// it.
    Late,
    /// Commands are fast and messages slow, or the reverse.
    Reorder,
    /// Few bytes per second pass.
    Bandwidth,
    /// Connections are closed, and new ones are refused for a while.
    Drop,
    /// The sockets stay open, and nothing passes.
    HalfOpen,
    /// A subscriber does not read until the server closes its connection.
    Overflow,
    /// SIGSTOP of a node, then SIGCONT.
    StopNode,
    /// `kill -9` of a node, and a new one.
    KillNode,
    /// SIGSTOP of Redis, then SIGCONT.
    StopRedis,
    /// `CLIENT KILL TYPE pubsub`.
    KillPubsub,
    /// `CLIENT KILL TYPE normal`.
    KillNormal,
    /// `FLUSHALL`.
    Flushall,
    /// Redis is killed, and starts empty.
    Restart,
    /// Redis is killed, and starts from an old snapshot.
    OldSnapshot,
    /// A replica that has missed invalidations takes the place of its master.
    Promote,
    /// A master follows a replica that lacks its last changes, and becomes a master again. The server process
    /// stays, but its data is older.
    Demote,
    /// The memory is full, and nothing is evicted. So nothing can be stored.
    FullMemory,
    /// `SCRIPT FLUSH`, again and again.
    ScriptFlush,
    /// Messages on the bus that no node has sent.
    ForeignMessages,
    /// Numbers in the state of the partition that no script has written.
    ForeignNumbers,
    /// A node that starts without the right to publish.
    NoRights,
    /// A node that loses the right to publish while it runs.
    RevokedRights,
    /// A node that stores values in another format.
    OtherBuild,
    /// A load runs on a runtime that stops running.
    EndRuntime,
    /// A node shuts down while failed changes wait to be sent, and another node takes its place.
    Leave,
    /// A master is killed, its replica takes its place, and it comes back as a replica.
    Failover,
    /// A replica takes the place of its master on command.
    CommandedFailover,
    /// SIGSTOP of a master until its replica has taken its place, then SIGCONT.
    StoppedFailover,
    /// Slots are moved from one master to another, key by key.
    MoveSlots,
    /// The connections between a master and all other nodes of the cluster are cut, or those between two masters.
    CutMasters,
    /// Sentinels are killed, and connections to the master end.
    KillSentinels,
    /// A Sentinel that has missed a failover names the old master, and a node reaches no other Sentinel. The old master
    /// is a replica that misses changes.
    OldSentinel,
}

pub(crate) fn ms(rng: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

/// The proxies of one handle or of all, in front of one server or of all.
fn some<'a>(rig: &'a Rig, rng: &mut Rng) -> Vec<&'a Proxy> {
    let handle = rng.bool().then(|| rng.usize(..rig.handles().count()));
    let servers = rig.deployment.servers().len();
    let server = (servers > 1 && rng.bool()).then(|| drawn(&rig.deployment.masters(), rng));
    let wanted = |link: &&Link| {
        handle.is_none_or(|handle| handle == link.handle) && server.is_none_or(|server| server == link.server)
    };
    rig.links().filter(wanted).map(|link| &link.proxy).collect()
}

/// One of several.
pub(crate) fn drawn(of: &[usize], rng: &mut Rng) -> usize {
    of[rng.usize(..of.len())]
}

/// One master, or all.
pub(crate) fn some_masters(rig: &Rig, rng: &mut Rng) -> Vec<usize> {
    let all = rig.deployment.masters();
    if all.len() == 1 || rng.bool() { all } else { vec![drawn(&all, rng)] }
}

/// One route, or both.
fn routes(rng: &mut Rng) -> &'static [Route] {
    match rng.u8(..4) {
        0 => &Route::ALL,
        1 => &Route::ALL[..1],
        _ => &Route::ALL[1..],
    }
}

fn set(proxies: &[&Proxy], routes: &[Route], conditions: Conditions) {
    for proxy in proxies {
        routes.iter().for_each(|route| proxy.set(*route, conditions));
    }
}

fn clear(rig: &Rig) {
    rig.proxies().for_each(Proxy::clear);
}

impl Fault {
    /// Whether the fault is one of this topology.
    pub(crate) fn suits(self, topology: Topology) -> bool {
        match self {
            Self::Promote | Self::Demote => topology == Topology::Single,
            Self::Failover | Self::CommandedFailover | Self::StoppedFailover => topology != Topology::Single,
            Self::MoveSlots | Self::CutMasters => topology == Topology::Cluster,
            Self::KillSentinels | Self::OldSentinel => topology == Topology::Sentinel,
            _ => true,
        }
    }

    /// Whether one node causes the fault. The others must then work as without the fault.
    pub(crate) fn is_of_one_node(self) -> bool {
        use Fault::{ForeignMessages, NoRights, OtherBuild, RevokedRights};
        matches!(self, ForeignMessages | NoRights | OtherBuild | RevokedRights)
    }

    /// Begins the fault, and ends it. Returns an observation that is worth printing, if there is one.
    pub(crate) async fn inflict(self, rig: &mut Rig, rng: &mut Rng) -> std::io::Result<Option<String>> {
        match self {
            Self::Delay => {
                let conditions =
                    Conditions { delay: ms(rng, 1..80), jitter: ms(rng, 1..80), ..Conditions::default() };
                set(&some(rig, rng), &Route::ALL, conditions);
                sleep(ms(rng, 1000..4000)).await;
            }
            Self::Late => {
                let conditions = Conditions {
                    delay: ms(rng, 150..400),
                    jitter: ms(rng, 100..500),
                    ..Conditions::default()
                };
                set(&some(rig, rng), &[Route::Commands], conditions);
                sleep(ms(rng, 1500..4000)).await;
            }
            Self::Reorder => reorder(rig, rng).await,
            Self::Bandwidth => {
                let bytes_per_s = Some(rng.u32(1_000..20_000));
                set(&some(rig, rng), routes(rng), Conditions { bytes_per_s, ..Conditions::default() });
                sleep(ms(rng, 1000..4000)).await;
            }
            Self::Drop => cut(rig, rng).await,
            Self::HalfOpen => {
                let lost = Conditions { flow: Flow::Lost, ..Conditions::default() };
                let (proxies, routes) = (some(rig, rng), routes(rng));
                if rng.bool() {
                    set(&proxies, routes, lost);
                } else {
                    for proxy in proxies {
                        routes.iter().for_each(|route| proxy.freeze(*route));
                    }
                }
                sleep(ms(rng, 1000..4000)).await;
            }
            Self::Overflow => return Ok(overflow(rig, rng).await),
            Self::StopNode => {
                let at = rng.usize(..rig.nodes.len());
                rig.nodes[at].signal(Signal::SIGSTOP);
                sleep(ms(rng, 100..4000)).await;
                rig.nodes[at].signal(Signal::SIGCONT);
            }
            Self::KillNode => {
                let at = rng.usize(..rig.nodes.len());
                let pause = ms(rng, 0..1000);
                rig.replace(at, pause).await?;
            }
            Self::StopRedis => {
                let masters = some_masters(rig, rng);
                rig.deployment.forbid_failovers();
                masters.iter().for_each(|master| rig.server(*master).pause());
                sleep(ms(rng, 100..4000)).await;
                masters.iter().for_each(|master| rig.server(*master).resume());
            }
            Self::KillPubsub => repeat(rig, rng, &[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]).await,
            Self::KillNormal => repeat(rig, rng, &[b"CLIENT", b"KILL", b"TYPE", b"normal"]).await,
            Self::Flushall => repeat(rig, rng, &[b"FLUSHALL"]).await,
            Self::Restart => {
                let masters = some_masters(rig, rng);
                restart(rig, &masters, (ms(rng, 0..1500), Data::Drop)).await;
            }
            Self::OldSnapshot => {
                let masters = some_masters(rig, rng);
                rig.tell_servers(&masters, &[b"SAVE"]);
                sleep(ms(rng, 200..2000)).await;
                restart(rig, &masters, (ms(rng, 0..500), Data::Keep)).await;
            }
            Self::Promote => return server::promote(rig, rng).await.map(Some),
            Self::EndRuntime => {
                let at = rng.usize(..rig.nodes.len());
                rig.tell(at, orders::END_RUNTIME).await?;
                sleep(ms(rng, 2000..4000)).await;
            }
            Self::Leave => leave(rig, rng).await?,
            Self::Failover | Self::CommandedFailover | Self::StoppedFailover => {
                return failover::inflict(self, rig, rng).await.map(Some);
            }
            Self::MoveSlots | Self::CutMasters => return cluster::inflict(self, rig, rng).await.map(Some),
            Self::KillSentinels | Self::OldSentinel => {
                return sentinel::inflict(self, rig, rng).await.map(Some);
            }
            _ => return server::inflict(self, rig, rng).await,
        }
        clear(rig);
        Ok(None)
    }
}

/// Kills servers and starts them again, before their replicas may take their places.
async fn restart(rig: &Rig, servers: &[usize], (pause, data): (Duration, Data)) {
    rig.deployment.forbid_failovers();
    servers.iter().for_each(|server| rig.server(*server).kill());
    sleep(pause).await;
    servers.iter().for_each(|server| block_in_place(|| rig.server(*server).restart(data)));
}

async fn reorder(rig: &Rig, rng: &mut Rng) {
    let proxies = some(rig, rng);
    for _ in 0..rng.u8(2..6) {
        let slow = Conditions { delay: ms(rng, 20..700), jitter: ms(rng, 1..100), ..Conditions::default() };
        let [first, second] = if rng.bool() { Route::ALL } else { [Route::Messages, Route::Commands] };
        set(&proxies, &[first], slow);
        set(&proxies, &[second], Conditions::default());
        sleep(ms(rng, 300..1200)).await;
    }
}

async fn cut(rig: &Rig, rng: &mut Rng) {
    let (proxies, routes) = (some(rig, rng), routes(rng));
    for _ in 0..rng.u8(1..6) {
        for proxy in &proxies {
            routes.iter().for_each(|route| proxy.cut(*route));
        }
        sleep(ms(rng, 20..500)).await;
    }
    if rng.bool() {
        set(&proxies, &[Route::Commands], Conditions { flow: Flow::Refused, ..Conditions::default() });
        for proxy in &proxies {
            routes.iter().for_each(|route| proxy.cut(*route));
        }
        sleep(ms(rng, 300..2000)).await;
    }
}

async fn repeat(rig: &Rig, rng: &mut Rng, command: &[&[u8]]) {
    let masters = some_masters(rig, rng);
    for _ in 0..rng.u8(1..5) {
        rig.tell_servers(&masters, command);
        sleep(ms(rng, 1..500)).await;
    }
}

/// Stops a node from reading its subscription, and floods the bus until the server closes the connection. The
/// node cannot notice that.
async fn overflow(rig: &Rig, rng: &mut Rng) -> Option<String> {
    const LIMIT: &[u8] = b"client-output-buffer-limit";
    let place = Place::draw(rig, NAMESPACE, rng);
    // The connections are known by their addresses, which are unique.
    let subscribers = || {
        let list: String = rig.ask(place.server, &[b"CLIENT", b"LIST", b"TYPE", b"pubsub"])?;
        let address =
            |line: &str| line.split(' ').find(|field| field.starts_with("addr=")).map(str::to_owned);
        Some(list.lines().filter_map(address).collect::<HashSet<String>>())
    };
    let before = subscribers().unwrap_or_default();
    let closed = || subscribers().map_or(0, |now| before.difference(&now).count());
    rig.ask::<()>(place.server, &[b"CONFIG", b"SET", LIMIT, b"pubsub 1048576 524288 1"]);
    let handle = rng.bool().then(|| rng.usize(..rig.handles().count()));
    let stalled =
        |link: &&Link| link.server == place.server && handle.is_none_or(|handle| handle == link.handle);
    let proxies: Vec<&Proxy> = rig.links().filter(stalled).map(|link| &link.proxy).collect();
    set(&proxies, &[Route::Messages], Conditions { flow: Flow::Stalled, ..Conditions::default() });
    let junk = vec![b'x'; 64 << 10];
    for _ in 0..128 {
        place.publish(rig, &junk);
        if closed() >= proxies.len() {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    sleep(ms(rng, 100..2500)).await;
    let closed = closed();
    clear(rig);
    rig.ask::<()>(place.server, &[b"CONFIG", b"SET", LIMIT, b"pubsub 33554432 8388608 60"]);
    Some(format!("{closed} subscribers closed by the server"))
}

/// A partition of a namespace, and its master.
pub(crate) struct Place {
    pub server: usize,
    prefix: String,
}

impl Place {
    pub(crate) fn draw(rig: &Rig, namespace: &str, rng: &mut Rng) -> Self {
        let masters = rig.deployment.masters();
        let Some(cluster) = rig.deployment.cluster() else {
            return Self { server: masters[0], prefix: format!("{{{namespace}:0}}") };
        };
        let partition = rng.usize(..PARTITIONS);
        let space = NAMESPACES.iter().position(|known| *known == namespace).expect("a namespace");
        let slot = cluster.slots[space][partition];
        let owner = block_in_place(|| cluster.redis.owner_of(slot)).unwrap_or(masters[0]);
        Self { server: owner, prefix: format!("{{{namespace}:{partition}}}") }
    }

    /// The key with the state of the partition.
    pub(crate) fn state(&self) -> String {
        format!("{}M", self.prefix)
    }

    /// Sends a message to all nodes.
    pub(crate) fn publish(&self, rig: &Rig, message: &[u8]) {
        let command: &[u8] = if rig.deployment.cluster().is_some() { b"SPUBLISH" } else { b"PUBLISH" };
        let bus = format!("{}bus", self.prefix);
        rig.ask::<u64>(self.server, &[command, bus.as_bytes(), message]);
    }
}

/// Makes changes fail on a node that is cut off. When the connection is back, the node shuts down at once.
async fn leave(rig: &mut Rig, rng: &mut Rng) -> std::io::Result<()> {
    let at = rng.usize(..rig.nodes.len());
    for link in rig.nodes[at].links() {
        let proxy = &link.proxy;
        proxy.set(Route::Commands, Conditions { flow: Flow::Refused, ..Conditions::default() });
        Route::ALL.into_iter().for_each(|route| proxy.cut(route));
    }
    sleep(ms(rng, 200..1500)).await;
    clear(rig);
    sleep(ms(rng, 0..60)).await;
    rig.relieve(at).await
}
