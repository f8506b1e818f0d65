//! Learning which server has which slots, and following the changes.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_cache_core::{Error, ErrorKind, Result};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use parking_lot::{Mutex, RwLock};
use redis::{ConnectionAddr, Pipeline, RedisResult, Value, from_redis_value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::map::{Address, Map, Range, is_whole, parse};
use super::seats::Seats;
use crate::connection::link::Link;
use crate::connection::refusals::{Address as Proof, Refusal};
use crate::connection::server::Deployment;
use crate::connection::settings::Server;
use crate::inner::Inner;
use crate::limits::{Pauses, Purpose, backoff};
use crate::parts::{Parts, Settings};

/// The interval at which the nodes are asked without a sign of a change.
const PERIOD: Duration = Duration::from_secs(30);
/// The interval at which they are asked while a server is away.
const OUTAGE: Duration = Duration::from_millis(100);
/// Between two questions.
const PAUSES: Pauses = Pauses { first: Duration::from_millis(10), longest: Duration::from_millis(250) };
/// While no node answers.
const AWAY: Pauses = Pauses { first: Duration::from_millis(100), longest: Duration::from_secs(2) };
/// How many nodes are asked before the seeds.
const ASKED: usize = 3;

/// What is known of a cluster. The regions of its namespaces follow it.
pub(super) struct Topology {
    pub(super) settings: Settings,
    /// The nodes that the user has named.
    seeds: Vec<Server>,
    map: RwLock<Arc<Map>>,
    namespaces: Mutex<Vec<Weak<Seats>>>,
    /// Held while regions follow a map: one map at a time.
    following: Mutex<()>,
    /// Notifies operations that wait for another map.
    changed: Notify,
    /// Why the nodes could not be asked when that was tried last.
    failure: Mutex<Option<Error>>,
}

/// What a node sees, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sight {
    /// The node is cut off from the others.
    Fail,
    /// It knows no master of some slots.
    Gap,
    /// A working cluster.
    Ok,
}

/// The map of one node.
struct View {
    sight: Sight,
    ranges: Vec<Range>,
}

/// Keeps the view that sees more.
fn keep_better(best: &mut Option<View>, view: View) {
    if best.as_ref().is_none_or(|best| view.sight > best.sight) {
        *best = Some(view);
    }
}

impl Topology {
    pub(super) fn new(settings: Settings, seeds: Vec<Server>) -> Self {
        Self {
            settings,
            seeds,
            map: RwLock::default(),
            namespaces: Mutex::default(),
            following: Mutex::default(),
            changed: Notify::new(),
            failure: Mutex::default(),
        }
    }

