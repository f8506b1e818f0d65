//! DataLoader: 1,000 keys in batches of at most 100.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_cache::DataLoader;
use serde_json::json;

use super::runtime;
use crate::Context;
use crate::contest::{Side, contest};
use crate::report::Table;

const KEYS: u64 = 1000;

pub(crate) fn run(context: &Context) -> Table {
    let mut table = Table::new("DataLoader, 1,000 keys in batches of 100", "ms until all have theirs");
    let runtime = runtime();
    for batch_ms in [0, 10] {
        let batches = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&batches);
        let mut rounds = 0;
        let ours = Side::new("async-cache", || {
            rounds += 1;
            let counted = Arc::clone(&counted);
            runtime.block_on(async move {
                let loader: DataLoader<u64, u64> = DataLoader::new(move |keys: Vec<u64>| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    async move {
                        if batch_ms > 0 {
                            tokio::time::sleep(Duration::from_millis(batch_ms)).await;
                        }
                        Ok::<_, Infallible>(keys.into_iter().map(|key| (key, key)).collect::<HashMap<_, _>>())
                    }
                })
                .max_batch_size(100)
                .build();
                let start = Instant::now();
                let tasks: Vec<_> = (0..KEYS)
                    .map(|key| {
                        let loader = loader.clone();
                        tokio::spawn(async move { loader.load(key).await.expect("a load") })
                    })
                    .collect();
                for task in tasks {
                    task.await.expect("a task");
                }
                start.elapsed().as_secs_f64() * 1000.0
            })
        });
        let mut sides = vec![ours];
        sides.extend(
            context.peers.sides("loader", &json!({ "keys": KEYS, "batch": 100, "batch_ms": batch_ms })),
        );
        let figures = contest(context.rounds, sides);
        table.row(format!("batches that take {batch_ms} ms"), None, figures);
        let mean = batches.load(Ordering::Relaxed) as f64 / f64::from(rounds);
        table.note(format!("async-cache, batches of {batch_ms} ms: {mean:.1} batches a round"));
    }
    table
}
