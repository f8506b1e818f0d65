//! DataLoaders.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Handle;

use crate::Round;

struct Batches(Duration);

impl Batches {
    async fn run(&self, keys: &[u64]) -> HashMap<u64, u64> {
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

async fn all(tasks: Vec<tokio::task::JoinHandle<()>>) {
    for task in tasks {
        task.await.expect("a task");
    }
}

pub fn side(side: &str, ask: &Value, runtime: &Handle) -> Result<Round, String> {
    let number = |name: &str| ask[name].as_u64().expect("a number");
    let (keys, batch) = (number("keys"), number("batch") as usize);
    let pause = Duration::from_millis(number("batch_ms"));
    let runtime = runtime.clone();
    match side {
        "dataloader" => Ok(Box::new(move || {
            runtime.block_on(async {
                let loader = dataloader::non_cached::Loader::new(Batches(pause)).with_max_batch_size(batch);
                let start = Instant::now();
                let one = |key| {
                    let loader = loader.clone();
                    tokio::spawn(async move { assert_eq!(loader.load(key).await, key) })
                };
                all((0..keys).map(one).collect()).await;
                start.elapsed().as_secs_f64() * 1000.0
            })
        })),
        "async-graphql" => Ok(Box::new(move || {
            runtime.block_on(async {
                let loader = async_graphql::dataloader::DataLoader::new(Batches(pause), tokio::spawn);
                let loader = Arc::new(loader.max_batch_size(batch));
                let start = Instant::now();
                let one = |key| {
                    let loader = Arc::clone(&loader);
                    tokio::spawn(async move { assert_eq!(loader.load_one(key).await, Ok(Some(key))) })
                };
                all((0..keys).map(one).collect()).await;
                start.elapsed().as_secs_f64() * 1000.0
            })
        })),
        _ => Err("is not driven yet".to_owned()),
    }
}
