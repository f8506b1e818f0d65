//! The faults of the system.

use std::collections::HashSet;
use std::time::Duration;

use fastrand::Rng;
use integration_tests::{Conditions, Data, Flow, Proxy, Route};
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::node::NAMESPACE;
use crate::rig::Rig;
use crate::{orders, server};

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
}

pub(crate) fn ms(rng: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

/// One proxy, or all.
fn some<'a>(rig: &'a Rig, rng: &mut Rng) -> Vec<&'a Proxy> {
    let all: Vec<&Proxy> = rig.proxies().collect();
    if rng.bool() { all } else { vec![all[rng.usize(..all.len())]] }
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
                rig.server.pause();
                sleep(ms(rng, 100..4000)).await;
                rig.server.resume();
            }
            Self::KillPubsub => repeat(rig, rng, &[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]).await,
            Self::KillNormal => repeat(rig, rng, &[b"CLIENT", b"KILL", b"TYPE", b"normal"]).await,
            Self::Flushall => repeat(rig, rng, &[b"FLUSHALL"]).await,
            Self::Restart => {
                rig.server.kill();
                sleep(ms(rng, 0..1500)).await;
                block_in_place(|| rig.server.restart(Data::Drop));
            }
            Self::OldSnapshot => {
                rig.command::<()>(&[b"SAVE"]);
                sleep(ms(rng, 200..2000)).await;
                rig.server.kill();
                sleep(ms(rng, 0..500)).await;
                block_in_place(|| rig.server.restart(Data::Keep));
            }
            Self::Promote => return server::promote(rig, rng).await.map(Some),
            Self::EndRuntime => {
                let at = rng.usize(..rig.nodes.len());
                rig.tell(at, orders::END_RUNTIME).await?;
                sleep(ms(rng, 2000..4000)).await;
            }
            Self::Leave => leave(rig, rng).await?,
            _ => return server::inflict(self, rig, rng).await,
        }
        clear(rig);
        Ok(None)
    }
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
    for _ in 0..rng.u8(1..5) {
        rig.command::<redis::Value>(command);
        sleep(ms(rng, 1..500)).await;
    }
}

/// Stops a node from reading its subscription, and floods the bus until the server closes the connection. The
/// node cannot notice that.
async fn overflow(rig: &Rig, rng: &mut Rng) -> Option<String> {
    const LIMIT: &[u8] = b"client-output-buffer-limit";
    // The connections are known by their addresses, which are unique.
    let subscribers = || {
        let list: String = rig.command(&[b"CLIENT", b"LIST", b"TYPE", b"pubsub"])?;
        let address =
            |line: &str| line.split(' ').find(|field| field.starts_with("addr=")).map(str::to_owned);
        Some(list.lines().filter_map(address).collect::<HashSet<String>>())
    };
    let before = subscribers().unwrap_or_default();
    let closed = || subscribers().map_or(0, |now| before.difference(&now).count());
    rig.command::<()>(&[b"CONFIG", b"SET", LIMIT, b"pubsub 1048576 524288 1"]);
    let proxies = some(rig, rng);
    set(&proxies, &[Route::Messages], Conditions { flow: Flow::Stalled, ..Conditions::default() });
    let (bus, junk) = (format!("{{{NAMESPACE}:0}}bus"), vec![b'x'; 64 << 10]);
    for _ in 0..128 {
        rig.command::<u64>(&[b"PUBLISH", bus.as_bytes(), &junk]);
        if closed() >= proxies.len() {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    sleep(ms(rng, 100..2500)).await;
    let closed = closed();
    clear(rig);
    rig.command::<()>(&[b"CONFIG", b"SET", LIMIT, b"pubsub 33554432 8388608 60"]);
    Some(format!("{closed} subscribers closed by the server"))
}

/// Makes changes fail on a node that is cut off. When the connection is back, the node shuts down at once.
async fn leave(rig: &mut Rig, rng: &mut Rng) -> std::io::Result<()> {
    let at = rng.usize(..rig.nodes.len());
    for proxy in &rig.nodes[at].proxies {
        proxy.set(Route::Commands, Conditions { flow: Flow::Refused, ..Conditions::default() });
        Route::ALL.into_iter().for_each(|route| proxy.cut(route));
    }
    sleep(ms(rng, 200..1500)).await;
    clear(rig);
    sleep(ms(rng, 0..60)).await;
    rig.relieve(at).await
}