    pub(super) fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.read())
    }

    /// The seeds, for messages.
    pub(super) fn seeds(&self) -> String {
        let seeds: Vec<String> = self.seeds.iter().map(|seed| seed.info.addr().to_string()).collect();
        seeds.join(", ")
    }

    /// Adds a namespace. It follows the map from now on.
    pub(super) fn enter(&self, seats: &Arc<Seats>) {
        let _one_at_a_time = self.following.lock();
        let mut namespaces = self.namespaces.lock();
        namespaces.retain(|known| known.strong_count() > 0);
        namespaces.push(Arc::downgrade(seats));
        drop(namespaces);
        seats.follow(&self.map());
    }

    /// Waits for another map, at most until `deadline`, and at most for `pause`. Asks for it.
    pub(super) async fn another_map(&self, pause: Duration, deadline: Instant) {
        let changed = self.changed.notified();
        self.settings.strayed.notify_one();
        let _ = timeout_at(deadline, timeout(pause, changed)).await;
    }

    /// Follows the cluster for ever.
    pub(super) async fn run(self: Arc<Self>) {
        let mut asked = Instant::now();
        // Questions in a row that have brought nothing new.
        let mut in_vain = 0;
        loop {
            let pause = if self.failure().is_some() { backoff(in_vain, AWAY) } else { OUTAGE };
            let strayed = timeout(pause, self.settings.strayed.notified()).await.is_ok();
            if strayed || self.has_outage() || asked.elapsed() >= PERIOD {
                let before = self.map();
                self.learn().await;
                in_vain = if Arc::ptr_eq(&before, &self.map()) { in_vain + 1 } else { 0 };
                asked = Instant::now();
                sleep(backoff(in_vain, PAUSES)).await;
            }
        }
    }

    /// Whether some server cannot be reached, or some partition has none.
    fn has_outage(&self) -> bool {
        let map = self.map();
        map.has_outage() || self.open_namespaces().iter().any(|seats| seats.is_missed_by(&map))
    }

    fn open_namespaces(&self) -> Vec<Arc<Seats>> {
        self.namespaces.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Why the nodes could not be asked when that was tried last.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failure.lock().clone()
    }

    /// Asks the nodes for the map, and follows it.
    pub(super) async fn learn(&self) {
        let learnt = self.try_to_learn().await;
        *self.failure.lock() = learnt.err();
    }

    async fn try_to_learn(&self) -> Result<()> {
        let known = self.map();
        let mut servers: Vec<_> =
            known.servers.iter().filter(|(_, server)| server.slots.available()).collect();
        fastrand::shuffle(&mut servers);
        let mut second_best = None;
        for (address, server) in servers.into_iter().take(ASKED) {
            let Ok(checkout) = server.slots.pick(Purpose::Read) else { continue };
            let answer = checkout.answer(ask(&checkout.link)).await;
            match answer.ok().and_then(|answers| view_of(told(answers).ok()?, address)) {
                Some(View { sight: Sight::Ok, ranges }) => return self.adopt(ranges).await,
                Some(view) => keep_better(&mut second_best, view),
                None => {}
            }
        }
        if let Some(View { ranges, .. }) = second_best {
            return self.adopt(ranges).await;
        }
        let ranges = self.ask_seeds().await?;
        self.adopt(ranges).await
    }

    /// Asks all seeds at the same time, so that one that hangs delays nothing. The first map of a working cluster is taken,
    /// and without one that of a node that is cut off.
    async fn ask_seeds(&self) -> Result<Vec<Range>> {
        let parts = self.seeds.iter().map(|seed| self.settings.prepare_node(seed, Deployment::ClusterNode));
        let parts: Vec<Parts> = parts.collect::<Result<_>>()?;
        let mut asked: FuturesUnordered<_> = parts.iter().map(|parts| self.ask_seed(parts)).collect();
        let mut second_best = None;
        let mut first: Option<Error> = None;
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(View { sight: Sight::Ok, ranges }) => return Ok(ranges),
                Ok(view) => keep_better(&mut second_best, view),
                Err(error) => {
                    // An error that only a change of settings can mend is the most useful one for the user.
                    let better = first.as_ref().is_none_or(|first| first.kind() != ErrorKind::Config);
                    first = if better { Some(error) } else { first };
                }
            }
        }
        let none = || Error::new(ErrorKind::Config, "no node of the cluster is given");
        second_best.map(|view| view.ranges).ok_or_else(|| first.unwrap_or_else(none))
    }

    async fn ask_seed(&self, parts: &Parts) -> Result<View> {
        let refused = |refusal| parts.connector.explain(refusal, &parts.secrets);
        let link = match parts.connector.link().await {
            Ok(link) => link,
            Err(refusal) => return Err(refused(refusal).await),
        };
        let addr = parts.subscriber.opener.host.info.addr();
        let asked = timeout(self.settings.deadlines.read, ask(&link)).await;
        match asked {
            Err(_) => Err(refused(Refusal::Timeout).await),
            Ok(Err(error)) => Err(refused(Refusal::Error(error)).await),
            Ok(Ok(answers)) => match told(answers).map(|told| view_of(told, &address_of(addr))) {
                Ok(Some(view)) => Ok(view),
                Ok(None) => {
                    let what = format!("connecting to Redis at {addr}: its cluster has no slots yet");
                    Err(Error::new(ErrorKind::Backend, what))
                }
                Err(refusal) => Err(refused(refusal).await),
            },
        }
    }

    /// Connects to the servers of a map that are new, and follows it.
    async fn adopt(&self, ranges: Vec<Range>) -> Result<()> {
        let known = self.map();
        if known.ranges().eq(&ranges) {
            return Ok(());
        }
        let mut servers: HashMap<Address, Arc<Inner>> = HashMap::new();
        let mut new: Vec<Address> = Vec::new();
        for Range { master, .. } in &ranges {
            match known.servers.get(master) {
                Some(server) => drop(servers.insert(master.clone(), Arc::clone(server))),
                None if new.contains(master) => {}
                None => new.push(master.clone()),
            }
        }
        let made = new.into_iter().map(|address| async move {
            let parts = self.settings.prepare_node(&self.server_at(&address), Deployment::Cluster)?;
            let first = parts.connector.link().await;
            let first = first.map_err(|refusal| refusal.outage(&parts.secrets, Proof::Proven));
            Result::Ok((address, Arc::new(parts.build(first))))
        });
        for made in join_all(made).await {
            let (address, server) = made?;
            servers.insert(address, server);
        }
        self.install(Map::new(ranges, servers));
        Ok(())
    }

    fn install(&self, map: Map) {
        let map = Arc::new(map);
        let _one_at_a_time = self.following.lock();
        *self.map.write() = Arc::clone(&map);
        self.open_namespaces().iter().for_each(|seats| seats.follow(&map));
        self.changed.notify_waiters();
    }

    /// The first map, of a cluster that works and may be used.
    pub(super) async fn prove(&self) -> Result<()> {
        let ranges = self.ask_seeds().await?;
        let mut servers: HashMap<Address, Arc<Inner>> = HashMap::new();
        let mut masters: Vec<&Address> = ranges.iter().map(|range| &range.master).collect();
        masters.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
        masters.dedup();
        let proven = join_all(masters.into_iter().map(|master| self.prove_server(master))).await;
        let mut failure = None;
        for outcome in proven {
            let (address, server) = outcome?;
            match server {
                Ok(server) => drop(servers.insert(address, server)),
                Err((server, error)) => {
                    servers.insert(address, server);
                    failure = Some(error);
                }
            }
        }
        // One master may be away. The others serve their slots.
        match failure {
            Some(error) if servers.values().all(|server| !server.slots.available()) => return Err(error),
            _ => {}
        }
        self.install(Map::new(ranges, servers));
        Ok(())
    }

    /// Connects to a master. An error is one of the settings.
    async fn prove_server(
        &self,
        address: &Address,
    ) -> Result<(Address, Result<Arc<Inner>, (Arc<Inner>, Error)>)> {
        let parts = self.settings.prepare_node(&self.server_at(address), Deployment::Cluster)?;
        let proven = async {
            let link = parts.connector.link().await?;
            parts.subscriber.prove().await?;
            Ok(link)
        };
        let proven: Result<Link, Refusal> = proven.await;
        let refusal = match proven {
            Ok(link) => return Ok((address.clone(), Ok(Arc::new(parts.build(Ok(link)))))),
            Err(refusal) => refusal,
        };
        let outage = refusal.outage(&parts.secrets, Proof::Proven);
        let is_replica = matches!(refusal, Refusal::Replica);
        let error = parts.connector.explain(refusal, &parts.secrets).await;
        if error.kind() == ErrorKind::Config && !is_replica {
            return Err(error);
        }
        Ok((address.clone(), Err((Arc::new(parts.build(Err(outage))), error))))
    }

    /// A node at an address that the cluster has told. All nodes have the settings of the seeds.
    fn server_at(&self, address: &Address) -> Server {
        let seed = &self.seeds[0];
        let addr = ConnectionAddr::Tcp(address.host.clone(), address.port);
        Server { info: seed.info.clone().set_addr(addr), encryption: seed.encryption }
    }
}

