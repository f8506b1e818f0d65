//! Compares async-cache with its peers, each job in one run: `cargo run --release -p benchmarks`.
//!
//! `--features peers` adds the peers, each in its own process on the Redis of the run: Rust crates
//! (`peers/rust`, a separate workspace, so nothing else compiles them), and, if `peers/setup` has
//! installed them, those of Python and npm. See the README in this folder.

mod contest;
mod distant;
mod jobs;
mod machine;
mod order;
mod peer;
mod plot;
mod redis_server;
mod report;
mod trace;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::peer::Peers;
use crate::redis_server::RedisServer;
use crate::report::Report;

/// Measures async-cache beside its peers and prints the tables as Markdown.
#[derive(Debug, Parser)]
struct Args {
    /// Also write everything measured to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw the tables as SVG into this folder.
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
    /// Run only these jobs.
    #[arg(long, value_enum)]
    only: Vec<Job>,
    /// Rounds of each side; medians are of these.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// The arguments for a copy of this program.
    #[arg(long, hide = true, num_args = 1..)]
    child: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Job {
    /// L1 hits.
    L1,
    /// L1 inserts under eviction, and hit ratios.
    Churn,
    /// L2 hits, one by one and many at once.
    L2,
    /// A miss of all tiers.
    Cold,
    /// Many tasks on one cold key, in one process and in four.
    Stampede,
    /// Invalidations: lag and rate.
    Fanout,
    /// DataLoader.
    Loader,
    /// Memory per entry.
    Memory,
    /// Growth with entries and with nodes.
    Growth,
}

/// The inputs of every job.
struct Context {
    rounds: usize,
    // The peers must end before their server. Otherwise they report errors.
    peers: Peers,
    redis: RedisServer,
}

fn main() {
    let args = Args::parse();
    if !args.child.is_empty() {
        return jobs::child(&args.child);
    }
    let mut context = Context { rounds: args.rounds, peers: Peers::start(), redis: RedisServer::start() };
    let mut report = Report::new(machine::describe(&context.redis));
    println!("{}", report.head());
    for notice in context.peers.absent() {
        println!("* {notice}");
    }
    for job in Job::value_variants() {
        if args.only.is_empty() || args.only.contains(job) {
            for table in jobs::run(*job, &mut context) {
                println!("\n{}", table.markdown());
                report.tables.push(table);
            }
        }
    }
    if let Some(path) = args.json {
        let text = serde_json::to_string_pretty(&report).expect("figures are JSON");
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
    }
    if let Some(folder) = args.svg {
        plot::draw(&report, &folder);
    }
}
