//! DataLoaders.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Handle;

use crate::work::number;
use crate::{Answer, Round};

/// The batch function. It takes a fixed time, and counts its calls.
#[derive(Clone)]
struct Batches(Duration, Arc<AtomicUsize>);

impl Batches {
    async fn run(&self, keys: &[u64]) -> HashMap<u64, u64> {
        self.1.fetch_add(1, Ordering::Relaxed);
        if !self.0.is_zero() {
            tokio::time::sleep(self.0).await;
        }
        keys.iter().map(|key| (*key, *key)).collect()
    }
}

impl dataloader::BatchFn<u64, u64> for Batches {
    async fn load(&mut self, keys: &[u64]) -> HashMap<u64, u64> {
        self.run(keys).await
    }
}

impl async_graphql::dataloader::Loader<u64> for Batches {
    type Value = u64;
    type Error = Infallible;

    async fn load(&self, keys: &[u64]) -> Result<HashMap<u64, u64>, Infallible> {
        Ok(self.run(keys).await)
    }
}

/// Loads every key in its own task. Returns the time until all have their values, and the number of batches.
async fn timed<F>(keys: u64, batches: &Batches, load: impl Fn(u64) -> F) -> Result<Answer, String>
where
    F: Future<Output = u64> + Send + 'static,
{
    let start = Instant::now();
    let tasks: Vec<_> = (0..keys).map(|key| tokio::spawn(load(key))).collect();
    for (key, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.map_err(|error| error.to_string())?, key as u64);
    }
    let loads = Some(batches.1.load(Ordering::Relaxed));
    Ok(Answer { value: start.elapsed().as_secs_f64() * 1000.0, loads })
}

pub fn side(side: &str, ask: &Value, runtime: &Handle) -> Result<Round, String> {
    let (keys, batch) = (number(ask, "keys"), number(ask, "batch") as usize);
    let pause = Duration::from_millis(number(ask, "batch_ms"));
    let batches = move || Batches(pause, Arc::default());
    let runtime = runtime.clone();
    match side {
        "dataloader" => Ok(Box::new(move || {
            runtime.block_on(async {
                let batches = batches();
                let loader = dataloader::non_cached::Loader::new(batches.clone()).with_max_batch_size(batch);
                timed(keys, &batches, |key| {
                    let loader = loader.clone();
                    async move { loader.load(key).await }
                })
                .await
            })
        })),
        "async-graphql" => Ok(Box::new(move || {
            runtime.block_on(async {
                let batches = batches();
                let loader = async_graphql::dataloader::DataLoader::new(batches.clone(), tokio::spawn);
                let loader = Arc::new(loader.max_batch_size(batch));
                timed(keys, &batches, |key| {
                    let loader = Arc::clone(&loader);
                    async move { loader.load_one(key).await.expect("a batch").expect("a value") }
                })
                .await
            })
        })),
        _ => Err("not driven".to_owned()),
    }
}
