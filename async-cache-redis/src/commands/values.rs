//! Values: reading, storing and invalidating them. Each operation is one command, one script, or pipelines of
//! bounded size on one connection.

use std::time::Duration;

use async_cache_core::backend::{Check, ReadMany};
use async_cache_core::key::Key;
use async_cache_core::{Error, ErrorKind, Result};
use bytes::Bytes;
use redis::{Cmd, Pipeline, RedisResult, Value};

use super::coalesce;
use super::region::RedisRegion;
use crate::connection::repeat::{Again, Calls};
use crate::connection::server::IdentifyBy;
use crate::connection::slots::Checkout;
use crate::keys::{PartitionKeys, ValueName};
use crate::limits::{PIPELINE_KEYS, Purpose, millis, pipeline_len};
use crate::lua::{Script, Scripts};
use crate::reply::bytes;

pub(crate) async fn read(region: &RedisRegion, keys: &[Key], check: Check) -> Result<ReadMany> {
    match (keys, check) {
        // Only a script proves which process answers.
        (keys, Check::Plain) if region.inner.identify == IdentifyBy::Scripts => {
            read_by(region, |lua| &lua.get, keys).await
        }
        ([key], Check::Plain) => read_value(region, key).await,
        (keys, Check::Valid) => read_valid(region, keys).await,
        (keys, Check::Plain) => match read_many(region, keys).await {
            // This user may be forbidden MGET, and permitted the scripts.
            Err(error) if error.kind() == ErrorKind::Config => read_valid(region, keys).await,
            read => read,
        },
    }
}

/// One GET, or with other reads of single keys one MGET, in a cluster one for each slot.
async fn read_value(region: &RedisRegion, key: &Key) -> Result<ReadMany> {
    const DOING: &str = "reading a value";
    region.inner.connected(Purpose::Read).await;
    let checkout = region.inner.slots.meet().map_err(|failure| region.error(DOING, failure))?;
    let name = region.value_name(key);
    let read = coalesce::read(&checkout.link, &name, region.slot_of(&name), checkout.limit);
    let value = checkout.answer(read).await.map_err(|failure| region.error(DOING, failure))?;
    Ok(ReadMany { run: checkout.link.run, values: std::iter::once(value).collect() })
}

async fn read_many(region: &RedisRegion, keys: &[Key]) -> Result<ReadMany> {
    const DOING: &str = "reading values";
    // All pipelines use one connection, because the answer names one run.
    let checkout = region.checkout_unchecked(Purpose::Read, DOING).await?;
    let mut values = Vec::with_capacity(keys.len());
    for chunk in keys.chunks(PIPELINE_KEYS) {
        match &region.names[..] {
            [partition] => values.extend(read_partition(region, &checkout, partition, chunk).await?),
            _ => values.extend(read_partitions(region, &checkout, chunk).await?),
        }
    }
    if values.len() == keys.len() {
        Ok(ReadMany { run: checkout.link.run, values: values.into() })
    } else {
        Err(region.unexpected_reply(DOING))
    }
}

/// One MGET.
async fn read_partition(
    region: &RedisRegion,
    checkout: &Checkout<'_>,
    partition: &PartitionKeys,
    keys: &[Key],
) -> Result<impl Iterator<Item = Option<Bytes>>> {
    const DOING: &str = "reading values";
    let names = keys.iter().map(|key| ValueName { partition, key });
    let mut mget = Cmd::with_capacity(1 + keys.len(), names.clone().map(|name| name.len()).sum());
    mget.arg("MGET");
    names.for_each(|name| {
        mget.arg(name);
    });
    let answer = checkout.answer(checkout.link.query(&mget)).await;
    match answer.map_err(|failure| region.error(DOING, failure))? {
        Value::Array(values) => Ok(values.into_iter().map(bytes)),
        _ => Err(region.unexpected_reply(DOING)),
    }
}

/// One MGET for each partition concerned.
async fn read_partitions(
    region: &RedisRegion,
    checkout: &Checkout<'_>,
    keys: &[Key],
) -> Result<Vec<Option<Bytes>>> {
    let mut values = vec![None; keys.len()];
    let (pipeline, places) = reads(region, keys);
    let answers: Vec<Vec<Value>> = checkout
        .answer(checkout.link.pipeline(&pipeline))
        .await
        .map_err(|failure| region.error("reading values", failure))?;
    for (place, value) in places.into_iter().zip(answers.into_iter().flatten()) {
        values[place] = bytes(value);
    }
    Ok(values)
}

async fn read_valid(region: &RedisRegion, keys: &[Key]) -> Result<ReadMany> {
    read_by(region, |lua| &lua.get_valid, keys).await
}

