//! The operations of a region, in the order of the trait [`Region`].

use std::time::Duration;

use async_cache_core::backend::{
    Acquire, Acquired, Baseline, Check, Fill, Filled, Info, Lease, NodeId, Pulse, ReadMany, Region, Renewed,
    State, TAG_TABLE,
};
use async_cache_core::key::Key;
use async_cache_core::{Error, Result, Tags};
use async_trait::async_trait;
use bytes::Bytes;

#[cfg(feature = "cluster")]
use super::beats;
use super::region::RedisRegion;
use super::{leases, values};
#[cfg(feature = "cluster")]
use crate::beat_queue::Beat;
use crate::limits::{Purpose, millis};
use crate::pubsub::message;

/// How long a load may take before its tagged value is refused, because the tag table may have dropped one of its
/// tags.
const LOAD: Duration = Duration::from_secs(60);

/// What comes first while nothing else is asked of a server.
const HEARTBEAT: &str = "sending a heartbeat";

/// Tags, the number of the last invalidation and that of the last expiry of each, as a script answers a hash.
type TagList = Vec<(Vec<u8>, u64, u64)>;

#[async_trait]
impl Region for RedisRegion {
    fn info(&self) -> Info {
        let slots = &self.inner.slots;
        Info {
            partitions: self.partition_count(),
            deadline: slots.deadlines.write,
            available: slots.available(),
        }
    }

    fn outage(&self) -> Option<Error> {
        let down = self.inner.slots.pick(Purpose::Read).err()?;
        Some(self.error(HEARTBEAT, down))
    }

    fn close(&self) {
        self.leave();
    }

    async fn read(&self, keys: &[Key], check: Check) -> Result<ReadMany> {
        values::read(self, keys, check).await
    }

    async fn baseline(&self, partition: u16, tags: Option<&Tags>) -> Result<Baseline> {
        const DOING: &str = "reading the state and the tags of the namespace";
        let names = self.names_of(partition)?;
        let checkout = self.checkout(Purpose::Read, DOING).await?;
        let mut call = self.call(&checkout, &checkout.link.lua.baseline, partition, &names.with_tags());
        if let Some(tags) = tags {
            call.arg(tags.packed());
        }
        let (seq, floor, time_ms, tag_floor, young, old): (_, _, _, _, TagList, TagList) =
            self.script(DOING, &checkout, &checkout.link.lua.baseline, &call).await?;
        let (mut tags, mut expired_tags) = (Vec::new(), Vec::new());
        for (tag, void, expiry) in young.into_iter().chain(old).filter(|(tag, ..)| !tag.is_empty()) {
            let tag = Bytes::from(tag);
            if expiry > 0 {
                expired_tags.push((tag.clone(), expiry));
            }
            if void > 0 {
                tags.push((tag, void));
            }
        }
        let state = State { run: checkout.link.run_of(names.meta()), seq, floor, time_ms };
        Ok(Baseline { state, tag_floor, tags, expired_tags })
    }

    async fn acquire(&self, asks: &[(Key, Acquire)]) -> Vec<Result<Acquired>> {
        leases::acquire(self, asks).await
    }

    async fn fill(&self, fills: &[Fill]) -> Vec<Result<Filled>> {
        leases::fill(self, fills).await
    }

    async fn renew(&self, leases: &[(Key, Lease)], ttl: Duration) -> Result<Vec<Renewed>> {
        leases::renew(self, leases, ttl).await
    }

    async fn release(&self, leases: &[(Key, Lease)]) -> Result<()> {
        leases::release(self, leases).await
    }

    async fn put(&self, entries: &[(Key, Bytes)], life: Duration, not_after_ms: u64) -> Result<Vec<u64>> {
        values::put(self, entries, life, not_after_ms).await
    }

    async fn invalidate(&self, keys: &[Key]) -> Result<Vec<u64>> {
        values::invalidate(self, keys).await
    }

