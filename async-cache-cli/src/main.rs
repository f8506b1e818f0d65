//! The command line of async-cache: `async-cache --help`.
//!
//! | module | content |
//! |---|---|
//! | `args`, `key` | the arguments; the forms of a KEY |
//! | `config_file` | the settings in a configuration file |
//! | `connect`, `ears` | the connection, the namespace, and what is heard on its bus |
//! | `fleet` | questions to all nodes |
//! | `inspect`, `change`, `watch`, `stats`, `top/`, `doctor/` | the verbs |
//! | `output`, `failure` | text and JSON; errors and exit codes |

#![forbid(unsafe_code)]

mod args;
mod change;
mod config_file;
mod connect;
mod doctor;
mod ears;
mod failure;
mod fleet;
mod inspect;
mod key;
mod output;
mod stats;
mod top;
mod watch;

use std::process::ExitCode;

use args::{Args, Verb};
use change::Effect;
use clap::Parser as _;
use failure::{Failure, Outcome};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        // The help and the version. They are not errors.
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) if asks_for_json() => return Failure::usage(plain(&error)).report(true),
        Err(error) => error.exit(),
    };
    let json = args.shared.json;
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::found(format!("starting the program: {error}")).report(json),
    };
    let outcome = runtime.block_on(run(args));
    // A server that hangs must not keep the program.
    runtime.shutdown_background();
    match outcome {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Problem) => ExitCode::from(1),
        Err(failure) => failure.report(json),
    }
}

/// Whether the arguments ask for JSON, although they could not be read as a whole.
fn asks_for_json() -> bool {
    std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json")
}

/// What is wrong with the arguments, without colours and on one line.
fn plain(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn run(args: Args) -> Result<Outcome, Failure> {
    let Args { shared, verb } = args;
    match verb {
        Verb::Inspect(which) => inspect::run(&shared, &which).await,
        Verb::Invalidate(which) => change::keys(&shared, &which, Effect::Invalidate).await,
        Verb::Tag(which) => change::tags(&shared, &which, Effect::Invalidate).await,
        Verb::Expire(which) => change::keys(&shared, &which, Effect::Expire).await,
        Verb::ExpireTag(which) => change::tags(&shared, &which, Effect::Expire).await,
        Verb::Clear => change::clear(&shared).await,
        Verb::Watch(how) => watch::run(&shared, &how).await,
        Verb::Stats => stats::run(&shared).await,
        Verb::Top(how) => top::run(&shared, &how).await,
        Verb::Doctor(how) => doctor::run(&shared, &how).await,
    }
}
