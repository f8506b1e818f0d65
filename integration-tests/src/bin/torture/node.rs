//! A node process: cache handles, the traffic on each, and the judgement of every read.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_cache::key::Key;
use async_cache::{
    Error, MemoryBackend, OutagePolicy, RedisBackend, RedisBackendBuilder, SubscribeOn, TieredCache,
    TieredCacheBuilder, Verify,
};
use clap::Args;
use integration_tests::sentinels::MASTER;
use integration_tests::surface::{Options, Tiers, configure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::deployment::Topology;
use crate::drawn::{Desk, Planned};
use crate::guest::Guest;
use crate::ledger::{ALL_KEYS, Count, DRAWN_AT, Ledger, STORMS_AT, look_for_stalls};
use crate::mutant::{Mutant, Mutants, Planted};
use crate::value::{Expiry, Value};
use crate::{canary, drawn, guest, lives, orders, read, watch, write};

/// The arguments of a node process.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeArgs {
    #[arg(long)]
    pub ledger: PathBuf,
    /// The URLs for each cache handle, separated by commas.
    #[arg(long = "url", required = true)]
    pub urls: Vec<String>,
    /// The servers of each cache handle in the same form, for the canary.
    #[arg(long)]
    pub servers: Vec<String>,
    #[arg(long, value_enum)]
    pub topology: Topology,
    /// The number of the first handle.
    #[arg(long)]
    pub first: usize,
    /// The number of handles in the fleet.
    #[arg(long)]
    pub fleet: usize,
    /// Reads per second of each handle.
    #[arg(long)]
    pub reads_per_s: u32,
    /// Changes per second of each handle.
    #[arg(long)]
    pub changes_per_s: u32,
    #[arg(long)]
    pub max_staleness_ms: u64,
    #[arg(long)]
    pub seed: u64,
    #[arg(long, value_parser = Mutant::parse)]
    pub mutant: Vec<Mutant>,
    /// The share of the hits in L1 that the verifiers check.
    #[arg(long)]
    pub verify: f64,
    /// The fault of this node, if it is a guest.
    #[arg(long)]
    pub guest: Option<Guest>,
}

pub(crate) type Cache = TieredCache<u64, Value>;

/// The namespace of the keys that are changed, and of those without changes.
pub(crate) const NAMESPACE: &str = "rows";
pub(crate) const LIVES_NAMESPACE: &str = "lives";
/// The namespace of the keys of drawn calls.
pub(crate) const DRAWN_NAMESPACE: &str = "drawn";
/// The life of the values of keys that are changed.
pub(crate) const LIFE: Expiry = Expiry { ttl: Duration::from_secs(5), stale_for: Duration::ZERO };
/// A wait that continues for this long after the end of its load was not woken. A waiter that trusts the bus
/// sends its first poll later than that. And a wake-up takes the way of the canary, which is known to have
/// taken at most a third of this time.
pub(crate) const WAKE_NS: u64 = 75_000_000;

/// The numbers of readers and writers of each handle, and of tasks on the keys without changes.
const READERS: u64 = 4;
const WRITERS: u64 = 2;
const CALLERS: u64 = 3;
/// The numbers of tasks for drawn calls and drawn changes.
const DRAWERS: u64 = 3;
const DRAWN_WRITERS: u64 = 2;
/// The maximum number of checks of a verifier in a second.
const CHECKS_PER_S: u32 = 500;
/// A new process waits this long before its first insert. The last insert of its predecessor may still be under
/// way. It is executed within its deadline or never.
const HEIR_WAITS: Duration = Duration::from_secs(2);

/// A cache handle for each namespace, and the state that their tasks share.
#[derive(Debug)]
pub(crate) struct Handle {
    pub cache: Cache,
    pub lives: Cache,
    pub desk: Desk,
    pub ledger: &'static Ledger,
    pub index: usize,
    pub bound_ns: u64,
    /// For each row of the ledger: the highest version whose change returned on this handle.
    pub own: Box<[AtomicU64]>,
    /// For each row of the ledger: the highest version whose change failed on this handle.
    pub undecided: Box<[AtomicU64]>,
    pub inserting: tokio::sync::Mutex<()>,
    pub args: NodeArgs,
    born: Instant,
    leaving: AtomicBool,
}

