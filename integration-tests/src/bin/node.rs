//! A node in its own process, for tests. It reads one command per line, and answers with one line.
//!
//! `node URL` prints `serving`. Then it accepts `load KEY TASKS MILLIS`, `get KEY` and `invalidate KEY`. `load`
//! prints `loading` when its own loader begins, and ends with `done LOADS SLOWEST_US ERRORS`. The process ends
//! when its input ends.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_cache::testing::{No, until};
use async_cache::{MemoryBackend, RedisBackend, TieredCache};
use integration_tests::fleet::Cache;

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the parent listens");
}

#[tokio::main]
async fn main() {
    let url = std::env::args().nth(1).expect("the URL of a server");
    let redis = RedisBackend::connect(url).await.expect("the server answers");
    let cache: Cache = TieredCache::builder()
        .namespace("rows")
        .l1(MemoryBackend::new(10_000))
        .l2(redis)
        .lease_ttl(Duration::from_millis(500))
        .build()
        .expect("a valid cache");
    until("the node serves", || cache.is_serving()).await;
    say("serving");

    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel::<String>();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = lines.recv().await {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["load", key, tasks, millis] => {
                load(&cache, key, tasks.parse().expect("a number"), millis.parse().expect("a number")).await;
            }
            ["get", key] => match cache.get(key).await {
                Ok(value) => say(&format!("value {}", value.map_or(0, |value| *value))),
                Err(error) => say(&format!("error {error}")),
            },
            ["invalidate", key] => match cache.invalidate(key).await {
                Ok(stamp) => say(&format!("stamp {stamp}")),
                Err(error) => say(&format!("error {error}")),
            },
            _ => panic!("unknown command {line:?}"),
        }
    }
}

async fn load(cache: &Cache, key: &str, tasks: usize, millis: u64) {
    let loads = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let (cache, key, loads) = (cache.clone(), key.to_owned(), Arc::clone(&loads));
            tokio::spawn(async move {
                let load = move || async move {
                    loads.fetch_add(1, Ordering::SeqCst);
                    say("loading");
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    Ok::<u64, No>(7)
                };
                let outcome = cache.get_or_load(&key, load).await;
                (outcome, begun.elapsed())
            })
        })
        .collect();
    let (mut slowest, mut errors) = (Duration::ZERO, 0);
    for task in tasks {
        let (outcome, took) = task.await.expect("no panic");
        slowest = slowest.max(took);
        errors += usize::from(outcome.is_err());
    }
    say(&format!("done {} {} {errors}", loads.load(Ordering::SeqCst), slowest.as_micros()));
}
