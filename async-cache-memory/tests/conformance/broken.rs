//! Tiers with one fault each.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_cache_core::backend::{
    Accept, Acquire, Acquired, Announce, Backend, Baseline, BusEvent, Filled, GRANT_PACE, Lease, Listener,
    Pulse, Read, ReadMany, Region, RegionSpec, Renewed, RunId, State,
};
use async_cache_core::frame::{SEAL_LEN, frame_tags, unseal};
use async_cache_core::key::Key;
use async_cache_core::testing::conformance::{Hook, Subject};
use async_cache_core::{Error, ErrorKind, Result, Tags};
use async_cache_memory::MemoryBackend;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::sleep;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    SealsFillsWithTheirOwnNumber,
    AnswersPutsWithTheNumberBefore,
    NeverAnnounces,
    NeverConfirms,
    ConfirmsWhatHasExpired,
    HidesWhatIsBelowTheFloor,
    MixesAnswersUp,
    ForgetsItsRun,
    KeepsForEver,
    CutsKeys,
    SharesNamespaces,
    TakesAnyRecord,
    InventsPartitions,
    StopsItsClock,
    GrantsTwice,
    GrantsOtherNumbers,
    FillsWithoutLease,
    RenewsWhatIsNotHeld,
    NeverLapses,
    KeepsFilledLeases,
    KeepsReleasedLeases,
    WakesWithoutValue,
    WakesOnlyWithValue,
    WakesEveryone,
    NumbersInTwos,
    NumbersReads,
    AnswersBackwards,
    PutsBackWhatIsInvalidated,
    NeverCools,
    AlwaysCools,
    PutsLate,
    ClearsNothing,
    RefusesInSilence,
    ClearsEverywhere,
    LosesMessages,
    PublishesEarly,
    CallsClearsInvalidations,
    EchoesOldNumbers,
    EchoesToEveryone,
    SubscribesForEver,
    NeedsItsListener,
    HangsWhileAway,
    AnswersWhatIsVoid,
    ForgetsRoom,
    ForgetsTags,
    TakesOneTag,
    FillsPastTags,
    KeepsTagsToItself,
}

/// A tier with a fault; its handles are clones.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    tier: MemoryBackend,
    fault: Fault,
    common: Arc<Common>,
}

#[derive(Default)]
struct Common {
    listeners: Mutex<Vec<Weak<dyn Listener>>>,
    regions: Mutex<Vec<Arc<dyn Region>>>,
    away: AtomicBool,
}

impl std::fmt::Debug for Common {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Common")
    }
}

impl Broken {
    pub(crate) fn by(fault: Fault) -> Self {
        Self { tier: MemoryBackend::builder().partitions(3).build(), fault, common: Arc::default() }
    }
}

#[async_trait]
impl Subject for Broken {
    async fn handle(&self) -> Arc<dyn Backend> {
        Arc::new(self.clone())
    }

    async fn stop(&self) -> Hook {
        self.common.away.store(true, Ordering::SeqCst);
        if self.fault == Fault::HangsWhileAway { Hook::Done } else { Hook::Missing }
    }

    async fn go_on(&self) {
        self.common.away.store(false, Ordering::SeqCst);
    }
}

impl Backend for Broken {
    fn open(&self, mut spec: RegionSpec, listener: Weak<dyn Listener>) -> Result<Arc<dyn Region>> {
        match self.fault {
            Fault::SharesNamespaces => "the same".clone_into(&mut spec.namespace),
            Fault::TakesAnyRecord => "the same".clone_into(&mut spec.record),
            _ => {}
        }
        self.common.listeners.lock().push(Weak::clone(&listener));
        let ear = Arc::new(Ear {
            to: Weak::clone(&listener),
            fault: self.fault,
            common: Arc::clone(&self.common),
            count: AtomicU64::new(0),
        });
        let weak: Weak<dyn Listener> = Arc::downgrade(&(Arc::clone(&ear) as Arc<dyn Listener>));
        let inner = self.tier.open(spec, weak)?;
        let (fault, common) = (self.fault, Arc::clone(&self.common));
        let region: Arc<dyn Region> = Arc::new(BrokenRegion { inner, fault, common, listener, ear });
        if self.fault == Fault::SubscribesForEver {
            self.common.regions.lock().push(Arc::clone(&region));
        }
        Ok(region)
    }
}

/// What stands between the tier and a node's listener.
struct Ear {
    to: Weak<dyn Listener>,
    fault: Fault,
    common: Arc<Common>,
    count: AtomicU64,
}

