//! The checker: node processes on a real Redis, traffic on all of them, faults on every connection and process,
//! and a judgement of every read. `docs/proof.md` explains the judgement.
//!
//! | module | what |
//! |---|---|
//! | `deployment`, `rig`, `campaign` | the servers, the system under test, and the times of its faults |
//! | `fault`, `server`, `failover`, `cluster`, `sentinel` | the faults |
//! | `node`, `orders`, `guest`, `watch` | a node process, its orders, and a faulty node |
//! | `verifier` | the reports of the verifiers of its caches |
//! | `read`, `write`, `lives`, `load` | its traffic, and whether a load was needed |
//! | `drawn` | calls drawn from every public method and option, and their judgement; storms |
//! | `canary` | whether the connection to the server works without delay |
//! | `ledger`, `row`, `judge`, `value` | the state that all processes share; the judgement of answers |
//! | `cost`, `rest` | the cost of the fleet, and what is left after the traffic |
//! | `mutant` | the faults that can be planted |
//! | `promise` | the promises, and the report of a broken one |
//! | `steady` | the time of an invalidation without faults |
//! | `report` | the figures |

mod campaign;
mod canary;
mod cluster;
mod cost;
mod deployment;
mod drawn;
mod failover;
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
mod sentinel;
mod server;
mod steady;
mod value;
mod verifier;
mod watch;
mod write;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use deployment::Topology;
use fault::Fault;
use mutant::Mutant;
use promise::Promise;

/// Tortures a fleet of caches, and checks every read.
///
/// The exit status is 1 if a promise was broken, and 2 if the run was not possible. SIGINT and SIGTERM end it
/// early, with a report of the reads so far.
#[derive(Debug, Clone, Parser)]
#[command(name = "torture", args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// The duration of the run, in minutes.
    #[arg(long, default_value_t = 0.0)]
    minutes: f64,
    /// The duration of the run, in seconds; added to the minutes. One minute if neither is given.
    #[arg(long, default_value_t = 0.0)]
    seconds: f64,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Decides the order of the faults; drawn at random if it is not given.
    #[arg(long, default_value_t = fastrand::u64(..1 << 48))]
    seed: u64,
    /// The arrangement of the servers.
    #[arg(long, value_enum, default_value_t = Topology::Single)]
    topology: Topology,
    /// Node processes; the first has two cache handles.
    #[arg(long, default_value_t = 3, value_parser = processes)]
    nodes: usize,
    /// The faults to choose from; all if it is not given; `none` for none.
    #[arg(long, value_delimiter = ',', value_parser = faults)]
    faults: Option<Vec<Option<Fault>>>,
    /// Switch these safeguards of every cache off, to show that the checker finds the fault.
    #[arg(long, value_delimiter = ',', value_parser = Mutant::parse)]
    mutant: Vec<Mutant>,
    /// Measure only the time of an invalidation.
    #[arg(long)]
    only_steady: bool,
    /// The number of invalidations for that measurement; 0 to leave it out.
    #[arg(long, default_value_t = 2000)]
    steady_rounds: u32,
    /// The bound with which the caches are built.
    #[arg(long, default_value_t = 1000)]
    max_staleness_ms: u64,
    /// The share of the hits in L1 that the verifiers check; 0 for no verifier.
    #[arg(long, default_value_t = 0.05, value_parser = share)]
    verify: f64,
    /// With a mutant: end only when this promise is broken, not when any is.
    #[arg(long, value_parser = Promise::parse)]
    until: Option<Promise>,
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

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "0 to 1".to_owned())
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
            None => {
                let all = <Fault as clap::ValueEnum>::value_variants().iter().copied();
                all.filter(|fault| fault.suits(self.topology)).collect()
            }
            Some(named) => named.iter().flatten().copied().collect(),
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let strange = |fault: &&Fault| !fault.suits(args.topology);
    if let Some(fault) = args.faults().iter().find(strange) {
        eprintln!("torture: {fault:?} is no fault of the topology `{}`", args.topology.name());
        return ExitCode::from(2);
    }
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
