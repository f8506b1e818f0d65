//! The commands of one node, as far as a stage lets them through.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_cache_core::backend::{
    Acquire, Acquired, Announce, Baseline, Filled, Lease, Listener, Pulse, Read, ReadMany, Region, Renewed,
    RunId, State,
};
use async_cache_core::key::Key;
use async_cache_core::{Error, ErrorKind, Result, Tags};
use async_trait::async_trait;
use bytes::Bytes;

use super::Stage;

pub(super) struct Staged {
    pub(super) stage: Stage,
    pub(super) region: Arc<dyn Region>,
    pub(super) _held: Arc<dyn Listener>,
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Staged")
    }
}

#[async_trait]
impl Region for Staged {
    fn partitions(&self) -> u16 {
        self.region.partitions()
    }

    fn available(&self) -> bool {
        self.region.available() && !self.stage.0.away.load(Ordering::SeqCst)
    }

    fn command_timeout(&self) -> Duration {
        self.region.command_timeout()
    }

    async fn get(&self, key: &Key) -> Result<Read> {
        self.stage.0.reads.fetch_add(1, Ordering::SeqCst);
        self.stage.read()?;
        let read = self.region.get(key).await?;
        let usurped = self.stage.0.usurped.load(Ordering::SeqCst);
        Ok(Read { run: if usurped { RunId(u64::MAX) } else { read.run }, ..read })
    }

    async fn get_many(&self, keys: &[Key]) -> Result<ReadMany> {
        self.stage.0.reads.fetch_add(1, Ordering::SeqCst);
        self.stage.read()?;
        let answer = self.region.get_many(keys).await;
        self.stage.answered().await;
        answer
    }

    async fn get_valid(&self, key: &Key) -> Result<Read> {
        self.stage.read()?;
        let answer = self.region.get_valid(key).await;
        self.stage.answered().await;
        answer
    }

    async fn get_many_valid(&self, keys: &[Key]) -> Result<ReadMany> {
        self.stage.read()?;
        self.region.get_many_valid(keys).await
    }

    async fn baseline(&self, partition: u16) -> Result<Baseline> {
        self.stage.read()?;
        self.region.baseline(partition).await
    }

    async fn state(&self, partition: u16) -> Result<State> {
        self.stage.read()?;
        self.region.state(partition).await
    }

    async fn acquire(&self, key: &Key, ask: Acquire) -> Result<Acquired> {
        self.stage.read()?;
        let answer = self.region.acquire(key, ask).await?;
        match answer {
            Acquired::Granted(lease) if self.stage.0.full.load(Ordering::SeqCst) => {
                self.region.release(key, lease).await?;
                Ok(Acquired::NoRoom { seq: lease.seq })
            }
            answer => Ok(answer),
        }
    }

    async fn fill(
        &self,
        key: &Key,
        lease: Lease,
        frame: Bytes,
        life: Duration,
        announce: Announce,
    ) -> Result<Filled> {
        if self.stage.0.fills_fail.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Backend, "no answer"));
        }
        if self.stage.0.fills_stick.load(Ordering::SeqCst) {
            self.stage.0.stuck.store(true, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        self.region.fill(key, lease, frame, life, announce).await
    }

    async fn renew(&self, key: &Key, lease: Lease, ttl: Duration) -> Result<Renewed> {
        if self.stage.0.renewals_fail.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Backend, "no answer"));
        }
        self.region.renew(key, lease, ttl).await
    }

    async fn release(&self, key: &Key, lease: Lease) -> Result<()> {
        self.region.release(key, lease).await
    }

    async fn put(&self, entries: &[(Key, Bytes)], life: Duration, not_after_ms: u64) -> Result<Vec<u64>> {
        self.stage.change().await?;
        self.region.put(entries, life, not_after_ms).await
    }

    async fn invalidate(&self, keys: &[Key]) -> Result<Vec<u64>> {
        self.stage.change().await?;
        self.region.invalidate(keys).await
    }

    async fn invalidate_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        self.stage.change().await?;
        self.region.invalidate_tags(partition, tags).await
    }

    async fn clear(&self, partition: u16) -> Result<u64> {
        self.stage.change().await?;
        self.region.clear(partition).await
    }

    async fn heartbeat(&self, partition: u16, beat: u64) -> Result<Pulse> {
        self.stage.0.heartbeats.fetch_add(1, Ordering::SeqCst);
        self.region.heartbeat(partition, beat).await
    }
}