impl Listener for Ear {
    fn notify(&self, event: BusEvent) {
        let everyone = match (self.fault, &event) {
            (Fault::WakesEveryone, BusEvent::Woken { .. } | BusEvent::Stored { .. })
            | (Fault::EchoesToEveryone, BusEvent::Echo { .. }) => self.common.listeners.lock().clone(),
            _ => vec![Weak::clone(&self.to)],
        };
        let event = match (self.fault, event) {
            (Fault::WakesWithoutValue, BusEvent::Woken { key, .. }) => BusEvent::Woken { key, value: None },
            (Fault::WakesOnlyWithValue, BusEvent::Woken { value: None, .. }) => return,
            (Fault::LosesMessages, BusEvent::Invalidated { .. })
                if self.count.fetch_add(1, Ordering::SeqCst) % 10 == 9 =>
            {
                return;
            }
            (Fault::KeepsTagsToItself, BusEvent::TagsInvalidated { partition, seq, .. }) => {
                BusEvent::Invalidated { partition, seq, key: Bytes::new() }
            }
            (Fault::CallsClearsInvalidations, BusEvent::Cleared { partition, seq }) => {
                BusEvent::Invalidated { partition, seq, key: Bytes::new() }
            }
            (Fault::EchoesOldNumbers, BusEvent::Echo { partition, seq, beat }) => {
                BusEvent::Echo { partition, seq: seq - 1, beat }
            }
            (_, event) => event,
        };
        everyone.iter().filter_map(Weak::upgrade).for_each(|to| to.notify(event.clone()));
    }
}

struct BrokenRegion {
    inner: Arc<dyn Region>,
    fault: Fault,
    common: Arc<Common>,
    listener: Weak<dyn Listener>,
    /// Lives as long as the region.
    ear: Arc<Ear>,
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
}

#[async_trait]
impl Region for BrokenRegion {
    fn partitions(&self) -> u16 {
        self.inner.partitions()
    }

    fn available(&self) -> bool {
        !self.common.away.load(Ordering::SeqCst)
    }

    fn command_timeout(&self) -> Duration {
        self.inner.command_timeout()
    }

    async fn get(&self, key: &Key) -> Result<Read> {
        self.reachable().await?;
        if self.has(Fault::NumbersReads) {
            self.waste_a_number(key).await?;
        }
        let mut read = self.inner.get(&self.key(key)).await?;
        if self.has(Fault::HidesWhatIsBelowTheFloor) {
            let floor = self.inner.state(key.partition(self.partitions())).await?.floor;
            read.value = read.value.filter(|value| unseal(value) >= Some(floor));
        }
        Ok(read)
    }

    async fn get_many(&self, keys: &[Key]) -> Result<ReadMany> {
        let keys: Vec<Key> = keys.iter().map(|key| self.key(key)).collect();
        let mut read = self.inner.get_many(&keys).await?;
        if self.has(Fault::MixesAnswersUp) {
            read.values.reverse();
        }
        Ok(read)
    }

    async fn get_valid(&self, key: &Key) -> Result<Read> {
        self.reachable().await?;
        if self.has(Fault::AnswersWhatIsVoid) {
            return self.inner.get(&self.key(key)).await;
        }
        self.inner.get_valid(&self.key(key)).await
    }

    async fn get_many_valid(&self, keys: &[Key]) -> Result<ReadMany> {
        let keys: Vec<Key> = keys.iter().map(|key| self.key(key)).collect();
        let mut read = self.inner.get_many_valid(&keys).await?;
        match self.fault {
            Fault::AnswersWhatIsVoid => self.inner.get_many(&keys).await,
            Fault::MixesAnswersUp => {
                read.values.reverse();
                Ok(read)
            }
            _ => Ok(read),
        }
    }

    async fn state(&self, partition: u16) -> Result<State> {
        self.reachable().await?;
        let invented = self.has(Fault::InventsPartitions);
        let partition = if invented { partition % self.partitions() } else { partition };
        let state = self.inner.state(partition).await?;
        let time_ms = if self.has(Fault::StopsItsClock) { 1 } else { state.time_ms };
        Ok(State { time_ms, ..state })
    }

    async fn baseline(&self, partition: u16) -> Result<Baseline> {
        self.reachable().await?;
        let mut baseline = self.inner.baseline(partition).await?;
        match self.fault {
            Fault::ForgetsRoom => baseline.tags.truncate(1),
            Fault::StopsItsClock => baseline.state.time_ms = 1,
            _ => {}
        }
        Ok(baseline)
    }

