//! The main job: a run of some seconds, or over a trace, whose figures are printed.

use std::path::Path;
use std::sync::Arc;

use async_cache::{MemoryBackend, TieredCache};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::args::{Args, FleetArgs, SPAWN};
use crate::catalogue::Product;
use crate::conductor::{COLD_QUERY_MS, Conductor};
use crate::figures::{Circumstances, Figures};
use crate::fleet::Fleet;
use crate::instance::chain;
use crate::keys::Trace;
use crate::messages::Setup;
use crate::own_redis::OwnRedis;
use crate::progress::{Goal, Progress};
use crate::referee::Referee;
use crate::shared::SharedRedis;
use crate::traffic::Apart;
use crate::{Failure, clock, database};

/// Rows in the database, unless the arguments say otherwise.
const PRODUCTS: u32 = 10_000;

/// Runs the instances under traffic, and returns the figures.
pub(crate) async fn run(args: &Args) -> Result<Figures, Failure> {
    let trace = args.trace.as_deref().map(Trace::read).transpose().map_err(Failure::Input)?;
    let products = trace.as_ref().map(|trace| trace.products).or(args.fleet.products).unwrap_or(PRODUCTS);
    let stage = Stage::set(&args.fleet, products).await?;
    let goal = match &trace {
        Some(trace) => Goal::Requests(trace.keys.len() as u64),
        None => Goal::Seconds(args.seconds),
    };
    let progress = Progress::new(goal);
    progress.phase("filling the database");
    let database = stage.fill_database()?;
    progress.phase("starting the instances");
    let rate = rate(args, trace.as_ref());
    let setups = stage.setups(&args.fleet, &database, |setup| Setup { trace: trace.clone(), rate, ..setup });
    let fleet = stage.start(&args.fleet, setups).await?;
    let referee = Arc::new(Mutex::new(Referee::new(args.fleet.size(), stage.apart().watched)));
    let circumstances =
        Circumstances { mode: mode(&args.fleet), products: stage.products, loader_ms: COLD_QUERY_MS };
    let mut conductor = Conductor::new(fleet, Arc::clone(&referee), progress);
    conduct(&mut conductor, stage.apart().cold, goal).await.map_err(Failure::Run)?;
    let referee = referee.lock();
    for evidence in &referee.seen.evidence {
        eprintln!("STALE: {evidence}");
    }
    Ok(Figures::of(&referee, &circumstances))
}

async fn conduct(conductor: &mut Conductor, cold: u32, goal: Goal) -> Result<(), String> {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    conductor.ready().await?;
    conductor.cold_key(cold).await?;
    let seconds = match goal {
        Goal::Seconds(seconds) => Some(seconds),
        Goal::Requests(_) => None,
    };
    conductor.progress.traffic_begins("traffic: reads, and writes mixed in");
    conductor.traffic(seconds, interrupted).await?;
    conductor.finish().await
}

/// Requests per second of one instance.
fn rate(args: &Args, trace: Option<&Trace>) -> Option<f64> {
    let all = match (args.rate, trace) {
        (Some(0), _) => None,
        (Some(rate), _) => Some(f64::from(rate)),
        (None, Some(trace)) => Some((trace.keys.len() as f64 / 10.0).clamp(10.0, 150_000.0)),
        (None, None) => Some(30_000.0),
    };
    all.map(|rate| rate / f64::from(args.fleet.size()))
}

/// What the instances stand on: a directory for the database, and Redis if there is one.
pub(crate) struct Stage {
    pub(crate) products: u32,
    /// Redis, if the demo has started it.
    pub(crate) own_redis: Option<OwnRedis>,
    redis: Option<SharedRedis>,
    directory: TempDir,
}

impl Stage {
    /// Checks what needs a try, and starts Redis if the demo is to have its own.
    pub(crate) async fn set(args: &FleetArgs, products: u32) -> Result<Self, Failure> {
        let named = check(args).await.map_err(Failure::Input)?;
        let own_redis = match args.redis.as_deref() {
            Some(SPAWN) => {
                Some(OwnRedis::start().await.map_err(|why| Failure::Input(format!("--redis spawn: {why}")))?)
            }
            _ => None,
        };
        let redis = own_redis.as_ref().map(|own| SharedRedis::server(own.url())).or(named);
        let directory = TempDir::with_prefix("async-cache-demo-")
            .map_err(|error| Failure::Run(format!("cannot make a temporary directory: {error}")))?;
        Ok(Self { products, own_redis, redis, directory })
    }

    pub(crate) fn apart(&self) -> Apart {
        Apart::of(self.products)
    }

    /// Creates the database. Returns its path.
    pub(crate) fn fill_database(&self) -> Result<std::path::PathBuf, Failure> {
        let path = self.directory.path().join("catalogue.sqlite");
        database::create(&path, self.products + Apart::COUNT)
            .map_err(|error| Failure::Run(format!("cannot make the database: {}", chain(&error))))?;
        Ok(path)
    }

    /// The setups of all instances; `amend` sets what differs between the jobs.
    pub(crate) fn setups(
        &self,
        args: &FleetArgs,
        database: &Path,
        amend: impl Fn(Setup) -> Setup,
    ) -> Vec<Setup> {
        let of = args.size();
        let setup = |index| Setup {
            index,
            of,
            database: database.to_owned(),
            products: self.products,
            query_ms: args.query_ms,
            l1_entries: args.l1_entries.unwrap_or(u64::from(self.products / 5).max(1)),
            namespace: args.namespace.clone(),
            redis: self.redis.clone(),
            trace: None,
            rate: None,
            writes: args.writes / 100.0,
            serve_ttl_ms: None,
            outbox: false,
        };
        (0..of).map(setup).map(amend).collect()
    }

    pub(crate) async fn start(&self, args: &FleetArgs, setups: Vec<Setup>) -> Result<Fleet, Failure> {
        let fleet = match args.processes {
            Some(_) => Fleet::processes(setups),
            None => Fleet::tasks(setups).await,
        };
        fleet.map_err(Failure::Run)
    }
}

/// Checks that need a try. Returns the Redis that is named.
async fn check(args: &FleetArgs) -> Result<Option<SharedRedis>, String> {
    if args.processes.is_some() && !clock::SHARED {
        return Err("--processes needs a clock that all processes share, which this system lacks".into());
    }
    // Of the catalogue's own type: each further type of values takes time to compile.
    let namespace =
        TieredCache::<u32, Product>::builder().namespace(&args.namespace).l1(MemoryBackend::new(1));
    namespace.build().map_err(|error| format!("--namespace: {}", chain(&error)))?;
    if args.redis.as_deref() == Some(SPAWN) {
        return Ok(None);
    }
    let named = SharedRedis::of(args)?;
    if let Some(redis) = &named {
        redis.connect().await.map_err(|error| format!("{}: {}", redis.option(), chain(&error)))?;
    }
    Ok(named)
}

/// The fleet in words.
pub(crate) fn mode(args: &FleetArgs) -> String {
    let of = args.size();
    let redis = match (args.cluster.is_empty(), &args.sentinel) {
        (false, _) => "a Redis Cluster",
        (true, Some(_)) => "a Redis with Sentinels",
        (true, None) => "Redis",
    };
    match (args.processes, args.on_redis()) {
        (Some(_), _) => format!("{of} instances, each a process of its own, sharing {redis}"),
        (None, true) => format!("{of} instances in one process, sharing {redis}"),
        (None, false) => format!("{of} instances in one process, sharing an in-process tier"),
    }
}
