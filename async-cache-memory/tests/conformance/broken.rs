//! Tiers with one fault each.

mod region;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use async_cache_core::Result;
use async_cache_core::backend::{Backend, BusEvent, Listener, Region, RegionSpec};
use async_cache_core::testing::conformance::{Hook, Subject};
use async_cache_memory::MemoryBackend;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use region::BrokenRegion;

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
    ExpiresByInvalidation,
    ExpiresNothing,
    ConfirmsWhatIsExpired,
    FillsPastExpiredTags,
    KeepsExpiredTagsToItself,
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