impl NodeArgs {
    /// The partition of the key in a row of the ledger.
    pub(crate) fn partition_of(&self, row: usize) -> u16 {
        let id = if (DRAWN_AT..STORMS_AT).contains(&row) { row - DRAWN_AT } else { row };
        Key::encode(&(id as u64)).map_or(0, |key| key.partition(self.topology.partitions()))
    }
}

impl Handle {
    /// Whether commands of its predecessor may still be under way.
    pub(crate) fn newborn(&self) -> bool {
        self.born.elapsed() < HEIR_WAITS
    }

    /// Whether it has been told to shut down.
    pub(crate) fn leaves(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }
}

/// Runs until the parent ends.
pub(crate) fn run(args: NodeArgs) {
    let ledger: &'static Ledger = Box::leak(Box::new(Ledger::open(&args.ledger).expect("the ledger")));
    let first = args.first;
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload().is::<Planned>() {
            ledger.add(first, Count::Panics, 1);
            report(panic);
        }
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(serve(args, ledger));
}

async fn serve(args: NodeArgs, ledger: &'static Ledger) {
    // The caches must use the real clock, as in a shipped program.
    async_cache::testing::real_time();
    for at in 0..args.urls.len() {
        // The predecessor may have been killed during its loads.
        (0..ALL_KEYS).for_each(|key| ledger.loading(args.first + at, key).store(0, Ordering::Release));
    }
    let mut handles = Vec::new();
    for (at, url) in args.urls.iter().enumerate() {
        let index = args.first + at;
        let Some(redis) = connect(&args, index, url).await else {
            ledger.add(index, Count::Refused, 1);
            return orders::wait_for_the_end();
        };
        let defaults = draw_defaults(&args, index, ledger);
        let builder = builder(&args, index, (DRAWN_NAMESPACE, redis.clone()));
        let desk = Desk::new(configure(builder, &defaults).build().expect("a valid cache"), defaults);
        let open = |namespace| open(&args, index, (namespace, redis.clone()));
        let words = |len: usize| (0..len).map(|_| AtomicU64::new(0)).collect();
        handles.push(Arc::new(Handle {
            cache: open(NAMESPACE).expect("a valid cache"),
            lives: open(LIVES_NAMESPACE).expect("a valid cache"),
            desk,
            ledger,
            index,
            bound_ns: args.max_staleness_ms * 1_000_000,
            own: words(ALL_KEYS),
            undecided: words(ALL_KEYS),
            inserting: tokio::sync::Mutex::default(),
            args: args.clone(),
            born: Instant::now(),
            leaving: AtomicBool::new(false),
        }));
    }
    orders::obey(&handles);
    if args.guest == Some(Guest::OtherBuild) {
        return guest::is_refused(&handles[0]).await;
    }
    tokio::spawn(look_for_stalls(ledger));
    for servers in &args.servers {
        let urls: Vec<&str> = servers.split(',').collect();
        for url in &urls {
            tokio::spawn(canary::sing((*url).to_owned(), urls.len(), ledger));
        }
    }
    let watched = handles.clone();
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || watch::watch(&watched, &runtime));
    traffic(&args, handles).await;
    orders::wait_for_the_end();
}

