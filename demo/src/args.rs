//! The command line, and the combinations of options that are refused.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// A product catalogue on async-cache: several service instances, each with its own in-process cache, one
/// shared tier and one database.
///
/// It sends reads and writes to the instances, checks every read against the promise, and prints a table at the
/// end. Without options it needs no installed server.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "async-cache-demo",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) job: Option<Job>,

    #[command(flatten)]
    pub(crate) fleet: FleetArgs,

    /// Replay this file of i32 keys, of either byte order, instead of drawing them; .xz is accepted
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seconds", "products"])]
    pub(crate) trace: Option<PathBuf>,

    /// How long to send traffic
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    pub(crate) seconds: f64,

    /// Requests per second over all instances; 0 for as many as they can answer [default: 30000; for a
    /// trace, what replays it in about 10 s]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub(crate) rate: Option<u32>,

    /// Print one JSON object instead of the table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Job {
    /// Keep the instances running, and serve the catalogue over HTTP with a live dashboard
    #[command(max_term_width = 100)]
    Serve(ServeArgs),
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServeArgs {
    /// Address and port. Whoever reaches it may press every button, so give a loopback address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    #[command(flatten)]
    pub(crate) fleet: FleetArgs,

    /// Requests per second over all instances; 0 for none but yours
    #[arg(long, value_name = "N", default_value_t = 1_500, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) rate: u32,

    /// How long a product is fresh
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    pub(crate) ttl: f64,

    /// Keep an outbox in the database, with a relay on each instance (feature `outbox`)
    #[arg(long)]
    pub(crate) outbox: bool,
}

/// The instances, and what they share.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FleetArgs {
    /// Share the cache over this Redis instead of in this process (`redis://[user:password@]host[:port]`), or
    /// over a `redis-server` that the demo starts and ends (`spawn`)
    #[arg(long, value_name = "URL", group = "shared")]
    pub(crate) redis: Option<String>,

    /// Share the cache over this Redis Cluster, by the URLs of some of its nodes (feature `cluster`)
    #[arg(long, value_name = "URL,..", value_delimiter = ',', group = "shared")]
    pub(crate) cluster: Vec<String>,

    /// Share the cache over the master of this name, which these Sentinels know (feature `sentinel`)
    #[arg(long, value_name = "NAME=URL,..", group = "shared")]
    pub(crate) sentinel: Option<String>,

    /// The authority of the servers' certificates, a PEM file, for `rediss://` (feature `tls`) [default: the
    /// system's authorities]
    #[arg(long, value_name = "FILE", requires = "shared")]
    pub(crate) ca: Option<PathBuf>,

    /// Run this many instances, each as a process of its own (needs a Redis)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64), requires = "shared", conflicts_with = "instances")]
    pub(crate) processes: Option<u16>,

    /// Instances in this process
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) instances: u16,

    /// Rows in the database; product 1 is asked for most (zipf) [default: 10000; 1000 with `serve`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) products: Option<u32>,

    /// Writes per hundred requests
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = percent)]
    pub(crate) writes: f64,

    /// What a network would add to each database query
    #[arg(long, value_name = "MS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub(crate) query_ms: u16,

    /// Entries that fit into the in-process cache of one instance [default: a fifth of the
    /// products; all of them with `serve`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) l1_entries: Option<u64>,

    /// Namespace on the shared tier: two demos at the same time on one Redis need two
    #[arg(long, value_name = "NAME", default_value = "async-cache-demo")]
    pub(crate) namespace: String,
}

/// The value of `--redis` that makes the demo start a server of its own.
pub(crate) const SPAWN: &str = "spawn";

impl FleetArgs {
    pub(crate) fn size(&self) -> u16 {
        self.processes.unwrap_or(self.instances)
    }

    /// Whether the instances share a Redis. Otherwise they share a tier in this process.
    pub(crate) fn on_redis(&self) -> bool {
        self.redis.is_some() || !self.cluster.is_empty() || self.sentinel.is_some()
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text, 0.1, 86_400.0, "seconds")
}

fn percent(text: &str) -> Result<f64, String> {
    number(text, 0.0, 100.0, "percent")
}

fn number(text: &str, least: f64, most: f64, unit: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!("give a number of {unit} from {least} to {most}")),
    }
}
