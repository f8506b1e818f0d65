//! A product catalogue on async-cache: `cargo run --release -p async-cache-demo`.
//!
//! | module | content |
//! |---|---|
//! | `catalogue` | **the service**: how a cache is used |
//! | `database` | its database: SQLite |
//! | `driver`, `traffic`, `keys` | reads and writes, and their choice of products |
//! | `instance`, `fleet`, `conductor` | instances in this process or in separate processes, and the phases of a run |
//! | `events`, `referee` | all events, and their judgement by the promise |
//! | `figures`, `table`, `progress`, `serve` | the output |

mod args;
mod catalogue;
mod clock;
mod conductor;
mod database;
mod driver;
mod events;
mod figures;
mod fleet;
mod instance;
mod keys;
mod progress;
mod referee;
mod serve;
mod table;
mod traffic;

use std::process::ExitCode;
use std::sync::Arc;

use async_cache::{MemoryBackend, RedisBackend, TieredCache};
use clap::Parser;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::net::TcpListener;

use args::Args;
use conductor::{COLD_QUERY_MS, Conductor};
use figures::{Circumstances, Figures};
use fleet::Fleet;
use instance::{Setup, chain};
use keys::Trace;
use progress::{Goal, Progress};
use referee::Referee;
use traffic::Apart;

/// The reason why there is no result.
enum Failure {
    /// The arguments are invalid.
    Input(String),
    /// The run started, and failed.
    Run(String),
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(fleet::INSTANCE) {
        return match fleet::be_an_instance() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(1, &why),
        };
    }
    let args = Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("cannot start a runtime: {error}")),
    };
    match runtime.block_on(run(&args)) {
        Ok(figures) => conclude(&args, &figures),
        Err(Failure::Input(why)) => fail(2, &why),
        Err(Failure::Run(why)) => fail(1, &why),
    }
}

fn fail(code: u8, why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::from(code)
}

/// Prints the figures. A broken promise is a failure, and so is a request without an answer.
fn conclude(args: &Args, figures: &Figures) -> ExitCode {
    if args.json {
        println!("{}", serde_json::to_string_pretty(figures).expect("figures are plain"));
    } else {
        println!("{}", table::render(figures));
    }
    if figures.stale_reads > 0 {
        return fail(1, &format!("{} reads were older than the promise", figures.stale_reads));
    }
    let failed = figures.failed_requests + u64::from(figures.cold_key.failed_tasks);
    if failed + figures.failed_writes > 0 {
        let whose = if args.redis.is_some() { "; was Redis there all the time?" } else { "" };
        let writes = figures.failed_writes;
        return fail(1, &format!("failed: {failed} requests, {writes} invalidations of writes{whose}"));
    }
    ExitCode::SUCCESS
}

async fn run(args: &Args) -> Result<Figures, Failure> {
    let trace = args.trace.as_deref().map(Trace::read).transpose().map_err(Failure::Input)?;
    check(args).await.map_err(Failure::Input)?;
    let listener = match &args.serve {
        Some(address) => Some(serve::bind(address).await.map_err(Failure::Input)?),
        None => None,
    };
    let products = trace.as_ref().map_or(args.products, |trace| trace.products);
    let goal = match (&trace, &args.serve) {
        (Some(trace), _) => Goal::Requests(trace.keys.len() as u64),
        (None, Some(_)) => Goal::None,
        (None, None) => Goal::Seconds(args.seconds),
    };
    let progress = Progress::new(goal);
    progress.phase("filling the database");
    let directory = TempDir::with_prefix("async-cache-demo-")
        .map_err(|error| Failure::Run(format!("cannot make a temporary directory: {error}")))?;
    let database = directory.path().join("catalogue.sqlite");
    database::create(&database, products + Apart::COUNT)
        .map_err(|error| Failure::Run(format!("cannot make the database: {}", chain(&error))))?;

    progress.phase("starting the instances");
    let setups = setups(args, &database, products, trace.as_ref());
    let fleet = match args.processes {
        Some(_) => Fleet::processes(setups),
        None => Fleet::tasks(setups).await,
    };
    let apart = Apart::of(products);
    let referee = Arc::new(Mutex::new(Referee::new(args.fleet_size(), apart.watched)));
    let circumstances = Circumstances { mode: mode(args), products, loader_ms: COLD_QUERY_MS };
    let mut conductor = Conductor::new(fleet.map_err(Failure::Run)?, Arc::clone(&referee), progress);
    conduct(&mut conductor, listener, &circumstances, goal).await.map_err(Failure::Run)?;
    let referee = referee.lock();
    for evidence in &referee.seen.evidence {
        eprintln!("STALE: {evidence}");
    }
    Ok(Figures::of(&referee, &circumstances))
}

async fn conduct(
    conductor: &mut Conductor,
    listener: Option<TcpListener>,
    circumstances: &Circumstances,
    goal: Goal,
) -> Result<(), String> {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    conductor.ready().await?;
    conductor.cold_key(Apart::of(circumstances.products).cold).await?;
    let seconds = match goal {
        Goal::Seconds(seconds) => Some(seconds),
        Goal::Requests(_) | Goal::None => None,
    };
    match listener {
        Some(listener) => {
            let drivers = conductor.fleet.drivers.clone();
            let referee = Arc::clone(&conductor.referee);
            let address = serve::start(listener, drivers, referee, circumstances.clone())?;
            conductor.progress.traffic_begins("traffic");
            eprintln!("serving http://{address}/ (Ctrl-C ends)");
        }
        None => conductor.progress.traffic_begins("traffic: reads, and writes mixed in"),
    }
    conductor.traffic(seconds, interrupted).await?;
    conductor.finish().await
}

/// Checks that need a try.
async fn check(args: &Args) -> Result<(), String> {
    if args.processes.is_some() && !clock::SHARED {
        return Err("--processes needs a clock that all processes share, which this system lacks".into());
    }
    let namespace = TieredCache::<u32, u32>::builder().namespace(&args.namespace).l1(MemoryBackend::new(1));
    namespace.build().map_err(|error| format!("--namespace: {}", chain(&error)))?;
    if let Some(url) = &args.redis {
        RedisBackend::connect(url).await.map_err(|error| format!("--redis: {}", chain(&error)))?;
    }
    Ok(())
}

fn setups(args: &Args, database: &std::path::Path, products: u32, trace: Option<&Trace>) -> Vec<Setup> {
    let of = args.fleet_size();
    let rate = match (args.rate, trace) {
        (Some(0), _) => None,
        (Some(rate), _) => Some(f64::from(rate)),
        (None, Some(trace)) => Some((trace.keys.len() as f64 / 10.0).clamp(10.0, 150_000.0)),
        (None, None) => Some(30_000.0),
    };
    let setup = |index| Setup {
        index,
        of,
        database: database.to_owned(),
        products,
        query_ms: args.query_ms,
        l1_entries: args.l1_entries.unwrap_or(u64::from(products / 5).max(1)),
        namespace: args.namespace.clone(),
        redis: args.redis.clone(),
        trace: trace.cloned(),
        rate: rate.map(|rate| rate / f64::from(of)),
        writes: args.writes / 100.0,
    };
    (0..of).map(setup).collect()
}

fn mode(args: &Args) -> String {
    let of = args.fleet_size();
    match (args.processes, &args.redis) {
        (Some(_), _) => format!("{of} instances, each a process of its own, sharing Redis"),
        (None, Some(_)) => format!("{of} instances in one process, sharing Redis"),
        (None, None) => format!("{of} instances in one process, sharing an in-process tier"),
    }
}