/// Starts the traffic at once, without waiting until the caches are ready.
async fn traffic(args: &NodeArgs, handles: Vec<Arc<Handle>>) {
    let mut tasks = tokio::task::JoinSet::new();
    for handle in handles {
        let seed = |task: u64| args.seed ^ ((handle.index as u64) << 8 | task);
        if args.guest.is_none() {
            tasks.spawn(lives::at_birth(Arc::clone(&handle), seed(128)));
        }
        for task in 0..READERS {
            let rate = f64::from(args.reads_per_s) / READERS as f64;
            tasks.spawn(read::reads(Arc::clone(&handle), seed(task), rate));
        }
        for task in 0..WRITERS {
            let rate = f64::from(args.changes_per_s) / WRITERS as f64;
            tasks.spawn(write::changes(Arc::clone(&handle), !seed(task), rate, task == 0));
        }
        // The state of a guest is unknown to the judge, so its values are not judged.
        for task in 0..if args.guest.is_some() { 0 } else { CALLERS } {
            tasks.spawn(lives::calls(Arc::clone(&handle), seed(64 + task)));
        }
        if args.guest.is_none() {
            let fresh = handle.ledger.total(Count::Starts) << 16;
            for task in 0..DRAWERS {
                tasks.spawn(drawn::calls(Arc::clone(&handle), fresh ^ seed(192 + task)));
            }
            for task in 0..DRAWN_WRITERS {
                tasks.spawn(drawn::changes(Arc::clone(&handle), fresh ^ seed(224 + task)));
            }
            tasks.spawn(drawn::storm::storms(Arc::clone(&handle)));
        }
    }
    tasks.join_all().await;
}

/// Connects, and tries again while the server is away. A guest may be refused.
async fn connect(args: &NodeArgs, index: usize, url: &str) -> Option<RedisBackend> {
    // Among several handles some receive the messages on a replica.
    let receives_on = if index % 2 == 1 { SubscribeOn::Replicas } else { SubscribeOn::Master };
    loop {
        let builder = match args.topology {
            Topology::Single => RedisBackend::builder().url(url),
            Topology::Sentinel => {
                RedisBackend::builder().sentinel(MASTER, url.split(',')).subscribe_on(receives_on)
            }
            Topology::Cluster => RedisBackend::builder().cluster(url.split(',')),
        };
        let builder = args.mutant.redis().fold(builder, RedisBackendBuilder::mutant);
        match builder.connect().await {
            Ok(redis) => return Some(redis),
            Err(error) if args.guest.is_some() => {
                eprintln!("           a guest is refused: {error}");
                return None;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Draws default options. Each process draws others.
fn draw_defaults(args: &NodeArgs, index: usize, ledger: &Ledger) -> Options {
    let starts = ledger.count(index, Count::Starts).load(Ordering::Relaxed);
    Options::draw(Tiers::Both, &mut fastrand::Rng::with_seed(args.seed ^ (index as u64) << 40 ^ starts << 20))
}

/// The common settings of the caches of a handle.
fn builder<V>(
    args: &NodeArgs,
    index: usize,
    (namespace, redis): (&str, RedisBackend),
) -> TieredCacheBuilder<u64, V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    // Neither policy returns unverified values, so the bound always holds.
    let outage = if index % 3 == 2 { OutagePolicy::Fail } else { OutagePolicy::Load };
    let builder = TieredCache::builder();
    let builder = match args.mutant.core() {
        Some(mutant) => builder.mutant(mutant),
        None => builder,
    };
    // The last handle has no verifier, so that hits are judged that end without one, too.
    let builder = match args.verify > 0.0 && index + 1 != args.fleet {
        true => builder.verify(Verify::sample(args.verify).per_second(CHECKS_PER_S)),
        false => builder,
    };
    let builder = match args.guest {
        Some(Guest::OtherBuild) if !args.mutant.has(Planted::IntruderTakenIn) => {
            builder.l2_with(redis, async_cache::Json)
        }
        _ => builder.l2(redis),
    };
    builder
        .namespace(namespace)
        .l1(MemoryBackend::new(10_000))
        .max_staleness(Duration::from_millis(args.max_staleness_ms))
        .outage(outage)
}

fn open(args: &NodeArgs, index: usize, (namespace, redis): (&str, RedisBackend)) -> Result<Cache, Error> {
    let builder = builder(args, index, (namespace, redis));
    let builder = if namespace == NAMESPACE { builder.ttl(LIFE.ttl).ttl_jitter(0.3) } else { builder };
    builder
        .lease_ttl(Duration::from_secs(1))
        .load_timeout(Duration::from_secs(5))
        .wait_timeout(Duration::from_secs(3))
        .build()
}
