//! The commands of one node, as far as a stage lets them through.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_cache_core::backend::{
    Acquire, Acquired, Baseline, Check, Fill, Filled, Info, Lease, Listener, Pulse, ReadMany, Region,
    Renewed, RunId,
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
    fn info(&self) -> Info {
        let info = self.region.info();
        Info { available: info.available && !self.stage.0.away.load(Ordering::SeqCst), ..info }
    }

    async fn read(&self, keys: &[Key], check: Check) -> Result<ReadMany> {
        if check == Check::Plain {
            self.stage.0.reads.fetch_add(1, Ordering::SeqCst);
        }
        self.stage.let_go(&self.stage.0.reads_wait).await;
        self.stage.read()?;
        let mut answer = self.region.read(keys, check).await?;
        if check == Check::Plain && self.stage.0.usurped.load(Ordering::SeqCst) {
            answer.run = RunId(u64::MAX);
        }
        self.stage.let_go(&self.stage.0.answers_late).await;
        Ok(answer)
    }

    async fn baseline(&self, partition: u16, tags: Option<&Tags>) -> Result<Baseline> {
        self.stage.read()?;
        if tags.is_none() {
            self.stage.0.tables.fetch_add(1, Ordering::SeqCst);
        }
        let mut baseline = self.region.baseline(partition, tags).await?;
        if self.stage.0.renumbered.load(Ordering::SeqCst) {
            (baseline.state.seq, baseline.state.floor) = (0, 0);
        }
        Ok(baseline)
    }

    async fn acquire(&self, asks: &[(Key, Acquire)]) -> Vec<Result<Acquired>> {
        self.stage.0.asks.fetch_add(asks.len(), Ordering::SeqCst);
        if let Err(error) = self.stage.read() {
            return vec![Err(error); asks.len()];
        }
        let mut answers = self.region.acquire(asks).await;
        if self.stage.0.full.load(Ordering::SeqCst) {
            for (answer, (key, _)) in answers.iter_mut().zip(asks) {
                if let Ok(Acquired::Granted(lease)) = *answer {
                    let released = self.region.release_one(key, lease).await;
                    *answer = released.map(|()| Acquired::NoRoom { seq: lease.seq });
                }
            }
        }
        answers
    }

    async fn fill(&self, fills: &[Fill]) -> Vec<Result<Filled>> {
        if self.stage.0.fills_fail.load(Ordering::SeqCst) {
            return vec![Err(Error::new(ErrorKind::Backend, "no answer")); fills.len()];
        }
        if self.stage.0.fills_stick.load(Ordering::SeqCst) {
            self.stage.0.stuck.store(true, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        self.region.fill(fills).await
    }

    async fn renew(&self, leases: &[(Key, Lease)], ttl: Duration) -> Result<Vec<Renewed>> {
        if self.stage.0.renewals_fail.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Backend, "no answer"));
        }
        self.region.renew(leases, ttl).await
    }

    async fn release(&self, leases: &[(Key, Lease)]) -> Result<()> {
        self.region.release(leases).await
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

    async fn expire(&self, keys: &[Key]) -> Result<Vec<u64>> {
        self.stage.change().await?;
        self.region.expire(keys).await
    }

    async fn expire_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        self.stage.change().await?;
        self.region.expire_tags(partition, tags).await
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
