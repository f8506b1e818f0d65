//! The system under test: servers, proxies, node processes.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use integration_tests::{Conditions, Flow, Proxy, RedisServer, Route};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::deployment::{Deployment, Link, NAMESPACES, Ways};
use crate::guest::Guest;
use crate::ledger::{Count, Global, HANDLES, Ledger, now};
use crate::promise::Promise;
use crate::{Args, orders};

/// The maximum time until the nodes serve again after a fault.
const RECOVERY: Duration = Duration::from_secs(20);
/// The maximum time in which a process shuts two caches down.
const RELIEVED: Duration = Duration::from_secs(60);
/// An older gauge belongs to a process that does not run.
const FRESH_NS: u64 = 200_000_000;

/// A node process, and the ways of each of its cache handles.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    pub ways: Vec<Ways>,
    first: usize,
    /// The number of handles in the whole fleet.
    fleet: usize,
}

/// All running parts.
#[derive(Debug)]
pub(crate) struct Rig {
    pub deployment: Deployment,
    /// The changes of the topology so far, by kind.
    pub changes: BTreeMap<&'static str, u64>,
    /// Whether a node is slow, beside the present fault.
    pub slow_node: bool,
    pub nodes: Vec<Node>,
    pub ledger: Arc<Ledger>,
    args: Args,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

/// The reason why a node has not recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotRecovered(pub String);

impl Rig {
    /// Starts all parts, and waits until every node serves.
    pub(crate) async fn start(args: &Args) -> io::Result<Self> {
        let directory = tempfile::TempDir::with_prefix("async-cache-torture-")?;
        let path = directory.path().join("ledger");
        let ledger = Arc::new(Ledger::create(&path)?);
        ledger.global(Global::Fault).store(1, Ordering::SeqCst);
        let mut rig = Self {
            deployment: Deployment::start(args.topology).await,
            changes: BTreeMap::new(),
            slow_node: false,
            nodes: Vec::new(),
            ledger,
            args: args.clone(),
            path,
            _directory: directory,
        };
        rig.deployment.get_well().await?;
        // The first process has two handles, which are two nodes in one process.
        let fleet = args.nodes + 1;
        let mut first = 0;
        rig.ledger.global(Global::Began).store(now(), Ordering::SeqCst);
        for at in 0..args.nodes {
            let handles = if at == 0 { 2 } else { 1 };
            let mut ways = Vec::new();
            for handle in first..first + handles {
                ways.push(rig.deployment.ways(handle).await);
            }
            let child = rig.spawn(&ways, first, fleet)?;
            rig.nodes.push(Node { child, ways, first, fleet });
            first += handles;
        }
        rig.recovered().await.map_err(|NotRecovered(why)| io::Error::other(why))?;
        rig.ledger.ends_fault();
        Ok(rig)
    }

    fn spawn(&self, ways: &[Ways], first: usize, fleet: usize) -> io::Result<Child> {
        let mut command = self.command_of(first, fleet)?;
        for way in ways {
            command.args(["--url", &way.urls.join(","), "--servers", &way.servers.join(",")]);
        }
        command.spawn()
    }

    /// Starts a faulty node, with direct connections to the servers.
    pub(crate) fn invite(&self, guest: Guest, user: Option<&str>) -> io::Result<Child> {
        let mut command = self.command_of(HANDLES - 1, self.args.nodes + 1)?;
        command.args(["--url", &self.deployment.direct(user).join(",")]);
        command.args(["--guest", guest.name()]).spawn()
    }

