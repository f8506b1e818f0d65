//! The region of a tier with a fault.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_cache_core::backend::{
    Accept, Acquire, Acquired, Announce, Baseline, BusEvent, Check, Fill, Filled, GRANT_PACE, Info, Lease,
    Listener, Pulse, ReadMany, Region, Renewed, RunId,
};
use async_cache_core::frame::{SEAL_LEN, ends_of, frame_tags, is_expired, unseal};
use async_cache_core::key::Key;
use async_cache_core::{Error, ErrorKind, Result, Tags};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::sleep;

use super::{Common, Ear, Fault};

pub(super) struct BrokenRegion {
    pub(super) inner: Arc<dyn Region>,
    pub(super) fault: Fault,
    pub(super) common: Arc<Common>,
    pub(super) listener: Weak<dyn Listener>,
    /// Lives as long as the region.
    pub(super) ear: Arc<Ear>,
}

impl std::fmt::Debug for BrokenRegion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.fault)
    }
}

impl BrokenRegion {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn key(&self, key: &Key) -> Key {
        let bytes = key.as_bytes();
        Key::from_encoded(if self.has(Fault::CutsKeys) { &bytes[..bytes.len().min(900)] } else { bytes })
    }

    fn life(&self, life: Duration) -> Duration {
        if self.has(Fault::KeepsForEver) { Duration::from_secs(3600) } else { life }
    }

    fn numbers(&self, mut seqs: Vec<u64>) -> Vec<u64> {
        if self.has(Fault::AnswersBackwards) {
            seqs.reverse();
        }
        seqs
    }

    async fn reachable(&self) -> Result<()> {
        if self.common.away.load(Ordering::SeqCst) {
            sleep(Duration::from_secs(20)).await;
            return Err(Error::new(ErrorKind::Backend, "away"));
        }
        Ok(())
    }

    async fn waste_a_number(&self, key: &Key) -> Result<()> {
        self.inner.invalidate(&[Key::from_encoded(&[key.as_bytes(), b"!"].concat()[..1])]).await.map(drop)
    }

    fn partition_of(&self, key: &Key) -> u16 {
        key.partition(self.inner.info().partitions)
    }

    async fn acquire_one(&self, key: &Key, mut ask: Acquire) -> Result<Acquired> {
        self.reachable().await?;
        let key = &self.key(key);
        match self.fault {
            Fault::NeverConfirms if matches!(ask.accept, Accept::Known(_)) => ask.accept = Accept::Any,
            Fault::ConfirmsWhatHasExpired => {
                if let Accept::Other(token) = ask.accept {
                    ask.accept = Accept::Known(token);
                }
            }
            Fault::NeverLapses => ask.ttl = Duration::from_secs(3600),
            _ => {}
        }
        let (token, seq) = (ask.token, self.inner.state(self.partition_of(key)).await?.seq);
        Ok(match (self.fault, self.inner.acquire_one(key, ask).await?) {
            (Fault::GrantsTwice, Acquired::Busy(_)) => Acquired::Granted(Lease { token, seq }),
            (Fault::NeverCools, Acquired::Busy(left)) if left <= GRANT_PACE => {
                Acquired::Granted(Lease { token, seq })
            }
            (Fault::GrantsOtherNumbers, Acquired::Granted(_)) => {
                Acquired::Granted(Lease { token, seq: seq - 1 })
            }
            (Fault::ConfirmsWhatIsExpired, Acquired::Value(value)) if is_expired(&value) => {
                Acquired::Unchanged { seq, ends: ends_of(&value) }
            }
            (_, acquired) => acquired,
        })
    }

    async fn fill_one(&self, fill: &Fill) -> Result<Filled> {
        self.reachable().await?;
        let (key, lease, frame) = (self.key(&fill.key), fill.lease, fill.frame.clone());
        let life = self.life(fill.life);
        let floor = self.inner.state(self.partition_of(&key)).await?.floor;
        let announce = match self.fault {
            Fault::NeverAnnounces => Announce::No,
            Fault::SealsFillsWithTheirOwnNumber => Announce::Yes,
            Fault::RefusesInSilence if lease.seq < floor => return Ok(Filled::Refused),
            _ => fill.announce,
        };
        let given = Fill { key: key.clone(), lease, frame: frame.clone(), life, announce };
        let filled = self.inner.fill_one(given).await?;
        match (self.fault, filled) {
            (Fault::FillsPastTags | Fault::FillsPastExpiredTags, Filled::Refused)
                if !frame_tags(&frame).is_empty() =>
            {
                let seq = self.inner.put(&[(key, frame)], life, u64::MAX).await?[0];
                Ok(Filled::Stored { seq })
            }
            (Fault::FillsWithoutLease, Filled::Refused) => {
                let seq = self.inner.put(&[(key, frame)], life, u64::MAX).await?[0];
                Ok(Filled::Stored { seq })
            }
            (Fault::SealsFillsWithTheirOwnNumber, Filled::Stored { .. }) => {
                Ok(Filled::Stored { seq: lease.seq })
            }
            (Fault::KeepsFilledLeases, Filled::Stored { .. }) => {
                let ttl = Duration::from_secs(3600);
                let ask = Acquire { token: lease.token, ttl, accept: Accept::Nothing };
                self.inner.acquire_one(&key, ask).await.map(|_| filled)
            }
            _ => Ok(filled),
        }
    }

