//! Operations on many keys: pipelines of bounded size, all on one connection.

use std::time::Duration;

use async_cache_core::backend::{Acquire, Acquired, Fill, Filled, Lease, ReadMany, Region, Renewed};
use async_cache_core::key::Key;
use async_cache_core::{Error, Result};
use bytes::Bytes;
use redis::{Cmd, FromRedisValue, Pipeline, RedisResult, Script, Value};

use crate::commands::calls::{acquired, filled, renewed};
use crate::commands::orphan::Orphan;
use crate::commands::region::{RedisRegion, bytes, millis};
use crate::connection::slots::{Line, Purpose};
use crate::keys::{Home, ValueName};

/// Keys in one pipeline. Each pipeline has the command's deadline for itself.
pub(crate) const KEYS: usize = 512;
/// Bytes of values in one pipeline; one larger value still goes, alone.
const BYTES: usize = 4 << 20;

impl RedisRegion {
    pub(crate) async fn read_many(&self, keys: &[Key]) -> Result<ReadMany> {
        const DOING: &str = "reading values";
        // One connection for all of it: the answer speaks for one run.
        let line = self.pick(Purpose::Read, DOING).await?;
        let mut values = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(KEYS) {
            match &self.homes[..] {
                [home] => values.extend(self.read_home(&line, home, chunk).await?),
                _ => values.extend(self.read_homes(&line, chunk).await?),
            }
        }
        if values.len() == keys.len() {
            Ok(ReadMany { run: line.link.run, values })
        } else {
            Err(self.nonsense(DOING))
        }
    }

    /// One MGET.
    async fn read_home(
        &self,
        line: &Line<'_>,
        home: &Home,
        keys: &[Key],
    ) -> Result<impl Iterator<Item = Option<Bytes>>> {
        const DOING: &str = "reading values";
        let names = keys.iter().map(|key| ValueName { home, key });
        let mut mget = Cmd::with_capacity(1 + keys.len(), names.clone().map(|name| name.len()).sum());
        mget.arg("MGET");
        names.for_each(|name| {
            mget.arg(name);
        });
        let answer = line.answer(line.link.query(&mget)).await;
        match answer.map_err(|fault| self.error(DOING, fault))? {
            Value::Array(values) => Ok(values.into_iter().map(bytes)),
            _ => Err(self.nonsense(DOING)),
        }
    }

    /// One MGET for each partition concerned.
    async fn read_homes(&self, line: &Line<'_>, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let mut values = vec![None; keys.len()];
        let (pipeline, places) = self.reads(keys);
        let answers: Vec<Vec<Value>> = line
            .answer(line.link.pipeline(&pipeline))
            .await
            .map_err(|fault| self.error("reading values", fault))?;
        for (place, value) in places.into_iter().zip(answers.into_iter().flatten()) {
            values[place] = bytes(value);
        }
        Ok(values)
    }

    pub(crate) async fn read_many_valid(&self, keys: &[Key]) -> Result<ReadMany> {
        const DOING: &str = "reading values";
        let line = self.line(Purpose::Read, DOING).await?;
        let mut values = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(KEYS) {
            let calls: Vec<Cmd> =
                chunk.iter().map(|key| self.key_call(&line, &self.shared.scripts.get_valid, key)).collect();
            let run = line.link.scripts::<Value>(&self.shared.scripts.get_valid, &calls);
            let answers = line.answer(run).await.map_err(|fault| self.error(DOING, fault))?;
            values.extend(answers.into_iter().map(bytes));
        }
        if values.len() == keys.len() {
            Ok(ReadMany { run: line.link.run, values })
        } else {
            Err(self.nonsense(DOING))
        }
    }

    /// The commands for that, and where each of their answers belongs.
    fn reads(&self, keys: &[Key]) -> (Pipeline, Vec<usize>) {
        let mut places: Vec<usize> = (0..keys.len()).collect();
        // Stable: within a partition the order stays.
        places.sort_by_key(|place| keys[*place].partition(self.partitions()));
        let mut pipeline = Pipeline::new();
        for group in places
            .chunk_by(|a, b| keys[*a].partition(self.partitions()) == keys[*b].partition(self.partitions()))
        {
            pipeline.cmd("MGET");
            for place in group {
                let key = &keys[*place];
                pipeline.arg(ValueName { home: self.home(key), key });
            }
        }
        (pipeline, places)
    }

