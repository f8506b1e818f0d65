//! Operations on many keys: pipelines of bounded size, all on one connection.

use std::time::Duration;

use async_cache_core::Result;
use async_cache_core::backend::{ReadMany, Region};
use async_cache_core::key::Key;
use bytes::Bytes;
use redis::{Cmd, Pipeline, RedisResult, Script, Value};

use crate::region::{RedisRegion, millis, stored};
use crate::scripts::SCRIPTS;
use crate::slot::Line;

/// Keys in one pipeline. Each pipeline has the command's deadline for itself.
const KEYS: usize = 512;
/// Bytes of values in one pipeline; one larger value still goes, alone.
const BYTES: usize = 4 << 20;

impl RedisRegion {
    pub(crate) async fn read_many(&self, keys: &[Key]) -> Result<ReadMany> {
        const DOING: &str = "reading values";
        // One connection for all of it: the answer speaks for one run.
        let line = self.pick(DOING)?;
        let mut values = vec![None; keys.len()];
        let mut start = 0;
        for chunk in keys.chunks(KEYS) {
            let (pipeline, places) = self.reads(chunk);
            let answers: Vec<Vec<Value>> =
                line.answer(line.link.pipeline(&pipeline)).await.map_err(|fault| self.error(DOING, fault))?;
            let found = answers.into_iter().flatten();
            for (place, value) in places.into_iter().zip(found) {
                values[start + place] = stored(Ok(value)).ok().flatten();
            }
            start += chunk.len();
        }
        Ok(ReadMany { run: line.link.run, values })
    }

    /// One MGET for each partition concerned, and where each of its answers belongs.
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
                pipeline.arg(self.home(key).value(key));
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
        let line = self.line(DOING).await?;
        let mut seqs = Vec::with_capacity(entries.len());
        let mut rest = entries;
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(fitting(rest));
            rest = behind;
            let calls: Vec<Cmd> = chunk
                .iter()
                .map(|(key, frame)| {
                    let mut call = self.key_call(&line, &SCRIPTS.put, key);
                    call.arg(not_after_ms).arg(millis(life)).arg(&frame[..]);
                    call
                })
                .collect();
            seqs.extend(self.changes(DOING, &line, &SCRIPTS.put, &calls).await?);
        }
        Ok(seqs)
    }

    pub(crate) async fn invalidate_many(&self, keys: &[Key]) -> Result<Vec<u64>> {
        const DOING: &str = "invalidating keys";
        let line = self.line(DOING).await?;
        let mut seqs = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(KEYS) {
            let calls: Vec<Cmd> =
                chunk.iter().map(|key| self.key_call(&line, &SCRIPTS.invalidate, key)).collect();
            seqs.extend(self.changes(DOING, &line, &SCRIPTS.invalidate, &calls).await?);
        }
        Ok(seqs)
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
            let seqs: RedisResult<Vec<u64>> = match calls {
                [call] => Ok(vec![line.link.script(script, call).await?]),
                calls => line.link.scripts(script, calls).await,
            };
            seqs
        };
        let seqs = line.answer(run).await.map_err(|fault| self.error(doing, fault))?;
        if seqs.len() == calls.len() { Ok(seqs) } else { Err(self.nonsense(doing)) }
    }
}

/// How many of the first entries go into one pipeline; at least one.
fn fitting(entries: &[(Key, Bytes)]) -> usize {
    let mut bytes = 0;
    let fit = entries.iter().take(KEYS).take_while(|(_, frame)| {
        bytes += frame.len();
        bytes <= BYTES
    });
    fit.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelines_are_bounded_by_keys_and_by_bytes() {
        let entry = |len: usize| (Key::from_encoded(b"k"), Bytes::from(vec![0; len]));
        assert_eq!(fitting(&vec![entry(1); KEYS + 1]), KEYS);
        assert_eq!(fitting(&[entry(BYTES / 2), entry(BYTES / 2), entry(1)]), 2);
        assert_eq!(fitting(&[entry(BYTES + 1), entry(1)]), 1);
    }
}
