//! The growth of costs with entries and with nodes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use async_cache::{MemoryBackend, RedisBackend, TieredCache};
use tokio::runtime::Runtime;

use super::{Row, fanout, ready, runtime, settled};
use crate::Context;
use crate::report::{Figure, Table, number};

const SIZES: [usize; 3] = [1, 8, 64];
/// The fleet size of the extrapolation.
const FLEET: f64 = 1000.0;
const INVALIDATIONS: u64 = 1_000;

pub(crate) fn run(context: &Context) -> Vec<Table> {
    let mut tables = vec![entries()];
    for mut table in fanout::run(context, &SIZES) {
        table.title.insert_str(0, "Growth with nodes: ");
        tables.push(table);
    }
    tables.push(redis_time(context));
    tables
}

fn entries() -> Table {
    let mut table = Table::new("Growth with entries: L1, uniform keys", "ns").without_ratios();
    let runtime = runtime();
    let _inside = runtime.enter();
    for (entries, name) in
        [(1_000_u64, "10^3"), (10_000, "10^4"), (100_000, "10^5"), (1_000_000, "10^6"), (10_000_000, "10^7")]
    {
        let cache: TieredCache<u64, u64> =
            TieredCache::builder().l1(MemoryBackend::new(entries)).build().expect("a cache");
        let start = Instant::now();
        for first in (0..entries).step_by(1000) {
            let some = cache.insert_many((first..first + 1000).map(|i| (i, i)));
            runtime.block_on(some.into_future()).expect("an insert");
        }
        let insert = start.elapsed().as_nanos() as f64 / entries as f64;
        let mut random = fastrand::Rng::with_seed(3);
        let drawn: Vec<u64> = (0..500_000).map(|_| random.u64(..entries)).collect();
        let mut samples = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            let hits =
                drawn.iter().filter(|key| ready(cache.get(black_box(*key))).is_ok_and(|v| v.is_some()));
            black_box(hits.count());
            samples.push(start.elapsed().as_nanos() as f64 / drawn.len() as f64);
        }
        table.row(
            format!("{name} entries"),
            None,
            vec![Figure::of("hit".to_owned(), Ok(samples)), Figure::one("insert, 1,000 at once", insert)],
        );
    }
    table.note("Nothing in it depends on the number of entries: what grows is the share of lookups that miss the processor's caches.");
    table
}

/// Processor time that the server has used so far, in µs. The server works on one thread.
fn used(connection: &mut redis::Connection) -> f64 {
    let info: String = redis::cmd("INFO").arg("cpu").query(connection).expect("INFO");
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).expect("a field of INFO");
        line.trim_start_matches(':').trim().parse::<f64>().expect("seconds")
    };
    (field("used_cpu_sys_main_thread") + field("used_cpu_user_main_thread")) * 1e6
}

/// The cost of a fleet for its only shared resource: µs of Redis' processor.
struct Cost {
    nodes: f64,
    /// For each second without calls of the caches.
    idle: Figure,
    /// For each invalidation, if they are made one after another.
    single: Figure,
    /// For each invalidation, if many are made at once.
    bulk: Figure,
}

fn redis_time(context: &Context) -> Table {
    let title = "Growth with nodes: what they cost Redis";
    let mut table = Table::new(title, "µs of its processor").without_ratios();
    let none = cost(context, 0);
    let costs: Vec<Cost> = SIZES.iter().map(|&nodes| cost(context, nodes)).collect();
    let extrapolated = extrapolate(&none, &costs[0], costs.last().expect("sizes"));
    table.row("no node", None, vec![none.idle]);
    for cost in costs {
        let name = if cost.nodes == 1.0 { "1 node".to_owned() } else { format!("{} nodes", cost.nodes) };
        table.row(name, None, vec![cost.idle, cost.single, cost.bulk]);
    }
    extrapolated.into_iter().for_each(|note| table.note(note));
    table
}