    async fn invalidate_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        self.change_tags("invalidating tags", partition, tags, "T").await
    }

    async fn expire(&self, keys: &[Key]) -> Result<Vec<u64>> {
        values::expire(self, keys).await
    }

    async fn expire_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        self.change_tags("expiring tags", partition, tags, "X").await
    }

    async fn clear(&self, partition: u16) -> Result<u64> {
        const DOING: &str = "clearing the namespace";
        let names = self.names_of(partition)?;
        let checkout = self.checkout(Purpose::Write, DOING).await?;
        let call = self.call(&checkout, &checkout.link.lua.clear, partition, &names.with_tags());
        self.script(DOING, &checkout, &checkout.link.lua.clear, &call).await
    }

    async fn heartbeat(&self, partition: u16, beat: u64) -> Result<Pulse> {
        // A node that is not subscribed yet may miss the echo.
        let hears = self.member.as_ref().is_some_and(|member| member.live());
        self.beat(partition, beat, if hears { Echo::Due } else { Echo::Uncertain }).await
    }

    async fn ask(&self, id: u64, question: &[u8]) -> Result<u64> {
        const DOING: &str = "asking the nodes of the namespace";
        let bus = self.names_of(0)?.channels(self.spec.node).bus;
        self.publish(DOING, &bus, message::question(&self.node, id, question)).await
    }

    async fn answer(&self, asker: NodeId, id: u64, answer: &[u8]) -> Result<()> {
        const DOING: &str = "answering a tool";
        let node = self.names_of(0)?.channels(asker).node;
        self.publish(DOING, &node, message::answer(&self.node, id, answer)).await.map(drop)
    }
}

/// Whether the echo of a heartbeat will arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    Due,
    Uncertain,
}

impl RedisRegion {
    pub(crate) async fn beat(&self, partition: u16, beat: u64, echo: Echo) -> Result<Pulse> {
        let names = self.names_of(partition)?;
        #[cfg(feature = "cluster")]
        if self.member.is_none() {
            self.inner.connected(Purpose::Read).await;
            let beat = beats::join(&self.inner, |answer| Beat {
                meta: names.meta().to_vec(),
                record: self.record.clone(),
                known_seq: self.spec.known.seq(partition),
                node: self.node.clone(),
                number: beat,
                is_heard: echo == Echo::Due,
                answer,
            });
            let (run, time_ms) = beat.await.map_err(|failure| self.error(HEARTBEAT, failure))?;
            return Ok(Pulse { run, time_ms });
        }
        let checkout = self.checkout(Purpose::Read, HEARTBEAT).await?;
        let mut call = self.call(&checkout, &checkout.link.lua.heartbeat, partition, &[names.meta()]);
        call.arg(&self.node).arg(beat);
        let vitals = &self.inner.bus.vitals;
        let sent = (echo == Echo::Due).then(|| vitals.now());
        let time_ms = self.script(HEARTBEAT, &checkout, &checkout.link.lua.heartbeat, &call).await?;
        if let Some(sent) = sent {
            vitals.pulse(sent);
        }
        Ok(Pulse { run: checkout.link.run_of(names.meta()), time_ms })
    }

    /// Publishes a message that is no change. Returns how many receive it.
    async fn publish(&self, doing: &str, channel: &[u8], message: Vec<u8>) -> Result<u64> {
        let checkout = self.checkout_without_scripts(Purpose::Write, doing).await?;
        let mut publish = redis::cmd(checkout.link.lua.publish);
        publish.arg(channel).arg(message);
        let answer = checkout.answer(checkout.link.query(&publish)).await;
        answer.map_err(|failure| self.error(doing, failure))
    }
}

impl RedisRegion {
    /// Runs the script that invalidates or expires tags. `letter` begins its message: `T` or `X`.
    async fn change_tags(&self, doing: &str, partition: u16, tags: &Tags, letter: &str) -> Result<u64> {
        let names = self.names_of(partition)?;
        let checkout = self.checkout(Purpose::Write, doing).await?;
        let mut call = self.call(&checkout, &checkout.link.lua.tag, partition, &names.with_tags());
        call.arg(tags.packed()).arg(TAG_TABLE / 2).arg(millis(LOAD)).arg(letter);
        self.script(doing, &checkout, &checkout.link.lua.tag, &call).await
    }
}
