//! L1 hits: the driver's cases with `&str` keys.
//!
//! Peers that store values unencoded get an `Arc<Vec<u8>>`, as the driver's sides do. Peers that decode
//! on every hit (multi-tier-cache by its typed `get`, hitbox) get the row of the jobs on Redis.

use std::hint::black_box;
use std::sync::Arc;

use cached::ConcurrentCached;
use serde_json::Value;
use tokio::runtime::Handle;

use crate::order::zipf;
use crate::work::{Row, number, per_lookup, ready, text};
use crate::{Round, hitbox_rows, multi_tier};

pub fn side(side: &str, ask: &Value, runtime: &Handle) -> Result<Round, String> {
    if ask["key"] != "str" || ask["verb"] != "get" {
        return Err("driven with `get` of `&str` keys only".to_owned());
    }
    let (keys, bytes) = (number(ask, "keys") as usize, number(ask, "bytes"));
    let (threads, handle) = (number(ask, "threads") as usize, runtime.clone());
    let order = zipf(keys, number(ask, "lookups") as usize, 7);
    let texts: Vec<String> = (0..keys).map(|i| format!("user:{i:06}")).collect();
    let value = || Arc::new(vec![0_u8; bytes as usize]);
    let room = keys * 2;
    match side {
        "foyer" => {
            let cache: foyer::Cache<String, Arc<Vec<u8>>> =
                foyer::CacheBuilder::new(room).with_eviction_config(foyer::S3FifoConfig::default()).build();
            texts.iter().for_each(|text| drop(cache.insert(text.clone(), value())));
            let lookup = move |text: &String| cache.get(text.as_str()).map(|entry| Arc::clone(entry.value()));
            Ok(Box::new(move || {
                Ok(per_lookup(threads, &order, &handle, |at| drop(black_box(lookup(&texts[at])))).into())
            }))
        }
        "cached" => {
            let cache: cached::ShardedLruCache<String, Arc<Vec<u8>>> =
                cached::ShardedLruCache::builder().max_size(room).build().map_err(|e| format!("{e:?}"))?;
            texts.iter().for_each(|text| drop(cache.cache_set(text.clone(), value())));
            Ok(Box::new(move || {
                Ok(per_lookup(threads, &order, &handle, |at| drop(black_box(cache.cache_get(&texts[at]))))
                    .into())
            }))
        }
        "cachet" => {
            let cache = cachet::Cache::builder::<String, Arc<Vec<u8>>>(tick::Clock::new_tokio())
                .memory_with(|memory| memory.max_capacity(room as u64))
                .build();
            for text in &texts {
                runtime.block_on(cache.insert(text.clone(), value())).map_err(|error| error.to_string())?;
            }
            Ok(Box::new(move || {
                Ok(per_lookup(threads, &order, &handle, |at| {
                    drop(black_box(ready(cache.get(texts[at].as_str()))))
                })
                .into())
            }))
        }
        "multi-tier-cache" => {
            let fill = async {
                let cache = multi_tier::tiered(text(ask, "redis"), room as u64).await?;
                let stored = bytes::Bytes::from(serde_json::to_vec(&Row::new(0, bytes)).expect("JSON"));
                for text in &texts {
                    cache.set_with_strategy(text, stored.clone(), multi_tier::LIFE).await?;
                }
                Ok::<_, multi_tier_cache::CacheError>(cache)
            };
            let cache = runtime.block_on(fill).map_err(|error| error.to_string())?;
            Ok(Box::new(move || {
                Ok(per_lookup(threads, &order, &handle, |at| {
                    drop(black_box(ready(cache.get_typed::<Row>(&texts[at]))));
                })
                .into())
            }))
        }
        "hitbox" => {
            let cache = hitbox_rows::on_moka(room as u64);
            runtime.block_on(async {
                for key in &texts {
                    hitbox_rows::named(key.clone(), bytes).cache(&cache).await;
                }
            });
            Ok(Box::new(move || {
                Ok(per_lookup(threads, &order, &handle, |at| {
                    drop(black_box(ready(
                        hitbox_rows::named(texts[at].clone(), bytes).cache(&cache).into_future(),
                    )));
                })
                .into())
            }))
        }
        _ => Err("not driven".to_owned()),
    }
}
