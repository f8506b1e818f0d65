//! Operations on many keys: pipelines of bounded size, all on one connection.

use std::time::Duration;

use async_cache_core::backend::{Acquire, Acquired, Fill, Filled, Lease, ReadMany, Renewed};
use async_cache_core::key::Key;
use async_cache_core::{Error, Result};
use bytes::Bytes;
use redis::{Cmd, FromRedisValue, Pipeline, RedisResult, Script, Value};

use super::orphan::Orphan;
use super::region::RedisRegion;
use crate::connection::slots::Checkout;
use crate::keys::{PartitionKeys, ValueName};
use crate::limits::{PIPELINE_KEYS, Purpose, millis, pipeline_len};
use crate::reply::{acquired, bytes, filled, renewed};

impl RedisRegion {
    pub(super) async fn read_many(&self, keys: &[Key]) -> Result<ReadMany> {
        const DOING: &str = "reading values";
        // One connection for all pipelines: the answer speaks for one run.
        let checkout = self.checkout_unchecked(Purpose::Read, DOING).await?;
        let mut values = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(PIPELINE_KEYS) {
            match &self.names[..] {
                [partition] => values.extend(self.read_partition(&checkout, partition, chunk).await?),
                _ => values.extend(self.read_partitions(&checkout, chunk).await?),
            }
        }
        if values.len() == keys.len() {
            Ok(ReadMany { run: checkout.link.run, values })
        } else {
            Err(self.unexpected_reply(DOING))
        }
    }

    /// One MGET.
    async fn read_partition(
        &self,
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
        match answer.map_err(|failure| self.error(DOING, failure))? {
            Value::Array(values) => Ok(values.into_iter().map(bytes)),
            _ => Err(self.unexpected_reply(DOING)),
        }
    }

    /// One MGET for each partition concerned.
    async fn read_partitions(&self, checkout: &Checkout<'_>, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let mut values = vec![None; keys.len()];
        let (pipeline, places) = self.reads(keys);
        let answers: Vec<Vec<Value>> = checkout
            .answer(checkout.link.pipeline(&pipeline))
            .await
            .map_err(|failure| self.error("reading values", failure))?;
        for (place, value) in places.into_iter().zip(answers.into_iter().flatten()) {
            values[place] = bytes(value);
        }
        Ok(values)
    }

    pub(super) async fn read_many_valid(&self, keys: &[Key]) -> Result<ReadMany> {
        const DOING: &str = "reading values";
        let checkout = self.checkout(Purpose::Read, DOING).await?;
        let mut values = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(PIPELINE_KEYS) {
            let calls: Vec<Cmd> = chunk
                .iter()
                .map(|key| self.key_call(&checkout, &self.inner.scripts.get_valid, key))
                .collect();
            let run = checkout.link.scripts::<Value>(&self.inner.scripts.get_valid, &calls);
            let answers = checkout.answer(run).await.map_err(|failure| self.error(DOING, failure))?;
            values.extend(answers.into_iter().map(bytes));
        }
        if values.len() == keys.len() {
            Ok(ReadMany { run: checkout.link.run, values })
        } else {
            Err(self.unexpected_reply(DOING))
        }
    }

    /// One MGET for each partition concerned, and the place in `keys` that each answer belongs to.
    fn reads(&self, keys: &[Key]) -> (Pipeline, Vec<usize>) {
        let mut places: Vec<usize> = (0..keys.len()).collect();
        // Stable: within a partition the order stays.
        places.sort_by_key(|place| self.partition_of(&keys[*place]));
        let mut pipeline = Pipeline::new();
        for group in places.chunk_by(|a, b| self.partition_of(&keys[*a]) == self.partition_of(&keys[*b])) {
            pipeline.cmd("MGET");
            for place in group {
                pipeline.arg(self.value_name(&keys[*place]));
            }
        }
        (pipeline, places)
    }