    fn leases(&self, leases: &[(Key, Lease)]) -> Vec<(Key, Lease)> {
        leases.iter().map(|(key, lease)| (self.key(key), *lease)).collect()
    }
}

#[async_trait]
impl Region for BrokenRegion {
    fn info(&self) -> Info {
        Info { available: !self.common.away.load(Ordering::SeqCst), ..self.inner.info() }
    }

    async fn read(&self, keys: &[Key], check: Check) -> Result<ReadMany> {
        self.reachable().await?;
        if self.has(Fault::NumbersReads) && check == Check::Plain {
            for key in keys {
                self.waste_a_number(key).await?;
            }
        }
        let keys: Vec<Key> = keys.iter().map(|key| self.key(key)).collect();
        let check = if self.has(Fault::AnswersWhatIsVoid) { Check::Plain } else { check };
        let mut read = self.inner.read(&keys, check).await?;
        if self.has(Fault::HidesWhatIsBelowTheFloor) {
            for (key, value) in keys.iter().zip(&mut read.values) {
                let floor = self.inner.state(self.partition_of(key)).await?.floor;
                *value = value.take().filter(|value| unseal(value) >= Some(floor));
            }
        }
        if self.has(Fault::MixesAnswersUp) {
            read.values.reverse();
        }
        Ok(read)
    }

    async fn baseline(&self, partition: u16, tags: Option<&Tags>) -> Result<Baseline> {
        self.reachable().await?;
        let invented = self.has(Fault::InventsPartitions);
        let partition = if invented { partition % self.inner.info().partitions } else { partition };
        let mut baseline = self.inner.baseline(partition, tags).await?;
        match self.fault {
            Fault::ForgetsRoom => baseline.tags.truncate(1),
            Fault::KeepsExpiredTagsToItself => baseline.expired_tags.clear(),
            Fault::StopsItsClock => baseline.state.time_ms = 1,
            _ => {}
        }
        Ok(baseline)
    }

    async fn acquire(&self, asks: &[(Key, Acquire)]) -> Vec<Result<Acquired>> {
        let mut answers = Vec::new();
        for (key, ask) in asks {
            answers.push(self.acquire_one(key, *ask).await);
        }
        answers
    }

    async fn fill(&self, fills: &[Fill]) -> Vec<Result<Filled>> {
        let mut outcomes = Vec::new();
        for fill in fills {
            outcomes.push(self.fill_one(fill).await);
        }
        outcomes
    }

    async fn renew(&self, leases: &[(Key, Lease)], ttl: Duration) -> Result<Vec<Renewed>> {
        if self.has(Fault::RenewsWhatIsNotHeld) {
            return Ok(vec![Renewed::Held; leases.len()]);
        }
        self.inner.renew(&self.leases(leases), ttl).await
    }

    async fn release(&self, leases: &[(Key, Lease)]) -> Result<()> {
        if self.has(Fault::KeepsReleasedLeases) {
            return Ok(());
        }
        self.inner.release(&self.leases(leases)).await
    }

    async fn put(&self, entries: &[(Key, Bytes)], life: Duration, not_after_ms: u64) -> Result<Vec<u64>> {
        self.reachable().await?;
        let entries: Vec<(Key, Bytes)> =
            entries.iter().map(|(key, frame)| (self.key(key), frame.clone())).collect();
        if self.has(Fault::PublishesEarly) {
            for (key, _) in &entries {
                let partition = self.partition_of(key);
                let seq = self.inner.state(partition).await?.seq + 1;
                let key = Bytes::copy_from_slice(key.as_bytes());
                let listeners = self.common.listeners.lock().clone();
                let event = BusEvent::Invalidated { partition, seq, key };
                listeners.iter().filter_map(Weak::upgrade).for_each(|to| to.notify(event.clone()));
            }
            sleep(Duration::from_millis(10)).await;
        }
        let not_after = if self.has(Fault::PutsLate) { u64::MAX } else { not_after_ms };
        let mut seqs = self.inner.put(&entries, self.life(life), not_after).await?;
        if self.has(Fault::AnswersPutsWithTheNumberBefore) {
            seqs.iter_mut().for_each(|seq| *seq -= 1);
        }
        Ok(self.numbers(seqs))
    }

