//! Traffic on a fleet during a fault, and the check of its reads.
//!
//! The database is a version for each key. A writer commits a version, then invalidates the key. The ledger
//! notes the time at which the invalidation returned. A read is stale if its version is lower than one whose
//! invalidation had returned `max_staleness` before the read began. On the node that wrote, the bound is zero.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_cache::testing::No;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fleet::Cache;

/// The number of keys. It is small, so that each is often written and read.
const KEYS: usize = 8;

/// The default bound of the caches.
pub const MAX_STALENESS: Duration = Duration::from_secs(1);

/// One key: its committed version, and the time at which the invalidation of each version returned.
#[derive(Debug, Default)]
struct Row {
    version: AtomicU64,
    invalidated: Mutex<Vec<(u64, Instant, usize)>>,
}

/// Running traffic.
#[derive(Debug)]
pub struct Traffic {
    rows: Arc<[Row; KEYS]>,
    report: Arc<Mutex<Report>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    nodes: Vec<Cache>,
}

/// The result of the traffic.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The number of answered reads.
    pub reads: u64,
    /// Reads that were older than promised: key, version read, version owed.
    pub stale: Vec<(usize, u64, u64)>,
    /// The number of reads that returned an error.
    pub read_errors: u64,
    /// The longest duration of a read.
    pub slowest_read: Duration,
    /// The number of invalidations of unknown outcome.
    pub undecided: u64,
    /// The number of invalidations that returned.
    pub invalidations: u64,
    /// The longest duration of an invalidation, with any outcome.
    pub slowest_invalidation: Duration,
    /// The total run delay of this process. Calls may have taken longer by this time.
    pub held_up: Duration,
}

fn name(key: usize) -> String {
    format!("key-{key}")
}

impl Traffic {
    /// Starts two readers and a writer on each node. A load takes `load`.
    #[must_use]
    pub fn start(nodes: &[Cache], load: Duration) -> Self {
        let mut traffic = Self {
            rows: Arc::default(),
            report: Arc::default(),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
            nodes: nodes.to_vec(),
        };
        traffic.spawn_watch();
        for at in 0..nodes.len() {
            for _ in 0..2 {
                traffic.spawn_reader(at, load);
            }
            traffic.spawn_writer(at);
        }
        traffic
    }

    fn spawn_watch(&mut self) {
        const TICK: Duration = Duration::from_millis(5);
        let (report, stop) = (Arc::clone(&self.report), self.stop.clone());
        self.tasks.spawn(async move {
            while !stop.is_cancelled() {
                let begun = Instant::now();
                tokio::time::sleep(TICK).await;
                report.lock().held_up += begun.elapsed().saturating_sub(2 * TICK);
            }
        });
    }

    fn spawn_reader(&mut self, at: usize, load: Duration) {
        let (rows, report, stop) = (Arc::clone(&self.rows), Arc::clone(&self.report), self.stop.clone());
        let node = self.nodes[at].clone();
        self.tasks.spawn(async move {
            while !stop.is_cancelled() {
                read(&node, at, fastrand::usize(..KEYS), &rows, &report, load).await;
                tokio::time::sleep(Duration::from_micros(fastrand::u64(..2000))).await;
            }
        });
    }

    fn spawn_writer(&mut self, at: usize) {
        let (rows, report, stop) = (Arc::clone(&self.rows), Arc::clone(&self.report), self.stop.clone());
        let (node, nodes) = (self.nodes[at].clone(), self.nodes.len());
        self.tasks.spawn(async move {
            while !stop.is_cancelled() {
                // Only one node writes a key, so that its versions are written in order.
                let key = fastrand::usize(..KEYS / nodes) * nodes + at;
                write(&node, at, key, &rows, &report).await;
                tokio::time::sleep(Duration::from_millis(fastrand::u64(5..50))).await;
            }
        });
    }

    /// The result so far.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.lock().clone()
    }

    /// Waits until this many more reads were answered, and this many more invalidations have returned.
    pub async fn goes_on(&self, reads: u64, invalidations: u64) {
        let before = self.report();
        crate::eventually("traffic goes on", || {
            let now = self.report();
            let enough = now.reads >= before.reads + reads
                && now.invalidations >= before.invalidations + invalidations;
            enough.then_some(())
        })
        .await;
    }

    /// Ends the traffic, checks that every node returns the committed versions, and reports.
    ///
    /// # Panics
    ///
    /// If a task hangs, or a node does not converge.
    pub async fn finish(mut self) -> Report {
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("no call hangs");
        for node in &self.nodes {
            async_cache::testing::until("nothing is pending", || node.stats().pending_invalidations == 0)
                .await;
        }
        tokio::time::sleep(MAX_STALENESS).await;
        for key in 0..KEYS {
            for node in &self.nodes {
                let version = self.rows[key].version.load(Ordering::SeqCst);
                let load = move || async move { Ok::<_, No>(version) };
                assert_eq!(
                    *node.get_or_load(&name(key), load).await.expect("an answer"),
                    version,
                    "convergence"
                );
            }
        }
        for node in &self.nodes {
            async_cache::testing::until("nothing is left behind", || node.is_idle() && node.is_serving())
                .await;
        }
        self.report()
    }
}

async fn read(
    node: &Cache,
    at: usize,
    key: usize,
    rows: &Arc<[Row; KEYS]>,
    report: &Mutex<Report>,
    load: Duration,
) {
    let begun = Instant::now();
    let database = Arc::clone(rows);
    let outcome = node
        .get_or_load(&name(key), move || async move {
            let version = database[key].version.load(Ordering::SeqCst);
            tokio::time::sleep(load).await;
            Ok::<_, No>(version)
        })
        .await;
    let took = begun.elapsed();
    let mut report = report.lock();
    report.slowest_read = report.slowest_read.max(took);
    match outcome {
        Err(_) => report.read_errors += 1,
        Ok(version) => {
            report.reads += 1;
            let owed = rows[key].owed(begun, at);
            if *version < owed {
                report.stale.push((key, *version, owed));
            }
        }
    }
}

async fn write(node: &Cache, at: usize, key: usize, rows: &Arc<[Row; KEYS]>, report: &Mutex<Report>) {
    let version = rows[key].version.fetch_add(1, Ordering::SeqCst) + 1;
    let begun = Instant::now();
    let outcome = node.invalidate(&name(key)).await;
    let returned = Instant::now();
    let mut report = report.lock();
    report.slowest_invalidation = report.slowest_invalidation.max(returned - begun);
    if outcome.is_ok() {
        report.invalidations += 1;
        rows[key].invalidated.lock().push((version, returned, at));
    } else {
        report.undecided += 1;
    }
}

impl Row {
    /// The lowest version that a read on this node may return that began at this time.
    fn owed(&self, begun: Instant, at: usize) -> u64 {
        let invalidated = self.invalidated.lock();
        let due = |&&(_, returned, writer): &&(u64, Instant, usize)| {
            let bound = if writer == at { Duration::ZERO } else { MAX_STALENESS };
            returned + bound < begun
        };
        invalidated.iter().rev().find(due).map_or(0, |(version, ..)| *version)
    }
}