fn sorted(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_by_key(|range| range.first);
    ranges
}

fn address_of(addr: &ConnectionAddr) -> Address {
    match addr {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Address { host: host.clone(), port: *port }
        }
        _ => Address { host: String::new(), port: 0 },
    }
}

/// Asks a node for the state of the cluster, and for the slots.
async fn ask(link: &Link) -> RedisResult<Vec<RedisResult<Value>>> {
    let mut pipeline = Pipeline::new();
    pipeline.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
    pipeline.ignore_errors();
    link.pipeline(&pipeline).await
}

/// The answers to both questions.
struct Told {
    info: String,
    slots: Value,
}

/// The answers to both questions, or why there is none. The user may lack the right to one of them.
fn told(answers: Vec<RedisResult<Value>>) -> std::result::Result<Told, Refusal> {
    let of = |right: &str, answer: Option<RedisResult<Value>>| match answer {
        Some(answer) => answer.map_err(|error| Refusal::of_command(right, error)),
        None => Ok(Value::Nil),
    };
    let mut answers = answers.into_iter();
    let info = of("cluster|info", answers.next())?;
    let slots = of("cluster|slots", answers.next())?;
    let info = from_redis_value(info).map_err(|error| Refusal::Error(error.into()))?;
    Ok(Told { info, slots })
}

/// What the node at `asked` sees; `None` if it knows no slots.
fn view_of(told: Told, asked: &Address) -> Option<View> {
    let ranges = sorted(parse(told.slots, asked).filter(|ranges| !ranges.is_empty())?);
    let sight = match told.info.contains("cluster_state:ok") {
        true if is_whole(ranges.iter()) => Sight::Ok,
        true => Sight::Gap,
        false => Sight::Fail,
    };
    Some(View { sight, ranges })
}
