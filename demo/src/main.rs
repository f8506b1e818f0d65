//! A product catalogue on async-cache: `cargo run --release -p async-cache-demo`.
//!
//! | module | content |
//! |---|---|
//! | `catalogue`, `search` | **the service**: how a cache is used |
//! | `database` | its database: SQLite |
//! | `driver`, `traffic`, `keys`, `rush` | reads and writes, and their choice of products |
//! | `instance`, `messages`, `fleet`, `conductor` | instances in this process or in separate processes, and the phases of a run |
//! | `events`, `referee` | all events, and their judgement by the promise |
//! | `figures`, `table`, `progress` | the output of a run |
//! | `serve` | the service over HTTP, and the dashboard |
//! | `orders`, `gate`, `copies`, `notices` | what the server asks of an instance; its switches, and the view into its L1 |
//! | `outbox`, `writer` | the relays of the outbox (feature `outbox`), and a process that is killed after its commit |

mod args;
mod catalogue;
mod clock;
mod conductor;
mod copies;
mod database;
mod driver;
mod events;
mod figures;
mod fleet;
mod gate;
mod instance;
mod keys;
mod messages;
mod notices;
mod orders;
#[cfg_attr(not(feature = "outbox"), path = "outbox_absent.rs")]
mod outbox;
#[cfg(all(test, feature = "outbox"))]
#[expect(dead_code, reason = "only its tests run: what a build without the feature says")]
mod outbox_absent;
#[cfg_attr(not(unix), path = "own_redis_elsewhere.rs")]
mod own_redis;
mod progress;
mod referee;
mod run;
mod rush;
mod search;
mod serve;
mod shared;
mod table;
mod traffic;
mod writer;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Job};
use figures::Figures;

/// The reason why there is no result.
pub(crate) enum Failure {
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
    if std::env::args().nth(1).as_deref() == Some(writer::WRITER) {
        return match writer::be_a_writer() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(1, &why),
        };
    }
    let args = Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("cannot start a runtime: {error}")),
    };
    let outcome = match &args.job {
        Some(Job::Serve(args)) => runtime.block_on(serve::serve(args)).map(|()| ExitCode::SUCCESS),
        None => runtime.block_on(run::run(&args)).map(|figures| conclude(&args, &figures)),
    };
    match outcome {
        Ok(code) => code,
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
        let whose = if args.fleet.on_redis() { "; was Redis there all the time?" } else { "" };
        let writes = figures.failed_writes;
        return fail(1, &format!("failed: {failed} requests, {writes} invalidations of writes{whose}"));
    }
    ExitCode::SUCCESS
}
