//! The operations of a region, in the order of the trait [`Region`].

use std::time::Duration;

use async_cache_core::backend::{
    Acquire, Acquired, Announce, Baseline, Fill, Filled, Lease, Pulse, Read, ReadMany, Region, Renewed,
    State, TAG_TABLE,
};
use async_cache_core::key::Key;
use async_cache_core::{Error, ErrorKind, Result, Tags};
use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;

use super::coalesce;
use super::orphan::Orphan;
use super::region::RedisRegion;
use crate::limits::{Purpose, millis};
use crate::reply::{acquired, bytes, filled, renewed};

/// How long a load may take before its tagged value is refused, because the tag table may have dropped one of its
/// tags.
const LOAD: Duration = Duration::from_secs(60);

/// Tags and their numbers, as a script answers a hash.
type TagList = Vec<(Vec<u8>, u64)>;

#[async_trait]
impl Region for RedisRegion {
    fn partitions(&self) -> u16 {
        self.partition_count()
    }

    fn close(&self) {
        self.leave();
    }

    fn available(&self) -> bool {
        self.inner.slots.available()
    }

    fn command_timeout(&self) -> Duration {
        self.inner.slots.deadlines.write
    }

    async fn get(&self, key: &Key) -> Result<Read> {
        const DOING: &str = "reading a value";
        self.inner.connected(Purpose::Read).await;
        let checkout = self.inner.slots.meet().map_err(|failure| self.error(DOING, failure))?;
        let name = self.value_name(key);
        let read = coalesce::read(&checkout.link, &name, checkout.limit);
        let value = checkout.answer(read).await.map_err(|failure| self.error(DOING, failure))?;
        Ok(Read { run: checkout.link.run, value })
    }

    async fn get_many(&self, keys: &[Key]) -> Result<ReadMany> {
        match self.read_many(keys).await {
            // This user may be forbidden MGET, and permitted the scripts.
            Err(error) if error.kind() == ErrorKind::Config => self.read_many_valid(keys).await,
            read => read,
        }
    }

    async fn get_valid(&self, key: &Key) -> Result<Read> {
        const DOING: &str = "reading a value";
        let checkout = self.checkout(Purpose::Read, DOING).await?;
        let call = self.key_call(&checkout, &self.inner.scripts.get_valid, key);
        let value: Value = self.script(DOING, &checkout, &self.inner.scripts.get_valid, &call).await?;
        Ok(Read { run: checkout.link.run, value: bytes(value) })
    }

    async fn get_many_valid(&self, keys: &[Key]) -> Result<ReadMany> {
        self.read_many_valid(keys).await
    }

    async fn state(&self, partition: u16) -> Result<State> {
        const DOING: &str = "reading the state of the namespace";
        self.names_of(partition)?;
        let checkout = self.checkout(Purpose::Read, DOING).await?;
        let (seq, floor, time_ms) =
            self.read_state(&checkout, partition).await.map_err(|failure| self.error(DOING, failure))?;
        Ok(State { run: checkout.link.run, seq, floor, time_ms })
    }

    async fn baseline(&self, partition: u16) -> Result<Baseline> {
        const DOING: &str = "reading the state and the tags of the namespace";
        let names = self.names_of(partition)?;
        let checkout = self.checkout(Purpose::Read, DOING).await?;
        let call = self.call(&checkout, &self.inner.scripts.baseline, partition, &names.with_tags());
        let (seq, floor, time_ms, tag_floor, young, old): (_, _, _, _, TagList, TagList) =
            self.script(DOING, &checkout, &self.inner.scripts.baseline, &call).await?;
        let tags = young.into_iter().chain(old).filter(|(tag, _)| !tag.is_empty());
        let tags = tags.map(|(tag, seq)| (tag.into(), seq)).collect();
        Ok(Baseline { state: State { run: checkout.link.run, seq, floor, time_ms }, tag_floor, tags })
    }

    async fn acquire(&self, key: &Key, ask: Acquire) -> Result<Acquired> {
        const DOING: &str = "asking for a value or the lease to load it";
        let checkout = self.checkout(Purpose::Read, DOING).await?;
        let call = self.acquire_call(&checkout, key, &ask);
        let orphan =
            Orphan::new(&self.inner, &checkout.link, vec![self.release_call(&checkout, key, ask.token)]);
        let answer: Result<Vec<Value>> =
            self.script(DOING, &checkout, &self.inner.scripts.acquire, &call).await;
        let temporary = answer.as_ref().is_err_and(Error::is_temporary);
        if !temporary {
            orphan.settled();
        }
        acquired(answer?, ask.token).ok_or_else(|| self.unexpected_reply(DOING))
    }

