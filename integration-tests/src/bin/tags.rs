//! Measures the cost of tags through a cache on its own Redis: the invalidation of one tag with very many
//! entries, and of very many tags.
//!
//! `cargo run --release -p integration-tests --bin tags`

use std::time::Instant;

use async_cache::testing::until;
use async_cache::{BoxError, MemoryBackend, RedisBackend, TieredCache};
use clap::Parser;
use integration_tests::RedisServer;

/// The maximum number of changes in one call.
const AT_ONCE: u64 = 100_000;

#[derive(Parser)]
struct Args {
    /// The number of entries with one tag.
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
    /// The number of tags that are invalidated.
    #[arg(long, default_value_t = 1_000_000)]
    tags: u64,
    /// The number of entries that are looked up afterwards.
    #[arg(long, default_value_t = 10_000)]
    sample: usize,
}

type Cache = TieredCache<u64, u64>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse();
    let server = RedisServer::start();
    let cache = node(&server).await?;
    one_tag(&server, &cache, &args).await?;
    many_tags(&server, &cache, &args).await?;
    Ok(())
}

async fn node(server: &RedisServer) -> Result<Cache, BoxError> {
    let l2 = RedisBackend::builder().url(server.url()).write_timeout(std::time::Duration::from_secs(60));
    let l2 = l2.connect().await?;
    let cache = TieredCache::builder().namespace("tags").l1(MemoryBackend::new(10_000)).l2(l2).build()?;
    until("the node serves", || cache.is_serving()).await;
    Ok(cache)
}

async fn one_tag(server: &RedisServer, cache: &Cache, args: &Args) -> Result<(), BoxError> {
    let mut stored = 0;
    while stored < args.entries {
        let some = stored..(stored + AT_ONCE).min(args.entries);
        stored = some.end;
        cache.insert_many(some.map(|n| (n, n))).tag("all").await?;
    }
    let there: u64 = server.cli(&["DBSIZE"]);
    let other = node(server).await?;
    let step = (args.entries as usize / args.sample.max(1)).max(1);
    let sample: Vec<u64> = (0..args.entries).step_by(step).collect();
    let found = async |node: &Cache| {
        node.get_many(&sample).await.map(|answers| answers.into_iter().flatten().count())
    };
    println!("{} entries with one tag ({there} keys in Redis)", args.entries);
    println!("  of a sample of {}, found before: {}", sample.len(), found(&other).await?);

    let monitor = server.monitor();
    let begun = Instant::now();
    let stamp = cache.invalidate_tag("all").await?;
    let took = begun.elapsed();
    // Heartbeats are scripts on one key, and every connection is pinged once a second. Neither counts.
    let background = |command: &&String| {
        command.starts_with("\"PING\"") || command.split(' ').nth(2).is_some_and(|keys| keys == "\"1\"")
    };
    let sent = monitor.commands().iter().filter(|command| !background(command)).count();
    println!("  invalidated in {took:.1?} with {sent} command, beside heartbeats");

    let after = other.get_many(&sample).at_least(&stamp).await?.into_iter().flatten().count();
    println!("  found afterwards: {} here, {after} on another node", found(cache).await?);
    Ok(())
}

async fn many_tags(server: &RedisServer, cache: &Cache, args: &Args) -> Result<(), BoxError> {
    println!("{} distinct tags invalidated", args.tags);
    println!("  {:>10}  {:>10}  {:>10}  {:>10}", "tags", "in T", "in U", "bytes");
    let mut invalidated = 0;
    while invalidated < args.tags {
        let some = invalidated..(invalidated + AT_ONCE).min(args.tags);
        invalidated = some.end;
        cache.invalidate_tags(some.map(|n| format!("tag-{n}"))).await?;
        let length = |half: &str| server.cli::<u64>(&["HLEN", &format!("{{tags:0}}{half}")]);
        let bytes = |half: &str| {
            let words = ["MEMORY", "USAGE", &format!("{{tags:0}}{half}"), "SAMPLES", "0"];
            server.cli::<Option<u64>>(&words).unwrap_or(0)
        };
        let all = bytes("T") + bytes("U");
        println!("  {invalidated:>10}  {:>10}  {:>10}  {all:>10}", length("T"), length("U"));
    }
    Ok(())
}
