//! Redis: hits, and misses of all tiers.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use cached::{AsyncRedisCache, ConcurrentCachedAsync};
use serde_json::Value;
use tokio::runtime::Handle;

use crate::work::{KEYS, Row, fresh, median, number, per_second, text};
use crate::{Round, hitbox_rows, multi_tier};

/// Makes the Redis client of `cached` as the macro of `cached` does.
async fn cached_rows(url: &str, prefix: String) -> Result<Arc<AsyncRedisCache<u64, Row>>, String> {
    let builder = AsyncRedisCache::builder(prefix).ttl(Duration::from_secs(3600));
    let built = builder.connection_string(url).connection_manager(true).build().await;
    built.map(Arc::new).map_err(|error| format!("{error:?}"))
}

const NO_REDIS: &str = "brings no Redis tier";

/// Runs the requested lookups. Returns a rate, or the time of one.
fn measured<F>(
    ask: &Value,
    runtime: &Handle,
    lookup: impl Fn(u64) -> F + Clone + Send + Sync + 'static,
) -> Round
where
    F: Future<Output = ()> + Send + 'static,
{
    let (tasks, operations) = (number(ask, "tasks"), number(ask, "operations"));
    let (unit, runtime) = (text(ask, "unit").to_owned(), runtime.clone());
    Box::new(move || match unit.as_str() {
        "lookups/s" => {
            let each = operations / tasks;
            let rate = per_second(tasks, operations, |from| {
                let lookup = lookup.clone();
                async move {
                    for i in from..from + each {
                        lookup(i % KEYS).await;
                    }
                }
            });
            Ok(runtime.block_on(rate).into())
        }
        "µs" => {
            let lookup = lookup.clone();
            Ok(median(&runtime, operations, move |i| lookup(i % KEYS)).into())
        }
        other => Err(format!("does not measure in {other}")),
    })
}

pub fn hits(side: &str, ask: &Value, runtime: &Handle) -> Result<Round, String> {
    let (url, bytes) = (text(ask, "redis"), number(ask, "bytes"));
    match side {
        "multi-tier-cache" => {
            let fill = async {
                let cache = multi_tier::shared(url).await?;
                for i in 0..KEYS {
                    let stored = serde_json::to_vec(&Row::new(i, bytes)).expect("JSON").into();
                    cache.set_with_strategy(&format!("mtc-{bytes}:{i}"), stored, multi_tier::LIFE).await?;
                }
                Ok::<_, multi_tier_cache::CacheError>(Arc::new(cache))
            };
            let cache = runtime.block_on(fill).map_err(|error| error.to_string())?;
            Ok(measured(ask, runtime, move |i| {
                let cache = Arc::clone(&cache);
                async move {
                    let found = cache.get_typed::<Row>(&format!("mtc-{bytes}:{i}")).await.expect("L2");
                    drop(black_box(found.expect("a hit")));
                }
            }))
        }
        "hitbox" => {
            let cache = hitbox_rows::on_redis(url)?;
            runtime.block_on(async {
                for i in 0..KEYS {
                    hitbox_rows::row("l2".to_owned(), i, bytes).cache(&cache).await;
                }
            });
            Ok(measured(ask, runtime, move |i| {
                let cache = cache.clone();
                async move {
                    drop(black_box(hitbox_rows::row("l2".to_owned(), i, bytes).cache(&cache).await));
                }
            }))
        }
        "cached" => {
            let cache = runtime.block_on(async {
                let cache = cached_rows(url, format!("cached-{bytes}")).await?;
                for i in 0..KEYS {
                    let set = cache.async_cache_set(i, Row::new(i, bytes)).await;
                    set.map_err(|error| format!("{error:?}"))?;
                }
                Ok::<_, String>(cache)
            })?;
            Ok(measured(ask, runtime, move |i| {
                let cache = Arc::clone(&cache);
                async move {
                    drop(black_box(cache.async_cache_get(&i).await.expect("L2").expect("a hit")));
                }
            }))
        }
        "cachet" => Err(NO_REDIS.to_owned()),
        _ => Err("not driven".to_owned()),
    }
}

pub fn cold(side: &str, ask: &Value, runtime: &Handle) -> Result<Round, String> {
    let (url, bytes) = (text(ask, "redis"), number(ask, "bytes"));
    match side {
        "multi-tier-cache" => {
            let cache =
                runtime.block_on(multi_tier::tiered(url, 10_000)).map_err(|error| error.to_string())?;
            let cache = Arc::new(cache);
            Ok(misses(ask, runtime, move |id| {
                let cache = Arc::clone(&cache);
                async move {
                    let key = format!("mtc-cold:{id}");
                    let load = move || std::future::ready(Ok(Row::new(id, bytes)));
                    let loaded = cache.get_or_compute_typed(&key, multi_tier::LIFE, load).await;
                    drop(black_box(loaded.expect("a load")));
                }
            }))
        }
        "hitbox" => {
            let cache = hitbox_rows::on_redis(url)?;
            Ok(misses(ask, runtime, move |id| {
                let cache = cache.clone();
                async move {
                    drop(black_box(hitbox_rows::row("cold".to_owned(), id, bytes).cache(&cache).await));
                }
            }))
        }
        "cached" => {
            let cache = runtime.block_on(cached_rows(url, "cached-cold".to_owned()))?;
            // The code that the macro of `cached` writes around a function.
            Ok(misses(ask, runtime, move |id| {
                let cache = Arc::clone(&cache);
                async move {
                    if cache.async_cache_get(&id).await.expect("L2").is_none() {
                        let row = Row::new(id, bytes);
                        cache.async_cache_set(id, row.clone()).await.expect("L2");
                        drop(black_box(row));
                    }
                }
            }))
        }
        "cachet" => Err(NO_REDIS.to_owned()),
        _ => Err("not driven".to_owned()),
    }
}

/// Runs a round of lookups of new keys.
fn misses<F>(ask: &Value, runtime: &Handle, lookup: impl Fn(u64) -> F + Clone + Send + 'static) -> Round
where
    F: Future<Output = ()> + Send + 'static,
{
    let (operations, runtime) = (number(ask, "operations"), runtime.clone());
    Box::new(move || {
        let lookup = lookup.clone();
        Ok(median(&runtime, operations, move |_| lookup(fresh())).into())
    })
}