    fn command_of(&self, first: usize, fleet: usize) -> io::Result<Command> {
        let args = &self.args;
        let share = |total: u32| (total / u32::try_from(fleet).unwrap_or(1)).max(1).to_string();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("node").arg("--ledger").arg(&self.path);
        command.args(["--topology", args.topology.name()]);
        command.args(["--first", &first.to_string(), "--fleet", &fleet.to_string()]);
        command.args(["--reads-per-s", &share(args.reads_per_s)]);
        command.args(["--changes-per-s", &share(args.changes_per_s)]);
        command.args(["--max-staleness-ms", &args.max_staleness_ms.to_string()]);
        command.args(["--seed", &args.seed.to_string(), "--verify", &args.verify.to_string()]);
        for mutant in &args.mutant {
            command.args(["--mutant", &mutant.name()]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    /// Sends an order to a node process.
    pub(crate) async fn tell(&mut self, at: usize, order: &str) -> io::Result<()> {
        let input = self.nodes[at].child.stdin.as_mut();
        let input = input.ok_or_else(|| io::Error::other("its input is closed"))?;
        input.write_all(format!("{order}\n").as_bytes()).await?;
        input.flush().await
    }

    /// Orders a node process to shut down, and starts its successor.
    pub(crate) async fn relieve(&mut self, at: usize) -> io::Result<()> {
        self.tell(at, orders::LEAVE).await?;
        let ended = timeout(RELIEVED, self.nodes[at].child.wait()).await;
        if ended.is_err() {
            let what = format!("node process {at} has not ended {RELIEVED:?} after it was told to shut down");
            self.ledger.accuse(Promise::Liveness, None, what);
        }
        self.replace(at, Duration::ZERO).await
    }

    /// Ends a process as `kill -9` does, and starts its successor after `pause`.
    pub(crate) async fn replace(&mut self, at: usize, pause: Duration) -> io::Result<()> {
        // The process may have ended by itself.
        let _ = self.nodes[at].child.kill().await;
        sleep(pause).await;
        let Node { ways, first, fleet, .. } = &self.nodes[at];
        let child = self.spawn(ways, *first, *fleet)?;
        self.nodes[at].child = child;
        Ok(())
    }

    /// The partitions of all namespaces.
    pub(crate) fn partitions(&self) -> u64 {
        NAMESPACES.len() as u64 * u64::from(self.args.topology.partitions())
    }

    /// Whether a fault is planted in the caches.
    pub(crate) fn is_mutant(&self) -> bool {
        !self.args.mutant.is_empty()
    }

    /// The bound with which the caches are built.
    pub(crate) fn bound_ns(&self) -> u64 {
        self.args.max_staleness_ms * 1_000_000
    }

    /// Iterates over the ways of the handles to the servers.
    pub(crate) fn links(&self) -> impl Iterator<Item = &Link> {
        self.nodes.iter().flat_map(|node| &node.ways).flat_map(|ways| &ways.links)
    }

    /// Iterates over the proxies in front of the servers.
    pub(crate) fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.links().map(|link| &link.proxy)
    }

    /// A server.
    pub(crate) fn server(&self, at: usize) -> &RedisServer {
        self.deployment.servers()[at]
    }

    /// Runs a command on a server, and ignores an error, because the server may be away.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, server: usize, words: &[&[u8]]) -> Option<T> {
        crate::deployment::ask(self.server(server), words)
    }

    /// Waits until a replica has the data of its master.
    pub(crate) async fn has_data(&self, replica: usize) {
        let server = self.server(replica);
        let is_up = || {
            let info = crate::deployment::ask::<String>(server, &[b"INFO", b"replication"]);
            info.is_some_and(|info| info.contains("master_link_status:up"))
        };
        crate::deployment::until(RECOVERY, is_up).await;
    }

    /// Runs a command on servers.
    pub(crate) fn tell_servers(&self, servers: &[usize], words: &[&[u8]]) {
        for server in servers {
            let _: Option<redis::Value> = self.ask(*server, words);
        }
    }

    /// Closes the ways of all handles to a server, or opens them.
    pub(crate) fn close_ways_to(&self, server: usize, closed: bool) {
        let flow = if closed { Flow::Refused } else { Flow::Open };
        for link in self.links().filter(|link| link.server == server) {
            link.proxy.set(Route::Commands, Conditions { flow, ..Conditions::default() });
            if closed {
                Route::ALL.into_iter().for_each(|route| link.proxy.cut(route));
            }
        }
    }

    /// Judges from now on that no other partitions are suspended than these, which a fault concerns. A slow node may
    /// be suspended anyway.
    pub(crate) fn spares_all_but(&self, harmed: [u64; NAMESPACES.len()]) {
        for (global, harmed) in Global::UNHARMED.into_iter().zip(harmed) {
            let unharmed = if self.slow_node { 0 } else { !harmed };
            self.ledger.global(global).store(unharmed, Ordering::Release);
        }
    }

    /// Ends that judgement.
    pub(crate) fn spares_nothing(&self) {
        Global::UNHARMED
            .into_iter()
            .for_each(|global| self.ledger.global(global).store(0, Ordering::Release));
    }

    /// Counts a change of the topology.
    pub(crate) fn has_changed(&mut self, kind: &'static str) {
        *self.changes.entry(kind).or_default() += 1;
    }

    /// Waits until every handle has served for one bound with nothing left to retry, because the effects of a
    /// fault may suspend it once more. Returns the time until that state began.
    pub(crate) async fn recovered(&mut self) -> Result<Duration, NotRecovered> {
        let (begun, since) = (Instant::now(), now());
        let mut well_since = None;
        loop {
            self.check_alive()?;
            match self.handles().find(|handle| !self.well(*handle, since)) {
                None => {
                    let first = *well_since.get_or_insert_with(Instant::now);
                    if first.elapsed() >= Duration::from_millis(self.args.max_staleness_ms) {
                        return Ok(first - begun);
                    }
                }
                Some(_) if begun.elapsed() > RECOVERY => return Err(self.describe(since)),
                Some(_) => well_since = None,
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn describe(&self, since: u64) -> NotRecovered {
        // The cause may be at the servers.
        eprintln!("torture: what the servers say:{}", self.deployment.describe());
        let state = |handle| {
            let read = |count| self.ledger.count(handle, count).load(Ordering::Relaxed);
            let (serving, pending) = (read(Count::Serving), read(Count::Pending));
            format!("handle {handle}: serving {serving}, {pending} pending")
        };
        let lagging: Vec<String> =
            self.handles().filter(|handle| !self.well(*handle, since)).map(state).collect();
        NotRecovered(format!("not well again after {RECOVERY:?}: {}", lagging.join("; ")))
    }

    pub(crate) fn handles(&self) -> impl Iterator<Item = usize> + use<> {
        0..self.args.nodes + 1
    }

    fn well(&self, handle: usize, since: u64) -> bool {
        let read = |count| self.ledger.count(handle, count).load(Ordering::Acquire);
        let seen = read(Count::SeenAt);
        let fresh = seen >= since && seen + FRESH_NS > now();
        fresh && read(Count::Serving) == 1 && read(Count::Pending) == 0
    }

    /// Checks that no node process has ended by itself.
    pub(crate) fn check_alive(&mut self) -> Result<(), NotRecovered> {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            if let Ok(Some(status)) = node.child.try_wait() {
                return Err(NotRecovered(format!("node process {at} ended by itself: {status}")));
            }
        }
        Ok(())
    }
}

impl Node {
    /// The ways of its handles to the servers.
    pub(crate) fn links(&self) -> impl Iterator<Item = &Link> {
        self.ways.iter().flat_map(|ways| &ways.links)
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}