async fn read_by(region: &RedisRegion, script: fn(&Scripts) -> &Script, keys: &[Key]) -> Result<ReadMany> {
    let doing = if keys.len() == 1 { "reading a value" } else { "reading values" };
    let checkout = region.checkout(Purpose::Read, doing).await?;
    let script = script(checkout.link.lua);
    let mut values = Vec::with_capacity(keys.len());
    for chunk in keys.chunks(PIPELINE_KEYS) {
        let calls: Vec<Cmd> = chunk.iter().map(|key| region.key_call(&checkout, script, key)).collect();
        let run = checkout.link.scripts::<Value>(Calls { script, calls: &calls, again: Again::FromFirst });
        let answers = checkout.answer(run).await.map_err(|failure| region.error(doing, failure))?;
        values.extend(answers.into_iter().map(bytes));
    }
    if values.len() == keys.len() {
        Ok(ReadMany { run: checkout.link.run_of(region.names[0].meta()), values: values.into() })
    } else {
        Err(region.unexpected_reply(doing))
    }
}

/// One MGET for each partition concerned, and the place in `keys` of each answer.
fn reads(region: &RedisRegion, keys: &[Key]) -> (Pipeline, Vec<usize>) {
    let mut places: Vec<usize> = (0..keys.len()).collect();
    // The sort is stable, so within a partition the order stays.
    places.sort_by_key(|place| region.partition_of(&keys[*place]));
    let mut pipeline = Pipeline::new();
    for group in places.chunk_by(|a, b| region.partition_of(&keys[*a]) == region.partition_of(&keys[*b])) {
        pipeline.cmd("MGET");
        for place in group {
            pipeline.arg(region.value_name(&keys[*place]));
        }
    }
    (pipeline, places)
}

pub(crate) async fn put(
    region: &RedisRegion,
    entries: &[(Key, Bytes)],
    life: Duration,
    not_after_ms: u64,
) -> Result<Vec<u64>> {
    const DOING: &str = "storing values";
    let checkout = region.checkout(Purpose::Write, DOING).await?;
    let mut seqs = Vec::with_capacity(entries.len());
    let mut rest = entries;
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(pipeline_len(rest.iter().map(|(_, frame)| frame.len())));
        rest = behind;
        let calls: Vec<Cmd> = chunk
            .iter()
            .map(|(key, frame)| {
                let mut call = region.key_call(&checkout, &checkout.link.lua.put, key);
                call.arg(not_after_ms).arg(millis(life)).arg(&frame[..]);
                call
            })
            .collect();
        seqs.extend(change_each(region, DOING, &checkout, &checkout.link.lua.put, &calls).await?);
    }
    Ok(seqs)
}

pub(crate) async fn invalidate(region: &RedisRegion, keys: &[Key]) -> Result<Vec<u64>> {
    const DOING: &str = "invalidating keys";
    let checkout = region.checkout(Purpose::Write, DOING).await?;
    let mut seqs = Vec::with_capacity(keys.len());
    for chunk in keys.chunks(PIPELINE_KEYS) {
        let calls: Vec<Cmd> =
            chunk.iter().map(|key| region.key_call(&checkout, &checkout.link.lua.invalidate, key)).collect();
        seqs.extend(change_each(region, DOING, &checkout, &checkout.link.lua.invalidate, &calls).await?);
    }
    Ok(seqs)
}

pub(crate) async fn expire(region: &RedisRegion, keys: &[Key]) -> Result<Vec<u64>> {
    const DOING: &str = "expiring keys";
    let checkout = region.checkout(Purpose::Write, DOING).await?;
    let mut seqs = Vec::with_capacity(keys.len());
    for chunk in keys.chunks(PIPELINE_KEYS) {
        let script = &checkout.link.lua.expire;
        let calls: Vec<Cmd> = chunk.iter().map(|key| region.key_call(&checkout, script, key)).collect();
        seqs.extend(change_each(region, DOING, &checkout, script, &calls).await?);
    }
    Ok(seqs)
}

/// Runs one pipeline of changes, and returns their sequence numbers.
async fn change_each(
    region: &RedisRegion,
    doing: &str,
    checkout: &Checkout<'_>,
    script: &Script,
    calls: &[Cmd],
) -> Result<Vec<u64>> {
    let calls_of = Calls { script, calls, again: Again::FromFirst };
    let answers = checkout.answer(checkout.link.scripts_each(calls_of)).await;
    let answers: Vec<RedisResult<u64>> = answers.map_err(|failure| region.error(doing, failure))?;
    if answers.len() != calls.len() {
        return Err(region.unexpected_reply(doing));
    }
    let done = answers.iter().filter(|answer| answer.is_ok()).count();
    let mut seqs = Vec::with_capacity(calls.len());
    let mut refusal: Option<Error> = None;
    for answer in answers {
        match answer {
            Ok(seq) => seqs.push(seq),
            Err(error) => {
                let failed = std::future::ready(Err::<u64, _>(error));
                let Err(failure) = checkout.answer(failed).await else { continue };
                let error = region.error(doing, failure);
                // An error whose effect is unknown comes first: the caller must learn of it.
                if refusal.is_none() || !error.effect_is_known() {
                    refusal = Some(error);
                }
            }
        }
    }
    match refusal {
        None => Ok(seqs),
        Some(error) if calls.len() > 1 && error.effect_is_known() => {
            let message =
                format!("{done} of {} sent together were stored, the others not: {error}", calls.len());
            Err(Error::new(error.kind(), message).with_known_effect().with_source(error))
        }
        Some(error) => Err(error),
    }
}
