//! The system under test: servers, proxies, node processes.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use integration_tests::{Proxy, RedisServer};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

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

/// A node process, and a proxy in front of each of its cache handles.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    pub proxies: Vec<Proxy>,
    first: usize,
    /// The number of handles in the whole fleet.
    fleet: usize,
}

/// All running parts.
#[derive(Debug)]
pub(crate) struct Rig {
    pub server: RedisServer,
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
        let server = RedisServer::start();
        let mut rig =
            Self { server, nodes: Vec::new(), ledger, args: args.clone(), path, _directory: directory };
        // The first process has two handles, which are two nodes in one process.
        let fleet = args.nodes + 1;
        let mut first = 0;
        for at in 0..args.nodes {
            let handles = if at == 0 { 2 } else { 1 };
            let mut proxies = Vec::new();
            for _ in 0..handles {
                proxies.push(Proxy::start(rig.server.port()).await);
            }
            let child = rig.spawn(&proxies, first, fleet)?;
            rig.nodes.push(Node { child, proxies, first, fleet });
            first += handles;
        }
        rig.recovered().await.map_err(|NotRecovered(why)| io::Error::other(why))?;
        rig.ledger.ends_fault();
        Ok(rig)
    }

    fn spawn(&self, proxies: &[Proxy], first: usize, fleet: usize) -> io::Result<Child> {
        let urls = proxies.iter().map(|proxy| self.server.url_at(proxy.port()));
        self.command_of(&urls.collect::<Vec<_>>(), first, fleet)?.spawn()
    }

    /// Starts a faulty node, with a direct connection to the server.
    pub(crate) fn invite(&self, guest: Guest, user: Option<&str>) -> io::Result<Child> {
        let url = match user {
            Some(user) => format!("redis://{user}:{user}@127.0.0.1:{}", self.server.port()),
            None => self.server.url(),
        };
        let mut command = self.command_of(&[url], HANDLES - 1, self.args.nodes + 1)?;
        command.args(["--guest", guest.name()]).spawn()
    }

    fn command_of(&self, urls: &[String], first: usize, fleet: usize) -> io::Result<Command> {
        let args = &self.args;
        let share = |total: u32| (total / u32::try_from(fleet).unwrap_or(1)).max(1).to_string();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("node").arg("--ledger").arg(&self.path);
        for url in urls {
            command.args(["--url", url]);
        }
        command.args(["--first", &first.to_string(), "--fleet", &fleet.to_string()]);
        command.args(["--reads-per-s", &share(args.reads_per_s)]);
        command.args(["--changes-per-s", &share(args.changes_per_s)]);
        command.args(["--max-staleness-ms", &args.max_staleness_ms.to_string()]);
        command.args(["--seed", &args.seed.to_string()]);
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
        let Node { proxies, first, fleet, .. } = &self.nodes[at];
        let child = self.spawn(proxies, *first, *fleet)?;
        self.nodes[at].child = child;
        Ok(())
    }

    /// Whether a fault is planted in the caches.
    pub(crate) fn is_mutant(&self) -> bool {
        !self.args.mutant.is_empty()
    }

    /// The bound with which the caches are built.
    pub(crate) fn bound_ns(&self) -> u64 {
        self.args.max_staleness_ms * 1_000_000
    }

    /// Iterates over the proxies.
    pub(crate) fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.nodes.iter().flat_map(|node| &node.proxies)
    }

    /// Runs a command, and ignores an error, because the server may be away.
    pub(crate) fn command<T: redis::FromRedisValue>(&self, words: &[&[u8]]) -> Option<T> {
        let mut command = redis::Cmd::new();
        words.iter().for_each(|word| {
            command.arg(*word);
        });
        let run = || command.query(&mut self.server.connection().ok()?).ok();
        tokio::task::block_in_place(run)
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
                Some(lagging) if begun.elapsed() > RECOVERY => return Err(self.describe(lagging)),
                Some(_) => well_since = None,
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn describe(&self, lagging: usize) -> NotRecovered {
        let read = |count| self.ledger.count(lagging, count).load(Ordering::Relaxed);
        let (serving, pending) = (read(Count::Serving), read(Count::Pending));
        NotRecovered(format!(
            "handle {lagging} was not well again after {RECOVERY:?}: serving {serving}, {pending} pending"
        ))
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
    /// Sends the process a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}