    async fn acquire(&self, key: &Key, mut ask: Acquire) -> Result<Acquired> {
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
        let (token, seq) = (ask.token, self.inner.state(key.partition(self.partitions())).await?.seq);
        Ok(match (self.fault, self.inner.acquire(key, ask).await?) {
            (Fault::GrantsTwice, Acquired::Busy(_)) => Acquired::Granted(Lease { token, seq }),
            (Fault::NeverCools, Acquired::Busy(left)) if left <= GRANT_PACE => {
                Acquired::Granted(Lease { token, seq })
            }
            (Fault::GrantsOtherNumbers, Acquired::Granted(_)) => {
                Acquired::Granted(Lease { token, seq: seq - 1 })
            }
            (_, acquired) => acquired,
        })
    }

    async fn fill(
        &self,
        key: &Key,
        lease: Lease,
        frame: Bytes,
        life: Duration,
        announce: Announce,
    ) -> Result<Filled> {
        self.reachable().await?;
        let (key, life) = (&self.key(key), self.life(life));
        let floor = self.inner.state(key.partition(self.partitions())).await?.floor;
        let announce = match self.fault {
            Fault::NeverAnnounces => Announce::No,
            Fault::SealsFillsWithTheirOwnNumber => Announce::Yes,
            Fault::RefusesInSilence if lease.seq < floor => return Ok(Filled::Refused),
            _ => announce,
        };
        let filled = self.inner.fill(key, lease, frame.clone(), life, announce).await?;
        match (self.fault, filled) {
            (Fault::FillsPastTags, Filled::Refused) if !frame_tags(&frame).is_empty() => {
                let seq = self.inner.put(&[(key.clone(), frame)], life, u64::MAX).await?[0];
                Ok(Filled::Stored { seq })
            }
            (Fault::FillsWithoutLease, Filled::Refused) => {
                let seq = self.inner.put(&[(key.clone(), frame)], life, u64::MAX).await?[0];
                Ok(Filled::Stored { seq })
            }
            (Fault::SealsFillsWithTheirOwnNumber, Filled::Stored { .. }) => {
                Ok(Filled::Stored { seq: lease.seq })
            }
            (Fault::KeepsFilledLeases, Filled::Stored { .. }) => {
                let ttl = Duration::from_secs(3600);
                let ask = Acquire { token: lease.token, ttl, accept: Accept::Nothing };
                self.inner.acquire(key, ask).await.map(|_| filled)
            }
            _ => Ok(filled),
        }
    }

    async fn renew(&self, key: &Key, lease: Lease, ttl: Duration) -> Result<Renewed> {
        if self.has(Fault::RenewsWhatIsNotHeld) {
            return Ok(Renewed::Held);
        }
        self.inner.renew(&self.key(key), lease, ttl).await
    }

    async fn release(&self, key: &Key, lease: Lease) -> Result<()> {
        if self.has(Fault::KeepsReleasedLeases) {
            return Ok(());
        }
        self.inner.release(&self.key(key), lease).await
    }

    async fn put(&self, entries: &[(Key, Bytes)], life: Duration, not_after_ms: u64) -> Result<Vec<u64>> {
        self.reachable().await?;
        let entries: Vec<(Key, Bytes)> =
            entries.iter().map(|(key, frame)| (self.key(key), frame.clone())).collect();
        if self.has(Fault::PublishesEarly) {
            for (key, _) in &entries {
                let partition = key.partition(self.partitions());
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
            && let Some(stored) = self.inner.get(key).await?.value
        {
            let entry = [(key.clone(), stored.slice(SEAL_LEN..))];
            return self.inner.put(&entry, Duration::from_secs(60), u64::MAX).await;
        }
        if let (Fault::AlwaysCools, [key]) = (self.fault, &keys[..]) {
            let token = async_cache_core::backend::Token::from_bytes([0; 16]);
            let ask = Acquire { token, ttl: Duration::from_secs(60), accept: Accept::Nothing };
            self.inner.acquire(key, ask).await?;
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
                for other in (0..self.partitions()).filter(|other| *other != partition) {
                    self.inner.clear(other).await?;
                }
            }
            Fault::ClearsNothing => {
                let key = (0..).map(|n: u32| Key::from_encoded(&n.to_be_bytes()));
                let mut keys = key.filter(|key| key.partition(self.partitions()) == partition);
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
            let mut keys = key.filter(|key| key.partition(self.partitions()) == partition);
            return Ok(self.inner.invalidate(&[keys.next().unwrap()]).await?[0]);
        }
        let first = Tags::new(tags.iter().take(1))?;
        let tags = if self.has(Fault::TakesOneTag) { &first } else { tags };
        self.inner.invalidate_tags(partition, tags).await
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
