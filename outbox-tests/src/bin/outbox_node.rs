//! A process of a crash campaign: a writer or a relay. It ends with its input.

use std::io::Read;

use clap::{Parser, ValueEnum};
use outbox_tests::TestDatabase;
use outbox_tests::crash::{Kind, relay, write};
use sqlx::{MySql, Postgres, Sqlite};

#[derive(Parser)]
struct Arguments {
    role: Role,
    #[arg(long)]
    database: Kind,
    #[arg(long)]
    url: String,
    #[arg(long)]
    redis: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Write,
    Relay,
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
        Role::Write => write::<DB>(&arguments.url).await,
        Role::Relay => relay::<DB>(&arguments.url, &arguments.redis).await,
    }
}