    pub(crate) async fn put_many(
        &self,
        entries: &[(Key, Bytes)],
        life: Duration,
        not_after_ms: u64,
    ) -> Result<Vec<u64>> {
        const DOING: &str = "storing values";
        let line = self.line(Purpose::Write, DOING).await?;
        let mut seqs = Vec::with_capacity(entries.len());
        let mut rest = entries;
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(fitting(rest.iter().map(|(_, frame)| frame.len())));
            rest = behind;
            let calls: Vec<Cmd> = chunk
                .iter()
                .map(|(key, frame)| {
                    let mut call = self.key_call(&line, &self.shared.scripts.put, key);
                    call.arg(not_after_ms).arg(millis(life)).arg(&frame[..]);
                    call
                })
                .collect();
            seqs.extend(self.changes(DOING, &line, &self.shared.scripts.put, &calls).await?);
        }
        Ok(seqs)
    }

    pub(crate) async fn invalidate_many(&self, keys: &[Key]) -> Result<Vec<u64>> {
        const DOING: &str = "invalidating keys";
        let line = self.line(Purpose::Write, DOING).await?;
        let mut seqs = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(KEYS) {
            let calls: Vec<Cmd> =
                chunk.iter().map(|key| self.key_call(&line, &self.shared.scripts.invalidate, key)).collect();
            seqs.extend(self.changes(DOING, &line, &self.shared.scripts.invalidate, &calls).await?);
        }
        Ok(seqs)
    }

    pub(crate) async fn ask_many(&self, asks: &[(Key, Acquire)]) -> Vec<Result<Acquired>> {
        const DOING: &str = "asking for values or the leases to load them";
        let line = match self.line(Purpose::Read, DOING).await {
            Ok(line) => line,
            Err(error) => return vec![Err(error); asks.len()],
        };
        let mut outcomes = Vec::with_capacity(asks.len());
        // Until all of it is known: a caller that goes away between two pipelines leaves the
        // leases of the first to nobody.
        let mut orphan = Orphan::new(&self.shared, &line.link, Vec::new());
        for chunk in asks.chunks(KEYS) {
            let calls: Vec<Cmd> = chunk.iter().map(|(key, ask)| self.acquire_call(&line, key, ask)).collect();
            orphan.watch(chunk.iter().map(|(key, ask)| self.release_call(&line, key, ask.token)));
            let answers = self.each::<Vec<Value>>(DOING, &line, &self.shared.scripts.acquire, &calls).await;
            let lost = answers.is_err();
            let answers = answers.unwrap_or_else(|error| vec![Err(error); chunk.len()]);
            outcomes.extend(answers.into_iter().zip(chunk).map(|(answer, (_, ask))| {
                answer.and_then(|parts| acquired(parts, ask.token).ok_or_else(|| self.nonsense(DOING)))
            }));
            if lost {
                break;
            }
        }
        let asked = outcomes.len();
        // The connection was lost or does not answer: what is left has not been asked.
        if let Some(Err(error)) = outcomes.last().cloned() {
            outcomes.resize_with(asks.len(), || Err(error.clone()));
        }
        orphan.settled_but(|place| place < asked && outcomes[place].is_err());
        outcomes
    }

    pub(crate) async fn store_many(&self, fills: &[Fill]) -> Vec<Result<Filled>> {
        const DOING: &str = "storing loaded values";
        let line = match self.line(Purpose::Write, DOING).await {
            Ok(line) => line,
            Err(error) => return vec![Err(error); fills.len()],
        };
        let mut outcomes: Vec<Result<Filled>> = Vec::with_capacity(fills.len());
        let mut rest = fills;
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(fitting(rest.iter().map(|fill| fill.frame.len())));
            rest = behind;
            let call = |fill: &Fill| {
                self.fill_call(&line, &fill.key, &fill.lease, &fill.frame, fill.life, fill.announce)
            };
            let calls: Vec<Cmd> = chunk.iter().map(call).collect();
            match self.each::<u64>(DOING, &line, &self.shared.scripts.fill, &calls).await {
                Ok(answers) => outcomes.extend(answers.into_iter().map(|answer| answer.map(filled))),
                Err(error) => outcomes.resize_with(fills.len(), || Err(error.clone())),
            }
            if outcomes.len() == fills.len() {
                break;
            }
        }
        outcomes
    }

    pub(crate) async fn extend_many(&self, leases: &[(Key, Lease)], ttl: Duration) -> Result<Vec<Renewed>> {
        const DOING: &str = "renewing leases";
        let line = self.line(Purpose::Write, DOING).await?;
        let mut outcomes = Vec::with_capacity(leases.len());
        for chunk in leases.chunks(KEYS) {
            let calls: Vec<Cmd> =
                chunk.iter().map(|(key, lease)| self.renew_call(&line, key, lease, ttl)).collect();
            for answer in self.each::<bool>(DOING, &line, &self.shared.scripts.renew, &calls).await? {
                outcomes.push(renewed(answer?));
            }
        }
        Ok(outcomes)
    }

    pub(crate) async fn give_back_many(&self, leases: &[(Key, Lease)]) -> Result<()> {
        const DOING: &str = "releasing leases";
        let line = self.line(Purpose::Write, DOING).await?;
        let mut first = Ok(());
        for chunk in leases.chunks(KEYS) {
            let calls: Vec<Cmd> =
                chunk.iter().map(|(key, lease)| self.release_call(&line, key, lease.token)).collect();
            for answer in self.each::<()>(DOING, &line, &self.shared.scripts.release, &calls).await? {
                first = first.and(answer);
            }
        }
        first
    }

    /// One pipeline, with an answer for each call.
    async fn each<T: FromRedisValue>(
        &self,
        doing: &str,
        line: &Line<'_>,
        script: &Script,
        calls: &[Cmd],
    ) -> Result<Vec<Result<T>>> {
        let answers = line.answer(line.link.scripts_each(script, calls)).await;
        let answers: Vec<RedisResult<T>> = answers.map_err(|fault| self.error(doing, fault))?;
        if answers.len() != calls.len() {
            return Err(self.nonsense(doing));
        }
        let mut outcomes = Vec::with_capacity(calls.len());
        for answer in answers {
            let outcome = line.answer(std::future::ready(answer)).await;
            outcomes.push(outcome.map_err(|fault| self.error(doing, fault)));
        }
        Ok(outcomes)
    }

    /// One pipeline; its single call goes without one.
    async fn changes(
        &self,
        doing: &str,
        line: &Line<'_>,
        script: &Script,
        calls: &[Cmd],
    ) -> Result<Vec<u64>> {
        let run = async {
            match calls {
                [call] => Ok(vec![Ok(line.link.script(script, call).await?)]),
                calls => line.link.scripts_each(script, calls).await,
            }
        };
        let answers: Vec<RedisResult<u64>> =
            line.answer(run).await.map_err(|fault| self.error(doing, fault))?;
        if answers.len() != calls.len() {
            return Err(self.nonsense(doing));
        }
        let done = answers.iter().filter(|answer| answer.is_ok()).count();
        let mut seqs = Vec::with_capacity(calls.len());
        let mut refusal: Option<Error> = None;
        for answer in answers {
            match answer {
                Ok(seq) => seqs.push(seq),
                Err(error) => {
                    let failed = std::future::ready(Err::<u64, _>(error));
                    let Err(fault) = line.answer(failed).await else { continue };
                    let error = self.error(doing, fault);
                    // If nothing is known of one of them, that is what is told.
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
                Err(Error::new(error.kind(), message).with_known_effect().because(error))
            }
            Some(error) => Err(error),
        }
    }
}

/// How many values of these sizes go into one pipeline; at least one.
fn fitting(sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fit = sizes.take(KEYS).take_while(|size| {
        bytes += size;
        bytes <= BYTES
    });
    fit.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelines_are_bounded_by_keys_and_by_bytes() {
        assert_eq!(fitting([1; KEYS + 1].into_iter()), KEYS);
        assert_eq!(fitting([BYTES / 2, BYTES / 2, 1].into_iter()), 2);
        assert_eq!(fitting([BYTES + 1, 1].into_iter()), 1);
    }
}
