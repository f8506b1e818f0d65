//! The checker: node processes on a real Redis, traffic on all of them, faults on every
//! connection and process, and a judgement of every read. `docs/proof.md` says how it judges.
//!
//! | module | what |
//! |---|---|
//! | `rig`, `fault`, `server`, `campaign` | the system under test, what is done to it, and when |
//! | `node`, `orders`, `guest`, `watch` | a node process, what it is told, and one that something is wrong with |
//! | `read`, `write`, `lives`, `load` | its traffic; whether a load was needed |
//! | `drawn` | calls drawn from every public verb and option, and their judgement; storms |
//! | `canary` | whether the way to the server and back is as it should be |
//! | `ledger`, `row`, `judge`, `value` | what all processes know in common; the judgement of answers |
//! | `cost`, `rest` | what the fleet costs, and what is left of it |
//! | `mutant` | what can be broken on purpose |
//! | `promise` | what is promised, and how a broken promise is told |
//! | `steady` | how fast an invalidation is while nothing is wrong |
//! | `report` | the figures |

mod campaign;
mod canary;
mod cost;
mod drawn;
mod fault;
mod guest;
mod judge;
mod ledger;
mod lives;
mod load;
mod mutant;
mod need;
mod node;
mod orders;
mod promise;
mod read;
mod report;
mod rest;
mod rig;
mod row;
mod server;
mod steady;
mod value;
mod watch;
mod write;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use fault::Fault;
use mutant::Mutant;

/// Tortures a fleet of caches, and checks every read.
///
/// Ends with 1 if a promise was broken, with 2 if it could not be run. SIGINT and SIGTERM end it
/// early, with the report of what was seen so far.
#[derive(Debug, Clone, Parser)]
#[command(name = "torture", args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// How long to run.
    #[arg(long, default_value_t = 0.0)]
    minutes: f64,
    /// How long to run, in seconds: added to the minutes. One minute if neither is given.
    #[arg(long, default_value_t = 0.0)]
    seconds: f64,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Decides which faults come when; drawn at random unless given.
    #[arg(long, default_value_t = fastrand::u64(..1 << 48))]
    seed: u64,
    /// Node processes; the first has two cache handles.
    #[arg(long, default_value_t = 3, value_parser = processes)]
    nodes: usize,
    /// Faults to choose from; all unless given; `none` for none.
    #[arg(long, value_delimiter = ',', value_parser = faults)]
    faults: Option<Vec<Option<Fault>>>,
    /// Switch these fences of every cache off, to see the checker object.
    #[arg(long, value_delimiter = ',', value_parser = Mutant::parse)]
    mutant: Vec<Mutant>,
    /// Only measure how fast an invalidation is.
    #[arg(long)]
    only_steady: bool,
    /// Invalidations measured for that; 0 to leave it out.
    #[arg(long, default_value_t = 2000)]
    steady_rounds: u32,
    /// The bound the caches are built with.
    #[arg(long, default_value_t = 1000)]
    max_staleness_ms: u64,
    /// Reads per second, all handles together.
    #[arg(long, default_value_t = 48_000)]
    reads_per_s: u32,
    /// Changes per second, all handles together.
    #[arg(long, default_value_t = 120)]
    changes_per_s: u32,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Clone, Subcommand)]
enum Role {
    /// A node process.
    #[command(hide = true)]
    Node(node::NodeArgs),
}

fn faults(name: &str) -> Result<Option<Fault>, String> {
    if name == "none" {
        return Ok(None);
    }
    <Fault as clap::ValueEnum>::from_str(name, false).map(Some)
}

fn processes(count: &str) -> Result<usize, String> {
    match count.parse() {
        Ok(count @ 1..=16) => Ok(count),
        _ => Err("1 to 16".to_owned()),
    }
}

impl Args {
    fn lasts(&self) -> Duration {
        match self.minutes * 60.0 + self.seconds {
            none if none <= 0.0 => Duration::from_secs(60),
            seconds => Duration::from_secs_f64(seconds),
        }
    }

    fn faults(&self) -> Vec<Fault> {
        match &self.faults {
            None => <Fault as clap::ValueEnum>::value_variants().to_vec(),
            Some(named) => named.iter().flatten().copied().collect(),
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(Role::Node(node)) = args.role {
        node::run(node);
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.and_then(|runtime| runtime.block_on(campaign::run(&args)));
    match outcome {
        Ok(report) => {
            report.print(args.json);
            if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            eprintln!("torture: {error}");
            ExitCode::from(2)
        }
    }
}