    async fn acquire_many(&self, asks: &[(Key, Acquire)]) -> Vec<Result<Acquired>> {
        self.ask_many(asks).await
    }

    async fn fill_many(&self, fills: &[Fill]) -> Vec<Result<Filled>> {
        self.store_many(fills).await
    }

    async fn renew_many(&self, leases: &[(Key, Lease)], ttl: Duration) -> Result<Vec<Renewed>> {
        self.extend_many(leases, ttl).await
    }

    async fn release_many(&self, leases: &[(Key, Lease)]) -> Result<()> {
        self.give_back_many(leases).await
    }

    async fn fill(
        &self,
        key: &Key,
        lease: Lease,
        frame: Bytes,
        life: Duration,
        announce: Announce,
    ) -> Result<Filled> {
        const DOING: &str = "storing a loaded value";
        let checkout = self.checkout(Purpose::Write, DOING).await?;
        let call = self.fill_call(&checkout, &Fill { key: key.clone(), lease, frame, life, announce });
        Ok(filled(self.script(DOING, &checkout, &self.inner.scripts.fill, &call).await?))
    }

    async fn renew(&self, key: &Key, lease: Lease, ttl: Duration) -> Result<Renewed> {
        const DOING: &str = "renewing a lease";
        let checkout = self.checkout(Purpose::Write, DOING).await?;
        let call = self.renew_call(&checkout, key, &lease, ttl);
        Ok(renewed(self.script(DOING, &checkout, &self.inner.scripts.renew, &call).await?))
    }

    async fn release(&self, key: &Key, lease: Lease) -> Result<()> {
        const DOING: &str = "releasing a lease";
        let checkout = self.checkout(Purpose::Write, DOING).await?;
        let call = self.release_call(&checkout, key, lease.token);
        self.script(DOING, &checkout, &self.inner.scripts.release, &call).await
    }

    async fn put(&self, entries: &[(Key, Bytes)], life: Duration, not_after_ms: u64) -> Result<Vec<u64>> {
        self.put_many(entries, life, not_after_ms).await
    }

    async fn invalidate(&self, keys: &[Key]) -> Result<Vec<u64>> {
        self.invalidate_many(keys).await
    }

    async fn clear(&self, partition: u16) -> Result<u64> {
        const DOING: &str = "clearing the namespace";
        let names = self.names_of(partition)?;
        let checkout = self.checkout(Purpose::Write, DOING).await?;
        let call = self.call(&checkout, &self.inner.scripts.clear, partition, &names.with_tags());
        self.script(DOING, &checkout, &self.inner.scripts.clear, &call).await
    }

    async fn invalidate_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        const DOING: &str = "invalidating tags";
        let names = self.names_of(partition)?;
        let checkout = self.checkout(Purpose::Write, DOING).await?;
        let mut call = self.call(&checkout, &self.inner.scripts.tag, partition, &names.with_tags());
        call.arg(tags.packed()).arg(TAG_TABLE / 2).arg(millis(LOAD));
        self.script(DOING, &checkout, &self.inner.scripts.tag, &call).await
    }

    async fn heartbeat(&self, partition: u16, beat: u64) -> Result<Pulse> {
        const DOING: &str = "sending a heartbeat";
        let names = self.names_of(partition)?;
        let checkout = self.checkout(Purpose::Read, DOING).await?;
        let mut call = self.call(&checkout, &self.inner.scripts.heartbeat, partition, &[names.meta()]);
        call.arg(&self.node).arg(beat);
        let vitals = &self.inner.bus.vitals;
        // A node that is not subscribed yet may miss the echo.
        let sent = self.member.live().then(|| vitals.now());
        let time_ms = self.script(DOING, &checkout, &self.inner.scripts.heartbeat, &call).await?;
        if let Some(sent) = sent {
            vitals.pulse(sent);
        }
        Ok(Pulse { run: checkout.link.run, time_ms })
    }
}
