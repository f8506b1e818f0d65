//! Many tasks on one cold key.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Handle;

use crate::work::{Row, number, text};
use crate::{Answer, Round, hitbox_rows, multi_tier};

/// A storm a round, each on another key. `lookup` gets the key and the counter of loads.
fn storms<F>(ask: &Value, runtime: &Handle, lookup: impl Fn(u64, Arc<AtomicUsize>) -> F + 'static) -> Round
where
    F: Future<Output = ()> + Send + 'static,
{
    let (tasks, runtime, mut key) = (number(ask, "tasks"), runtime.clone(), 0);
    Box::new(move || {
        key += 1;
        runtime.block_on(async {
            let (loads, start) = (Arc::new(AtomicUsize::new(0)), Instant::now());
            let one = |_| {
                let call = lookup(key, Arc::clone(&loads));
                tokio::spawn(async move {
                    call.await;
                    start.elapsed()
                })
            };
            let running: Vec<_> = (0..tasks).map(one).collect();
            let mut slowest = Duration::ZERO;
            for task in running {
                slowest = slowest.max(task.await.map_err(|error| error.to_string())?);
            }
            let loads = Some(loads.load(Ordering::Relaxed));
            Ok(Answer { value: slowest.as_secs_f64() * 1000.0, loads })
        })
    })
}

async fn load(key: u64, pause: Duration, loads: Arc<AtomicUsize>) -> Row {
    loads.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(pause).await;
    Row::new(key, 100)
}

/// In this process only.
pub fn alone(side: &str, ask: &Value, runtime: &Handle) -> Result<Round, String> {
    let pause = Duration::from_millis(number(ask, "loading_ms"));
    match side {
        "moka" => {
            let cache: moka::future::Cache<u64, Arc<Row>> = moka::future::Cache::new(1000);
            Ok(storms(ask, runtime, move |key, loads| {
                let cache = cache.clone();
                async move {
                    let fetch = async move { Arc::new(load(key, pause, loads).await) };
                    drop(cache.get_with(key, fetch).await);
                }
            }))
        }
        "quick_cache" => {
            let cache: Arc<quick_cache::sync::Cache<u64, Arc<Row>>> =
                Arc::new(quick_cache::sync::Cache::new(1000));
            Ok(storms(ask, runtime, move |key, loads| {
                let cache = Arc::clone(&cache);
                async move {
                    let fetch = async move { Ok::<_, Infallible>(Arc::new(load(key, pause, loads).await)) };
                    drop(cache.get_or_insert_async(&key, fetch).await.expect("a load"));
                }
            }))
        }
        "foyer" => {
            let cache: foyer::Cache<u64, Arc<Row>> = foyer::CacheBuilder::new(1000).build();
            Ok(storms(ask, runtime, move |key, loads| {
                let cache = cache.clone();
                async move {
                    let fetch =
                        || async move { Ok::<_, Infallible>(Arc::new(load(key, pause, loads).await)) };
                    drop(cache.get_or_fetch(&key, fetch).await.expect("a load"));
                }
            }))
        }
        "cachet" => {
            let cache = cachet::Cache::builder::<u64, Arc<Row>>(tick::Clock::new_tokio());
            let cache = Arc::new(cache.memory().stampede_protection().build());
            Ok(storms(ask, runtime, move |key, loads| {
                let cache = Arc::clone(&cache);
                async move {
                    let fetch = || async move { Arc::new(load(key, pause, loads).await) };
                    drop(cache.get_or_insert(&key, fetch).await.expect("a load"));
                }
            }))
        }
        "multi-tier-cache" => on_multi_tier(ask, runtime, pause),
        "hitbox" => {
            let cache = hitbox_rows::once_on_moka();
            Ok(storms(ask, runtime, move |key, loads| {
                let cache = cache.clone();
                async move {
                    drop(hitbox_rows::slow_row(String::new(), key, pause, loads).cache(&cache).await);
                }
            }))
        }
        _ => Err("not driven".to_owned()),
    }
}

/// As one of several processes on the same Redis.
pub fn fleet(side: &str, ask: &Value, runtime: &Handle) -> Result<Round, String> {
    let pause = Duration::from_millis(number(ask, "loading_ms"));
    match side {
        "multi-tier-cache" => on_multi_tier(ask, runtime, pause),
        "hitbox" => {
            let cache = hitbox_rows::once_on_redis(text(ask, "redis"))?;
            Ok(storms(ask, runtime, move |key, loads| {
                let cache = cache.clone();
                async move {
                    drop(hitbox_rows::slow_row("fleet".to_owned(), key, pause, loads).cache(&cache).await);
                }
            }))
        }
        _ => Err("not driven".to_owned()),
    }
}

fn on_multi_tier(ask: &Value, runtime: &Handle, pause: Duration) -> Result<Round, String> {
    let cache = multi_tier::tiered(text(ask, "redis"), 1000);
    let cache = Arc::new(runtime.block_on(cache).map_err(|error| error.to_string())?);
    let job = text(ask, "job").to_owned();
    Ok(storms(ask, runtime, move |key, loads| {
        let (cache, key_text) = (Arc::clone(&cache), format!("mtc-{job}:{key}"));
        async move {
            let fetch = || async move { Ok(load(key, pause, loads).await) };
            let loaded = cache.get_or_compute_typed(&key_text, multi_tier::LIFE, fetch).await;
            drop(loaded.expect("a load"));
        }
    }))
}
