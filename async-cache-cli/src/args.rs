//! The arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};

const FORMS_OF_KEYS: &str = "\
KEY is the key as the cache encodes it, which is also what follows `V:` in the name of the Redis key:
  a text or byte string    its bytes                         user:42
  an integer               decimal digits                    42
  a tuple                  components joined by `:`, with    9:a\\:b
                           `\\` and `:` in them escaped by `\\`
  an Option                `-`, or `+` and the value          +3
The documentation of the trait CacheKey lists all types. With --tuple the arguments are the components of one tuple, and
are escaped for you. With --hex the arguments are bytes in hexadecimal. Without --hex an empty KEY, a KEY with control
characters and the name of a Redis key are refused. Write `--` before a KEY that begins with `-`.";

const EXIT_CODES: &str = "\
Exit codes:
  0  done, and found
  1  not found, or a problem was found
  2  wrong usage: nothing was sent
  3  the server cannot be reached, or refuses: a wrong password, a missing right, a server that cannot be used

Output: text for people, or with --json one JSON object (`watch`: always one object a line). With --json an error is a JSON
object on stderr.";

/// Inspects, invalidates and watches the caches of a fleet, and examines their Redis.
#[derive(Debug, Parser)]
#[command(name = "async-cache", version, after_help = EXIT_CODES, after_long_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The arguments that all verbs have.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Shared {
    /// The server: `redis://[user[:password]@]host[:port][/database]`, `rediss://..` for TLS, or `unix:///path`. Unless
    /// given, ASYNC_CACHE_REDIS or REDIS_URL. Other users of this machine see arguments: put a password into the variable.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// The URL names a node of a Redis Cluster. The other nodes are found.
    #[arg(long, global = true)]
    pub(crate) cluster: bool,
    /// A configuration file in TOML instead: what a service reads as `RedisConfig`, with user, password, TLS, Sentinels or a cluster.
    /// --timeout replaces its deadlines.
    #[arg(long, global = true, value_name = "FILE")]
    #[arg(conflicts_with_all = ["redis", "cluster", "ca_file", "client_cert_file", "client_key_file", "server_name"])]
    pub(crate) config: Option<PathBuf>,
    /// The table of the configuration file that has the settings, such as `cache.redis`, if they are not at its top.
    // Where an argument that excludes --config is given, clap would not require it.
    #[arg(long, global = true, value_name = "NAME", requires = "config")]
    #[arg(conflicts_with_all = ["redis", "cluster", "ca_file", "client_cert_file", "client_key_file", "server_name"])]
    pub(crate) config_table: Option<String>,
    /// The namespace of the cache. Unless given, ASYNC_CACHE_NAMESPACE.
    #[arg(long, short, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Prints JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The deadline of each command, such as `500ms`.
    #[arg(long, global = true, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
    /// The certificates of the authorities to trust, in PEM, instead of those of this machine.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The client's certificate and its chain, in PEM.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_cert_file: Option<PathBuf>,
    /// The private key of the client's certificate, in PEM.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_key_file: Option<PathBuf>,
    /// The name that the server's certificate must have, if it is not the host of the URL.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Shows what Redis has under a key: its state, age, expiry, tags, codec, size, the lease and who waits.
    #[command(after_help = FORMS_OF_KEYS)]
    Inspect(Which),
    /// Invalidates keys: every node forgets them, and loads under way are not stored. Prints the stamp.
    #[command(after_help = FORMS_OF_KEYS)]
    Invalidate(Which),
    /// Invalidates tags: every node forgets the entries that have one of them. Prints the stamp.
    Tag(Tagged),
    /// Expires keys: no node takes them for fresh any more; they remain fallbacks while their loaders fail. Prints the
    /// stamp.
    #[command(after_help = FORMS_OF_KEYS)]
    Expire(Which),
    /// Expires tags, as `expire` does keys. Prints the stamp.
    ExpireTag(Tagged),
    /// Clears the namespace: every node forgets all of its entries. Prints the stamp.
    Clear,
    /// Prints the changes of the namespace as they happen, one JSON object a line.
    Watch(Watch),
    /// Shows the statistics of all nodes, which are asked over the namespace's channel.
    Stats,
    /// Shows the nodes at work, on the terminal; with --json as one JSON object for each round.
    Top(Top),
    /// Examines the server and the rights of the user, and with a namespace its record and its cost.
    Doctor(Doctor),
}

/// Keys.
#[derive(Debug, ClapArgs)]
pub(crate) struct Which {
    /// The key, or several; `inspect` takes one. See below for the form.
    #[arg(required = true, value_name = "KEY", allow_negative_numbers = true)]
    pub(crate) keys: Vec<String>,
    /// The arguments are the components of one compound key.
    #[arg(long, conflicts_with = "hex")]
    pub(crate) tuple: bool,
    /// The arguments are bytes in hexadecimal.
    #[arg(long)]
    pub(crate) hex: bool,
}

/// Tags.
#[derive(Debug, ClapArgs)]
pub(crate) struct Tagged {
    /// The tag, or several.
    #[arg(required = true, value_name = "TAG")]
    pub(crate) tags: Vec<String>,
}

/// How to watch.
#[derive(Debug, ClapArgs)]
pub(crate) struct Watch {
    /// Ends after so many events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

/// How to show the nodes at work.
#[derive(Debug, ClapArgs)]
pub(crate) struct Top {
    /// The time between two rounds of questions, 200 ms at least.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Ends after so many rounds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

/// Reads an interval. Nodes answer 20 times a second at most, to all tools together.
fn interval(text: &str) -> Result<Duration, String> {
    let least = Duration::from_millis(200);
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < least { Err("at least 200ms, to spare the nodes".to_owned()) } else { Ok(interval) }
}

/// What to examine.
#[derive(Debug, ClapArgs)]
pub(crate) struct Doctor {
    /// Estimates the cost for so many nodes, instead of those that listen now.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) nodes: Option<u64>,
}