/// Caches on their own connections, which all receive each other's messages.
fn fleet(runtime: &Runtime, url: &str, nodes: usize) -> Vec<TieredCache<u64, Row>> {
    let namespace = format!("growth-{nodes}");
    runtime.block_on(async {
        let mut caches = Vec::new();
        for _ in 0..nodes {
            let redis = RedisBackend::connect(url).await.expect("Redis");
            let builder = TieredCache::builder().namespace(&namespace).l1(MemoryBackend::new(1000));
            caches.push(builder.l2(redis).build().expect("a cache"));
        }
        for cache in &caches {
            settled(cache).await;
        }
        caches
    })
}

fn cost(context: &Context, nodes: usize) -> Cost {
    let (runtime, url) = (runtime(), context.redis.url());
    let client = redis::Client::open(&*url).expect("a client");
    let mut connection = client.get_connection().expect("a connection");
    let caches = fleet(&runtime, &url, nodes);
    let keys: Vec<u64> = (0..INVALIDATIONS).collect();
    let [mut idle, mut single, mut bulk] = [const { Vec::new() }; 3];
    for _ in 0..context.rounds.min(5) {
        let (before, start) = (used(&mut connection), Instant::now());
        std::thread::sleep(Duration::from_secs(2));
        idle.push((used(&mut connection) - before) / start.elapsed().as_secs_f64());
        let Some(cache) = caches.first() else { continue };
        let before = used(&mut connection);
        for key in &keys {
            runtime.block_on(cache.invalidate(key).into_future()).expect("an invalidation");
        }
        single.push((used(&mut connection) - before) / keys.len() as f64);
        let before = used(&mut connection);
        runtime.block_on(cache.invalidate_many(&keys).into_future()).expect("invalidations");
        bulk.push((used(&mut connection) - before) / keys.len() as f64);
    }
    let figure = |side: &str, samples| Figure::of(side.to_owned(), Ok(samples));
    Cost {
        nodes: nodes as f64,
        idle: figure("idle, in a second", idle),
        single: figure("an invalidation", single),
        bulk: figure("one of 1,000 at once", bulk),
    }
}

/// A line through two measurements over the number of nodes: its value without nodes, and its slope.
fn line(less: (f64, &Figure), more: (f64, &Figure)) -> (f64, f64) {
    let median = |figure: &Figure| figure.median.unwrap_or(f64::NAN);
    let each = (median(more.1) - median(less.1)) / (more.0 - less.0);
    (median(less.1) - each * less.0, each)
}

/// Extrapolates the lines to a fleet of a thousand.
fn extrapolate(none: &Cost, one: &Cost, most: &Cost) -> Vec<String> {
    let (_, beats) = line((none.nodes, &none.idle), (most.nodes, &most.idle));
    let (single, to_one) = line((one.nodes, &one.single), (most.nodes, &most.single));
    let (bulk, bulk_to_one) = line((one.nodes, &one.bulk), (most.nodes, &most.bulk));
    let (idle, fanned) = (beats * FLEET, single + to_one * FLEET);
    let per_second = |time: f64, each: f64| number((time - idle).max(0.0) / each);
    vec![
        format!(
            "Heartbeats, extrapolated to {nodes} nodes on this machine: {beats:.0} µs a second for each node and cache, {share:.0} % of \
             Redis' processor ({scripts} scripts and as many messages a second, each to one node).",
            nodes = number(FLEET),
            share = idle / 1e4,
            scripts = number(FLEET * 4.0),
        ),
        format!(
            "An invalidation: {single:.1} µs and {to_one:.2} µs for each node, {each:.2} ms at {nodes} nodes. Beside the heartbeats that \
             is {all} a second with Redis saturated, {half} at half its time. Of many at once a node is sent several with one write: \
             {bulk_to_one:.2} µs for each node, {many} a second at half its time. Of all that grows with nodes this saturates first.",
            each = fanned / 1e3,
            nodes = number(FLEET),
            all = per_second(1e6, fanned),
            half = per_second(5e5, fanned),
            many = per_second(5e5, bulk + bulk_to_one * FLEET),
        ),
        format!(
            "Connections: 3 for each node, {all} of the 10,000 that Redis takes unless told otherwise.",
            all = number(FLEET * 3.0)
        ),
        "What to do about each: docs/operations.md, \"Many nodes\".".to_owned(),
    ]
}
