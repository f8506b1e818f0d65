//! DataLoader: 1,000 keys in batches of at most 100.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_cache::DataLoader;
use serde_json::json;

use super::runtime;
use crate::Context;
use crate::contest::{Most, Side, contest};
use crate::report::Table;

const KEYS: u64 = 1000;

pub(crate) fn run(context: &Context) -> Vec<Table> {
    let mut times = Table::new("DataLoader, 1,000 keys in batches of 100", "ms until all have theirs");
    let mut batches = Table::new("DataLoader, batches for 1,000 keys", "batches, the most in a round");
    let runtime = runtime();
    for batch_ms in [0, 100] {
        let most = Most::default();
        let ours = Side::new("async-cache", || {
            let (took, batches) = runtime.block_on(round(batch_ms));
            most.note("async-cache", batches);
            took
        });
        let ask = json!({ "keys": KEYS, "batch": 100, "batch_ms": batch_ms });
        let mut sides = vec![ours];
        sides.extend(context.peers.counting("loader", &ask, &most));
        let case = format!("batches that take {batch_ms} ms");
        times.row(&*case, None, contest(context.rounds, sides));
        batches.row(case, None, most.figures());
    }
    vec![times, batches]
}

/// Returns the time in ms until all callers have their values, and the number of batches.
async fn round(batch_ms: u64) -> (f64, u64) {
    let batches = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&batches);
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
    let load = |key| {
        let loader = loader.clone();
        tokio::spawn(async move { loader.load(key).await.expect("a load") })
    };
    let tasks: Vec<_> = (0..KEYS).map(load).collect();
    for task in tasks {
        task.await.expect("a task");
    }
    (start.elapsed().as_secs_f64() * 1000.0, batches.load(Ordering::Relaxed))
}
