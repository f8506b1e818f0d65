//! Redis goes away under load and comes back: it is killed, or cut off with its data intact.
//!
//! The outage takes 3 s, or the time in `OUTAGE_SECONDS`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_cache::testing::{No, Source, ms, until};
use async_cache::{Loaded, OutagePolicy};
use integration_tests::fleet::{Cache, Fleet};
use integration_tests::traffic::MAX_STALENESS;
use integration_tests::{Conditions, Data, Flow, Proxy, RedisServer, Route, delay};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The number of requests per second, over both nodes.
const RATE: u32 = 500;
/// The number of rows that are read and written all the time. One request in ten uses its own key.
const ROWS: usize = 32;
/// The duration of a load.
const LOAD: Duration = Duration::from_millis(10);
/// The time that a lookup may take in addition to its load.
const GRACE: Duration = Duration::from_millis(50);
/// The time in which the changes of the outage must be applied.
const RECOVERY: Duration = Duration::from_secs(2);

struct Read {
    begun: Instant,
    took: Duration,
    /// The run delay of this thread and of the server during the read.
    held_up: Duration,
    node: usize,
    row: Option<usize>,
    version: Option<u64>,
}

struct Write {
    row: usize,
    version: u64,
    returned: Instant,
    decided: bool,
}

#[derive(Default)]
struct Ledger {
    versions: [AtomicU64; ROWS],
    reads: Mutex<Vec<Read>>,
    writes: Mutex<Vec<Write>>,
}

struct Load {
    nodes: Vec<Cache>,
    server: Arc<RedisServer>,
    ledger: Arc<Ledger>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// The run delays of this thread and of the server since their starts.
struct HeldUp {
    here: Duration,
    server: Duration,
}

impl HeldUp {
    fn by_now(server: &RedisServer) -> Self {
        Self { here: delay::of_this_thread(), server: server.run_delay() }
    }

    fn since(&self, server: &RedisServer) -> Duration {
        let now = Self::by_now(server);
        now.here.saturating_sub(self.here) + now.server.saturating_sub(self.server)
    }
}

/// The times of the events of a run.
struct Events {
    lost: Instant,
    /// The server and its connections had ended.
    gone: Instant,
    back: Instant,
    /// Nothing was pending any more, and both nodes served.
    applied: Instant,
    /// The run delay of this thread and of the server between these two times.
    held_up: Duration,
}

impl Load {
    fn start(nodes: &[Cache], server: &Arc<RedisServer>) -> Self {
        let mut load = Self {
            nodes: nodes.to_vec(),
            server: Arc::clone(server),
            ledger: Arc::default(),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        };
        load.spawn_readers();
        (0..nodes.len()).for_each(|node| load.spawn_writer(node));
        load
    }

    /// Makes reads at a fixed rate. A slow read delays no other.
    fn spawn_readers(&mut self) {
        let (nodes, ledger, stop) = (self.nodes.clone(), Arc::clone(&self.ledger), self.stop.clone());
        let server = Arc::clone(&self.server);
        self.tasks.spawn(async move {
            let mut calls = JoinSet::new();
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
            for number in 0.. {
                ticks.tick().await;
                if stop.is_cancelled() {
                    break;
                }
                let node = number % nodes.len();
                let row = (fastrand::u8(..10) > 0).then(|| fastrand::usize(..ROWS));
                calls.spawn(read(
                    nodes[node].clone(),
                    node,
                    row,
                    number,
                    Arc::clone(&ledger),
                    Arc::clone(&server),
                ));
                while calls.try_join_next().is_some() {}
            }
            while calls.join_next().await.is_some() {}
        });
    }

    fn spawn_writer(&mut self, node: usize) {
        let (cache, ledger, stop) = (self.nodes[node].clone(), Arc::clone(&self.ledger), self.stop.clone());
        self.tasks.spawn(async move {
            while !stop.is_cancelled() {
                // Each row is written on one node, so that its versions are written in order.
                let row = fastrand::usize(..ROWS / 2) * 2 + node;
                let version = ledger.versions[row].fetch_add(1, Ordering::SeqCst) + 1;
                let outcome = match fastrand::bool() {
                    true => cache.invalidate(&name(row)).await,
                    false => cache.invalidate_tag(tag(row)).await,
                };
                let write = Write { row, version, returned: Instant::now(), decided: outcome.is_ok() };
                ledger.writes.lock().push(write);
                tokio::time::sleep(ms(20)).await;
            }
        });
    }

