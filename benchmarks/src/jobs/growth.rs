//! How costs grow with entries and with nodes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use async_cache::{MemoryBackend, RedisBackend, TieredCache};

use super::{Row, fanout, ready, runtime};
use crate::Context;
use crate::report::{Figure, Table, number};

const SIZES: [usize; 3] = [1, 8, 64];
/// What is extrapolated to.
const FLEET: f64 = 1000.0;
const INVALIDATIONS: u64 = 1_000;

pub(crate) fn run(context: &Context) -> Vec<Table> {
    let mut tables = vec![entries()];
    let fanned = fanout::run(context, &SIZES);
    // What all nodes of the largest fleet are told in a second when messages come in bulk.
    let told = fanned.last().and_then(|rates| rates.rows.last()?.figures.first()?.median);
    let told = told.unwrap_or(f64::NAN) * SIZES[SIZES.len() - 1] as f64;
    for mut table in fanned {
        table.title.insert_str(0, "Growth with nodes: ");
        tables.push(table);
    }
    tables.push(redis_time(context, told));
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

/// Processor time that the server has used so far, in µs. It works on one thread.
fn used(connection: &mut redis::Connection) -> f64 {
    let info: String = redis::cmd("INFO").arg("cpu").query(connection).expect("INFO");
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).expect("a field of INFO");
        line.trim_start_matches(':').trim().parse::<f64>().expect("seconds")
    };
    (field("used_cpu_sys_main_thread") + field("used_cpu_user_main_thread")) * 1e6
}

/// What a fleet costs the one thing all of it shares.
struct Cost {
    nodes: f64,
    /// µs of Redis' processor for each second in which nothing is asked of the caches.
    idle: Figure,
    /// µs of Redis' processor for each invalidation.
    invalidation: Figure,
}

fn redis_time(context: &Context, told: f64) -> Table {
    let mut table =
        Table::new("Growth with nodes: what they cost Redis", "µs of its processor").without_ratios();
    let none = cost(context, 0);
    let costs: Vec<Cost> = SIZES.iter().map(|&nodes| cost(context, nodes)).collect();
    table.row("no node", None, vec![none.idle.clone()]);
    let (base, most) = (none.idle.median.unwrap_or(0.0), costs.last().expect("sizes"));
    let extrapolated = extrapolate(base, &costs[0], most, told);
    for cost in costs {
        let name = if cost.nodes == 1.0 { "1 node".to_owned() } else { format!("{} nodes", cost.nodes) };
        table.row(name, None, vec![cost.idle, cost.invalidation]);
    }
    extrapolated.into_iter().for_each(|note| table.note(note));
    table
}

fn cost(context: &Context, nodes: usize) -> Cost {
    let (runtime, url) = (runtime(), context.redis.url());
    let client = redis::Client::open(&*url).expect("a client");
    let mut connection = client.get_connection().expect("a connection");
    let namespace = format!("growth-{nodes}");
    let caches: Vec<TieredCache<u64, Row>> = runtime.block_on(async {
        let mut caches = Vec::new();
        for _ in 0..nodes {
            let redis = RedisBackend::connect(&url).await.expect("Redis");
            let builder = TieredCache::builder().namespace(&namespace).l1(MemoryBackend::new(1000));
            caches.push(builder.l2(redis).build().expect("a cache"));
        }
        for cache in &caches {
            super::settled(cache).await;
        }
        caches
    });
    let (mut idle, mut invalidation) = (Vec::new(), Vec::new());
    for _ in 0..context.rounds.min(5) {
        let (before, start) = (used(&mut connection), Instant::now());
        std::thread::sleep(Duration::from_secs(2));
        idle.push((used(&mut connection) - before) / start.elapsed().as_secs_f64());
        if let Some(cache) = caches.first() {
            let before = used(&mut connection);
            for key in 0..INVALIDATIONS {
                runtime.block_on(cache.invalidate(&key).into_future()).expect("an invalidation");
            }
            invalidation.push((used(&mut connection) - before) / INVALIDATIONS as f64);
        }
    }
    Cost {
        nodes: nodes as f64,
        idle: Figure::of("idle, in a second".to_owned(), Ok(idle)),
        invalidation: Figure::of("one invalidation".to_owned(), Ok(invalidation)),
    }
}

/// The lines through what was measured, at a fleet of a thousand.
fn extrapolate(base: f64, one: &Cost, most: &Cost, told: f64) -> Vec<String> {
    let median = |figure: &Figure| figure.median.unwrap_or(f64::NAN);
    let beats = (median(&most.idle) - base) / most.nodes;
    let (low, high) = (median(&one.invalidation), median(&most.invalidation));
    let message = (high - low) / (most.nodes - one.nodes);
    let change = low - message;
    let (idle, fanned) = (beats * FLEET, change + message * FLEET);
    let per_second = |time: f64| number((time - idle).max(0.0) / fanned);
    vec![
        format!(
            "Heartbeats, extrapolated to {nodes} nodes on this machine: {beats:.0} µs a second for each node and cache, {share:.0} % of \
             Redis' processor ({scripts} scripts and as many messages a second, each to one node).",
            nodes = number(FLEET),
            share = idle / 1e4,
            scripts = number(FLEET * 4.0),
        ),
        format!(
            "Invalidations: {change:.1} µs and {message:.2} µs for each node, {each:.2} ms at {nodes} nodes. Beside the heartbeats that is \
             {all} a second with Redis saturated, {half} at half its time; in bulk (`invalidate_many`, or many callers at once), where \
             a node is sent several with one write, {bulk}. Of all that grows with nodes this is the first to saturate.",
            each = fanned / 1e3,
            nodes = number(FLEET),
            all = per_second(1e6),
            half = per_second(5e5),
            bulk = number(told / FLEET),
        ),
        format!(
            "Connections: 3 for each node, {all} of the 10,000 that Redis takes unless told otherwise.",
            all = number(FLEET * 3.0)
        ),
        "What to do about each: docs/operations.md, \"Many nodes\".".to_owned(),
    ]
}
