//! Many tasks on one cold key.

use std::convert::Infallible;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_cache::{MemoryBackend, RedisBackend, TieredCache};
use serde_json::json;

use super::{Row, runtime};
use crate::Context;
use crate::contest::{Side, contest};
use crate::report::{Figure, Table};

const LOADING: Duration = Duration::from_millis(100);

/// Runs the tasks; gives the time of the slowest in ms, and how often was loaded.
async fn storm(cache: &TieredCache<u64, Row>, key: u64, tasks: usize) -> (f64, usize) {
    let loads = Arc::new(AtomicUsize::new(0));
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

pub(crate) fn run(context: &Context) -> Table {
    let mut table =
        Table::new("Stampede on one cold key, 100 ms loader", "ms until the slowest caller has it");
    let runtime = runtime();
    let cache = {
        let _inside = runtime.enter();
        TieredCache::builder().l1(MemoryBackend::new(1000)).build().expect("a cache")
    };
    let (mut key, mut most) = (0, 0);
    let ours = Side::new("async-cache", || {
        key += 1;
        let (slowest, loads) = runtime.block_on(storm(&cache, key, 1000));
        most = most.max(loads);
        slowest
    });
    let mut sides = vec![ours];
    sides.extend(
        context
            .peers
            .sides("stampede", &json!({ "tasks": 1000, "loading_ms": 100, "redis": context.redis.url() })),
    );
    let figures = contest(context.rounds.min(5), sides);
    table.row("1,000 tasks in one process", None, figures);
    table.note(format!("async-cache, one process: at most {most} load(s) in a round"));

    let url = context.redis.url();
    let rounds: Vec<(f64, usize)> = (0..context.rounds.min(5)).map(|round| fleet(&url, round)).collect();
    let samples = rounds.iter().map(|round| round.0).collect();
    table.row("4 processes of 250 tasks", None, vec![Figure::of("async-cache".to_owned(), Ok(samples))]);
    let most = rounds.iter().map(|round| round.1).max().unwrap_or(0);
    table.note(format!("async-cache, four processes: at most {most} load(s) in a round"));
    table
}

/// Four copies of this program begin at the same moment.
fn fleet(url: &str, round: usize) -> (f64, usize) {
    let start = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock") + Duration::from_millis(1000);
    let start = start.as_millis().to_string();
    let copies: Vec<_> = (0..4)
        .map(|_| {
            Command::new(std::env::current_exe().expect("this program"))
                .args(["--child", "stampede", url, &round.to_string(), &start])
                .stdout(Stdio::piped())
                .spawn()
                .expect("a copy of this program")
        })
        .collect();
    copies.into_iter().fold((0.0_f64, 0), |(slowest, loads), copy| {
        let output = copy.wait_with_output().expect("a child");
        let (time, count): (f64, usize) = serde_json::from_slice(&output.stdout).expect("what a child says");
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