    async fn finish(mut self) -> Arc<Ledger> {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.ledger
    }
}

fn name(row: usize) -> String {
    format!("row-{row}")
}

fn tag(row: usize) -> String {
    format!("of-{row}")
}

async fn read(
    cache: Cache,
    node: usize,
    row: Option<usize>,
    number: usize,
    ledger: Arc<Ledger>,
    server: Arc<RedisServer>,
) {
    let key = row.map_or_else(|| format!("once-{number}"), name);
    let (held, begun) = (HeldUp::by_now(&server), Instant::now());
    let database = Arc::clone(&ledger);
    let load = move || async move {
        let version = row.map_or(0, |row| database.versions[row].load(Ordering::SeqCst));
        tokio::time::sleep(LOAD).await;
        let Some(row) = row else { return Ok::<_, No>(Loaded::new(version)) };
        // Half of the rows outlive the outage, and half of them expire in it.
        let ttl = Duration::from_secs(if row % 4 < 2 { 2 } else { 600 });
        Ok(Loaded::new(version).tag(tag(row)).ttl(ttl))
    };
    let outcome = cache.get_or_load(&key, load).await;
    let took = begun.elapsed();
    let held_up = held.since(&server);
    let version = outcome.ok().map(|version| *version);
    ledger.reads.lock().push(Read { begun, took, held_up, node, row, version });
}

/// The lowest version that a read may return.
fn owed(read: &Read, writes: &[Write], events: &Events) -> u64 {
    let Some(row) = read.row else { return 0 };
    let due = |write: &&Write| {
        if write.row != row {
            return false;
        }
        if row % 2 == read.node {
            return write.returned < read.begun;
        }
        // While the server is away, the other node need not keep the promise.
        let promised = read.begun < events.lost || read.begun > events.applied + MAX_STALENESS;
        let known = if write.returned < events.lost || write.decided && write.returned > events.applied {
            write.returned
        } else {
            events.applied.max(write.returned)
        };
        promised && known + MAX_STALENESS < read.begun
    };
    writes.iter().filter(due).map(|write| write.version).max().unwrap_or(0)
}

fn judge(ledger: &Ledger, events: &Events) {
    let (reads, writes) = (ledger.reads.lock(), ledger.writes.lock());
    let during = |at: Instant| at >= events.lost && at < events.back;
    let outage: Vec<&Read> = reads.iter().filter(|read| during(read.begun)).collect();
    // On a busy machine a process does not die at once.
    let dying = |read: &Read| {
        let until = events.gone.min(read.begun + read.took);
        until.saturating_duration_since(read.begun.max(events.lost))
    };
    let excess = |read: &Read| read.took.saturating_sub(LOAD + read.held_up + dying(read));
    let slowest = |reads: &mut dyn Iterator<Item = &Read>| reads.map(excess).max().unwrap_or_default();
    let seconds = (events.back - events.lost).as_secs_f64();
    println!(
        "away for {seconds:.1} s: {} reads, {:.0} a second; beyond the load and what the machine held up, the \
         slowest took {:.1?} before, {:.1?} meanwhile, {:.1?} afterwards; {} invalidations meanwhile, applied {:.2?} \
         after the return ({:.2?} held up)",
        outage.len(),
        outage.len() as f64 / seconds,
        slowest(&mut reads.iter().filter(|read| read.begun < events.lost)),
        slowest(&mut outage.iter().copied()),
        slowest(&mut reads.iter().filter(|read| read.begun >= events.back)),
        writes.iter().filter(|write| during(write.returned)).count(),
        events.applied - events.back,
        events.held_up,
    );
    assert_eq!(reads.iter().filter(|read| read.version.is_none()).count(), 0, "no lookup fails");
    let slow: Vec<String> = reads
        .iter()
        .filter(|read| excess(read) > GRACE)
        .map(|read| {
            let after = read.begun.saturating_duration_since(events.lost);
            format!("{:?} ({:?} held up) at {after:?} after the loss", read.took, read.held_up)
        })
        .collect();
    assert!(slow.is_empty(), "{} lookups took too long: {slow:#?}", slow.len());
    for read in reads.iter() {
        let (version, owed) = (read.version.unwrap_or_default(), owed(read, &writes, events));
        let after = read.begun.saturating_duration_since(events.lost);
        assert!(
            version >= owed,
            "{:?} on {}: {version}, not {owed}, {after:?} after the loss",
            read.row,
            read.node
        );
    }
}

/// Runs both nodes through `proxy`. `leave` takes the server away, and `back` brings it back.
async fn away(leave: impl AsyncFnOnce(&Proxy), back: impl AsyncFnOnce(&Proxy), server: &Arc<RedisServer>) {
    let seconds =
        std::env::var("OUTAGE_SECONDS").map_or(3, |text| text.parse().expect("a number of seconds"));
    let fleet = Fleet::on(Arc::clone(server));
    let proxy = Proxy::start(server.port()).await;
    let mut nodes = Vec::new();
    for _ in 0..2 {
        nodes.push(fleet.node_through(&proxy, |builder| builder.outage(OutagePolicy::ServeL1)).await);
    }
    let load = Load::start(&nodes, server);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let lost = Instant::now();
    leave(&proxy).await;
    let gone = Instant::now();
    tokio::time::sleep_until((lost + Duration::from_secs(seconds)).into()).await;
    let pending: u64 = nodes.iter().map(|node| node.stats().pending_invalidations).sum();
    assert!(pending > 0, "invalidations are kept meanwhile");
    back(&proxy).await;
    let (returned, held) = (Instant::now(), HeldUp::by_now(server));
    for node in &nodes {
        until("it has recovered", || node.stats().pending_invalidations == 0 && node.is_serving()).await;
    }
    let applied = Instant::now();
    let held = held.since(server);
    assert!(applied - returned < RECOVERY + held, "{:?} ({held:?} held up)", applied - returned);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let ledger = load.finish().await;
    judge(&ledger, &Events { lost, gone, back: returned, applied, held_up: held });
}

#[tokio::test]
async fn killed_under_load() {
    let server = Arc::new(RedisServer::start());
    let killed = async |_: &Proxy| {
        let server = Arc::clone(&server);
        tokio::task::spawn_blocking(move || server.kill()).await.unwrap();
    };
    let restarted = async |_: &Proxy| {
        let server = Arc::clone(&server);
        tokio::task::spawn_blocking(move || server.restart(Data::Drop)).await.unwrap();
    };
    away(killed, restarted, &server).await;
}

/// The data of the server survives the outage.
#[tokio::test]
async fn cut_off_under_load() {
    let server = Arc::new(RedisServer::start());
    let cut = async |proxy: &Proxy| {
        for route in Route::ALL {
            proxy.set(route, Conditions { flow: Flow::Refused, ..Conditions::default() });
            proxy.cut(route);
        }
    };
    away(cut, async |proxy: &Proxy| proxy.clear(), &server).await;
}

/// A caller that waits for another node's load loads at once when the server goes, and not at its next poll.
#[tokio::test]
async fn waiters_of_another_node_do_not_sit_out_their_pause() {
    const KEYS: usize = 8;
    let fleet = Fleet::redis();
    let (loading, waiting) = (fleet.node().await, fleet.node().await);
    let source = Source::new();
    let loads: Vec<_> = (0..KEYS)
        .map(|n| {
            let (node, source) = (loading.clone(), source.clone());
            tokio::spawn(async move { node.get_or_load(&name(n), move || source.held()).await })
        })
        .collect();
    source.begun(KEYS).await;
    let waits: Vec<_> = (0..KEYS)
        .map(|n| {
            let node = waiting.clone();
            let load = || async { Ok::<_, No>(2) };
            tokio::spawn(async move { (node.get_or_load(&name(n), load).await, Instant::now()) })
        })
        .collect();
    until("all wait", || waiting.stats().lease_waits == KEYS as u64).await;
    // By then the pauses between polls have reached their maximum.
    tokio::time::sleep(ms(500)).await;
    let held = delay::of_this_thread();
    let killed = Instant::now();
    fleet.server().kill();
    for wait in waits {
        let (outcome, answered) = wait.await.unwrap();
        assert_eq!(*outcome.unwrap(), 2);
        let held = delay::of_this_thread() - held;
        assert!(answered - killed < GRACE + held, "{:?} ({held:?} held up)", answered - killed);
    }
    source.let_go(KEYS);
    for load in loads {
        assert_eq!(*load.await.unwrap().unwrap(), 1);
    }
}
