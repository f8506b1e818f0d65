//! Kills writers and relays of an outbox at random points, and judges every transaction.
//!
//! ```sh
//! cargo run --release -p outbox-tests --bin outbox_crash -- --database postgres --transactions 10000
//! ```

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use outbox_tests::crash::{Campaign, Kind, Means, run};
use sqlx::{MySql, Postgres, Sqlite};

/// Kills writers and relays of an outbox at random points, and judges every transaction.
#[derive(Parser)]
struct Arguments {
    /// The database.
    #[arg(long, default_value = "postgres")]
    database: Kind,
    /// How it learns of invalidations; the log is PostgreSQL's.
    #[arg(long, default_value = "outbox")]
    means: Means,
    /// Ends when so many transactions are committed.
    #[arg(long, default_value_t = 10_000)]
    transactions: usize,
    /// The longest time between two kills, in milliseconds.
    #[arg(long, default_value_t = 300)]
    kill_every_ms: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let own = std::env::current_exe().expect("the path of this program");
    let campaign = Campaign {
        program: own.with_file_name("outbox_node"),
        kind: arguments.database,
        means: arguments.means,
        transactions: arguments.transactions,
        kill_every: Duration::from_millis(arguments.kill_every_ms),
    };
    assert!(
        campaign.program.is_file(),
        "build outbox_node first: cargo build --release -p outbox-tests --bins"
    );
    let report = match arguments.database {
        Kind::Postgres => run::<Postgres>(&campaign).await,
        Kind::Mysql => run::<MySql>(&campaign).await,
        Kind::Sqlite => run::<Sqlite>(&campaign).await,
    };
    print!("{report}");
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