    pub(super) async fn put_many(
        &self,
        entries: &[(Key, Bytes)],
        life: Duration,
        not_after_ms: u64,
    ) -> Result<Vec<u64>> {
        const DOING: &str = "storing values";
        let checkout = self.checkout(Purpose::Write, DOING).await?;
        let mut seqs = Vec::with_capacity(entries.len());
        let mut rest = entries;
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(pipeline_len(rest.iter().map(|(_, frame)| frame.len())));
            rest = behind;
            let calls: Vec<Cmd> = chunk
                .iter()
                .map(|(key, frame)| {
                    let mut call = self.key_call(&checkout, &self.inner.scripts.put, key);
                    call.arg(not_after_ms).arg(millis(life)).arg(&frame[..]);
                    call
                })
                .collect();
            seqs.extend(self.changes(DOING, &checkout, &self.inner.scripts.put, &calls).await?);
        }
        Ok(seqs)
    }

    pub(super) async fn invalidate_many(&self, keys: &[Key]) -> Result<Vec<u64>> {
        const DOING: &str = "invalidating keys";
        let checkout = self.checkout(Purpose::Write, DOING).await?;
        let mut seqs = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(PIPELINE_KEYS) {
            let calls: Vec<Cmd> = chunk
                .iter()
                .map(|key| self.key_call(&checkout, &self.inner.scripts.invalidate, key))
                .collect();
            seqs.extend(self.changes(DOING, &checkout, &self.inner.scripts.invalidate, &calls).await?);
        }
        Ok(seqs)
    }

    pub(super) async fn ask_many(&self, asks: &[(Key, Acquire)]) -> Vec<Result<Acquired>> {
        const DOING: &str = "asking for values or the leases to load them";
        let checkout = match self.checkout(Purpose::Read, DOING).await {
            Ok(checkout) => checkout,
            Err(error) => return vec![Err(error); asks.len()],
        };
        let mut outcomes = Vec::with_capacity(asks.len());
        // It watches until every answer is known: a caller that goes away between two pipelines would leave
        // the leases of the first without a holder.
        let mut orphan = Orphan::new(&self.inner, &checkout.link, Vec::new());
        for chunk in asks.chunks(PIPELINE_KEYS) {
            let calls: Vec<Cmd> =
                chunk.iter().map(|(key, ask)| self.acquire_call(&checkout, key, ask)).collect();
            orphan.watch(chunk.iter().map(|(key, ask)| self.release_call(&checkout, key, ask.token)));
            let answers =
                self.each::<Vec<Value>>(DOING, &checkout, &self.inner.scripts.acquire, &calls).await;
            let lost = answers.is_err();
            let answers = answers.unwrap_or_else(|error| vec![Err(error); chunk.len()]);
            outcomes.extend(answers.into_iter().zip(chunk).map(|(answer, (_, ask))| {
                answer
                    .and_then(|parts| acquired(parts, ask.token).ok_or_else(|| self.unexpected_reply(DOING)))
            }));
            if lost {
                break;
            }
        }
        let asked = outcomes.len();
        // The connection was lost or does not answer: the remaining keys have not been asked for.
        if let Some(Err(error)) = outcomes.last().cloned() {
            outcomes.resize_with(asks.len(), || Err(error.clone()));
        }
        orphan.settled_but(|place| place < asked && outcomes[place].is_err());
        outcomes
    }

    pub(super) async fn store_many(&self, fills: &[Fill]) -> Vec<Result<Filled>> {
        const DOING: &str = "storing loaded values";
        let checkout = match self.checkout(Purpose::Write, DOING).await {
            Ok(checkout) => checkout,
            Err(error) => return vec![Err(error); fills.len()],
        };
        let mut outcomes: Vec<Result<Filled>> = Vec::with_capacity(fills.len());
        let mut rest = fills;
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(pipeline_len(rest.iter().map(|fill| fill.frame.len())));
            rest = behind;
            let calls: Vec<Cmd> = chunk.iter().map(|fill| self.fill_call(&checkout, fill)).collect();
            match self.each::<u64>(DOING, &checkout, &self.inner.scripts.fill, &calls).await {
                Ok(answers) => outcomes.extend(answers.into_iter().map(|answer| answer.map(filled))),
                Err(error) => outcomes.resize_with(fills.len(), || Err(error.clone())),
            }
            if outcomes.len() == fills.len() {
                break;
            }
        }
        outcomes
    }

    pub(super) async fn extend_many(&self, leases: &[(Key, Lease)], ttl: Duration) -> Result<Vec<Renewed>> {
        const DOING: &str = "renewing leases";
        let checkout = self.checkout(Purpose::Write, DOING).await?;
        let mut outcomes = Vec::with_capacity(leases.len());
        for chunk in leases.chunks(PIPELINE_KEYS) {
            let calls: Vec<Cmd> =
                chunk.iter().map(|(key, lease)| self.renew_call(&checkout, key, lease, ttl)).collect();
            for answer in self.each::<bool>(DOING, &checkout, &self.inner.scripts.renew, &calls).await? {
                outcomes.push(renewed(answer?));
            }
        }
        Ok(outcomes)
    }

    pub(super) async fn give_back_many(&self, leases: &[(Key, Lease)]) -> Result<()> {
        const DOING: &str = "releasing leases";
        let checkout = self.checkout(Purpose::Write, DOING).await?;
        let mut first = Ok(());
        for chunk in leases.chunks(PIPELINE_KEYS) {
            let calls: Vec<Cmd> =
                chunk.iter().map(|(key, lease)| self.release_call(&checkout, key, lease.token)).collect();
            for answer in self.each::<()>(DOING, &checkout, &self.inner.scripts.release, &calls).await? {
                first = first.and(answer);
            }
        }
        first
    }

    /// One pipeline, with an answer for each call.
    async fn each<T: FromRedisValue>(
        &self,
        doing: &str,
        checkout: &Checkout<'_>,
        script: &Script,
        calls: &[Cmd],
    ) -> Result<Vec<Result<T>>> {
        let answers = checkout.answer(checkout.link.scripts_each(script, calls)).await;
        let answers: Vec<RedisResult<T>> = answers.map_err(|failure| self.error(doing, failure))?;
        if answers.len() != calls.len() {
            return Err(self.unexpected_reply(doing));
        }
        let mut outcomes = Vec::with_capacity(calls.len());
        for answer in answers {
            let outcome = checkout.answer(std::future::ready(answer)).await;
            outcomes.push(outcome.map_err(|failure| self.error(doing, failure)));
        }
        Ok(outcomes)
    }

    /// One pipeline; its single call goes without one.
    async fn changes(
        &self,
        doing: &str,
        checkout: &Checkout<'_>,
        script: &Script,
        calls: &[Cmd],
    ) -> Result<Vec<u64>> {
        let run = async {
            match calls {
                [call] => Ok(vec![Ok(checkout.link.script(script, call).await?)]),
                calls => checkout.link.scripts_each(script, calls).await,
            }
        };
        let answers: Vec<RedisResult<u64>> =
            checkout.answer(run).await.map_err(|failure| self.error(doing, failure))?;
        if answers.len() != calls.len() {
            return Err(self.unexpected_reply(doing));
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
                    let error = self.error(doing, failure);
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
}