    async fn invalidate(&self, keys: &[Key]) -> Result<Vec<u64>> {
        self.reachable().await?;
        let keys: Vec<Key> = keys.iter().map(|key| self.key(key)).collect();
        if let (Fault::PutsBackWhatIsInvalidated, [key]) = (self.fault, &keys[..])
            && let Some(stored) = self.inner.read_one(key, Check::Plain).await?.value
        {
            let entry = [(key.clone(), stored.slice(SEAL_LEN..))];
            return self.inner.put(&entry, Duration::from_secs(60), u64::MAX).await;
        }
        if let (Fault::AlwaysCools, [key]) = (self.fault, &keys[..]) {
            let token = async_cache_core::backend::Token::from_bytes([0; 16]);
            let ask = Acquire { token, ttl: Duration::from_secs(60), accept: Accept::Nothing };
            self.inner.acquire_one(key, ask).await?;
        }
        if self.has(Fault::NumbersInTwos) {
            self.inner.invalidate(&keys).await?;
        }
        Ok(self.numbers(self.inner.invalidate(&keys).await?))
    }

    async fn clear(&self, partition: u16) -> Result<u64> {
        self.reachable().await?;
        match self.fault {
            Fault::ClearsEverywhere => {
                for other in (0..self.inner.info().partitions).filter(|other| *other != partition) {
                    self.inner.clear(other).await?;
                }
            }
            Fault::ClearsNothing => {
                let key = (0..).map(|n: u32| Key::from_encoded(&n.to_be_bytes()));
                let mut keys = key.filter(|key| self.partition_of(key) == partition);
                return Ok(self.inner.invalidate(&[keys.next().unwrap()]).await?[0]);
            }
            _ => {}
        }
        self.inner.clear(partition).await
    }

    async fn invalidate_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        self.reachable().await?;
        if self.has(Fault::ForgetsTags) {
            let key = (0..).map(|n: u32| Key::from_encoded(&n.to_be_bytes()));
            let mut keys = key.filter(|key| self.partition_of(key) == partition);
            return Ok(self.inner.invalidate(&[keys.next().unwrap()]).await?[0]);
        }
        let first = Tags::new(tags.iter().take(1))?;
        let tags = if self.has(Fault::TakesOneTag) { &first } else { tags };
        self.inner.invalidate_tags(partition, tags).await
    }

    async fn expire(&self, keys: &[Key]) -> Result<Vec<u64>> {
        self.reachable().await?;
        match self.fault {
            Fault::ExpiresByInvalidation => self.inner.invalidate(keys).await,
            Fault::ExpiresNothing => {
                let seqs = keys.iter().map(|key| self.partition_of(key));
                let mut numbers = Vec::new();
                for partition in seqs {
                    numbers.push(self.inner.expire_tags(partition, &Tags::new(["none"])?).await?);
                }
                Ok(numbers)
            }
            _ => self.inner.expire(keys).await,
        }
    }

    async fn expire_tags(&self, partition: u16, tags: &Tags) -> Result<u64> {
        self.reachable().await?;
        match self.fault {
            Fault::ExpiresByInvalidation => self.inner.invalidate_tags(partition, tags).await,
            Fault::ExpiresNothing => self.inner.expire_tags(partition, &Tags::new(["none"])?).await,
            _ => self.inner.expire_tags(partition, tags).await,
        }
    }

    async fn heartbeat(&self, partition: u16, beat: u64) -> Result<Pulse> {
        self.reachable().await?;
        if self.has(Fault::NeedsItsListener) && self.listener.upgrade().is_none() {
            return Err(Error::new(ErrorKind::Backend, "nobody listens"));
        }
        let _ = &self.ear;
        let pulse = self.inner.heartbeat(partition, beat).await?;
        let run = if self.has(Fault::ForgetsItsRun) { RunId(0) } else { pulse.run };
        let time_ms = if self.has(Fault::StopsItsClock) { 1 } else { pulse.time_ms };
        Ok(Pulse { run, time_ms })
    }
}
