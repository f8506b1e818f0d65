//! Many tasks on one cold key.

use std::convert::Infallible;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_cache::{MemoryBackend, RedisBackend, TieredCache};
use serde_json::json;

use super::{Row, runtime};
use crate::Context;
use crate::contest::{Most, Side, contest};
use crate::peer::PROCESSES;
use crate::report::Table;

const LOADING: Duration = Duration::from_millis(100);

/// Runs the tasks. Returns the time of the slowest in ms, and the number of loads.
async fn storm(cache: &TieredCache<u64, Row>, key: u64, tasks: usize) -> (f64, u64) {
    let loads = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let running: Vec<_> = (0..tasks)
        .map(|_| {
            let (cache, loads) = (cache.clone(), Arc::clone(&loads));
            tokio::spawn(async move {
                let load = move || async move {
                    loads.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(LOADING).await;
                    Ok::<_, Infallible>(Row::new(key, 100))
                };
                cache.get_or_load(&key, load).await.expect("a load");
                start.elapsed()
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for task in running {
        slowest = slowest.max(task.await.expect("a task"));
    }
    (slowest.as_secs_f64() * 1000.0, loads.load(Ordering::Relaxed))
}

pub(crate) fn run(context: &Context) -> Vec<Table> {
    let title = "Stampede on one cold key, 100 ms loader";
    let mut times = Table::new(title, "ms until the slowest caller has it");
    let mut loads = Table::new("Stampede on one cold key, loads", "loads, the most in a round");
    let rounds = context.rounds.min(5);
    let ask = |tasks: usize| json!({ "tasks": tasks, "loading_ms": 100, "redis": context.redis.url() });

    let most = Most::default();
    let mut sides = vec![alone(&most)];
    sides.extend(context.peers.counting("stampede", &ask(1000), &most));
    let case = "1,000 tasks in one process";
    times.row(case, None, contest(rounds, sides));
    loads.row(case, None, most.figures());

    let most = Most::default();
    let url = context.redis.url();
    let mut key = 0;
    let mut sides = vec![Side::new("async-cache", || {
        key += 1;
        let (slowest, loads) = fleet(&url, key);
        most.note("async-cache", loads);
        slowest
    })];
    sides.extend(context.peers.fleets("fleet", &ask(250), &most));
    let case = format!("{PROCESSES} processes of 250 tasks");
    times.row(&*case, None, contest(rounds, sides));
    loads.row(case, None, most.figures());
    vec![times, loads]
}

fn alone(most: &Most) -> Side<'_> {
    let runtime = runtime();
    let cache = {
        let _inside = runtime.enter();
        TieredCache::builder().l1(MemoryBackend::new(1000)).build().expect("a cache")
    };
    let mut key = 0;
    Side::new("async-cache", move || {
        key += 1;
        let (slowest, loads) = runtime.block_on(storm(&cache, key, 1000));
        most.note("async-cache", loads);
        slowest
    })
}

/// Starts copies of this program that begin at the same moment.
fn fleet(url: &str, key: u64) -> (f64, u64) {
    let start = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock") + Duration::from_millis(1000);
    let start = start.as_millis().to_string();
    let copies: Vec<_> = (0..PROCESSES)
        .map(|_| {
            Command::new(std::env::current_exe().expect("this program"))
                .args(["--child", "stampede", url, &key.to_string(), &start])
                .stdout(Stdio::piped())
                .spawn()
                .expect("a copy of this program")
        })
        .collect();
    copies.into_iter().fold((0.0_f64, 0), |(slowest, loads), copy| {
        let output = copy.wait_with_output().expect("a child");
        let (time, count): (f64, u64) = serde_json::from_slice(&output.stdout).expect("what a child says");
        (slowest.max(time), loads + count)
    })
}

pub(crate) fn child(args: &[String]) {
    let [url, key, start] = args else { panic!("url, key, start") };
    let start = UNIX_EPOCH + Duration::from_millis(start.parse().expect("milliseconds"));
    let told = runtime().block_on(async {
        let redis = RedisBackend::connect(url).await.expect("Redis");
        let l1 = MemoryBackend::new(1000);
        let cache: TieredCache<u64, Row> =
            TieredCache::builder().namespace("stampede").l1(l1).l2(redis).build().expect("a cache");
        let _ = cache.get(&u64::MAX).await;
        tokio::time::sleep(start.duration_since(SystemTime::now()).unwrap_or_default()).await;
        storm(&cache, key.parse().expect("a key"), 250).await
    });
    println!("{}", json!(told));
}
