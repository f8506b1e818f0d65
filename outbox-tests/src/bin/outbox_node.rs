//! A process of a crash campaign: a writer, a relay or a log reader. It ends with its input.

use std::io::Read;

use clap::{Parser, ValueEnum};
use outbox_tests::TestDatabase;
use outbox_tests::crash::{Kind, Means, read, relay, write};
use sqlx::{MySql, Postgres, Sqlite};

#[derive(Parser)]
struct Arguments {
    role: Role,
    #[arg(long)]
    database: Kind,
    #[arg(long, default_value = "outbox")]
    means: Means,
    #[arg(long)]
    url: String,
    #[arg(long)]
    redis: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Write,
    Relay,
    Read,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().lock().read(&mut [0]);
        std::process::exit(0);
    });
    let arguments = Arguments::parse();
    match arguments.database {
        Kind::Postgres => perform::<Postgres>(&arguments).await,
        Kind::Mysql => perform::<MySql>(&arguments).await,
        Kind::Sqlite => perform::<Sqlite>(&arguments).await,
    }
}

async fn perform<DB: TestDatabase>(arguments: &Arguments) {
    match arguments.role {
        Role::Write => write::<DB>(&arguments.url, arguments.means).await,
        Role::Relay => relay::<DB>(&arguments.url, &arguments.redis).await,
        Role::Read => read(&arguments.url, &arguments.redis).await,
    }
}
