//! The stripes of L1. There are 1,024 of them. Each is a mutex over the state that decides whether a value
//! may still be stored: the current flights, and the changes seen.
//!
//! The stripes prevent this race on one key:
//!
//! 1. a load reads version 1 from the database;
//! 2. version 2 is committed and the key is invalidated: the key leaves L1;
//! 3. the load ends, and stores version 1.
//!
//! The load takes a [`Ticket`] before it sends its first command. In step 2 the invalidation locks the
//! stripe, raises its counts, and removes the entry and the flight. So gets that start later do not join the
//! load. In step 3 the ticket no longer matches. The callers that waited for the load get its value, but L1
//! does not store it. A hit locks no stripe.

use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, atomic};

use xxhash_rust::xxh3::xxh3_64;

use crate::backend::{Entry, Expiry, LocalBackend, Phase, Tick};
use crate::faults::mutant::{Mutant, Switch};
use crate::faults::planted;
use crate::format::key::Key;
use crate::liveness::partition::Partition;
use crate::local::flight::{Flight, Ticket};
use crate::local::request::{CacheMode, LookupRequest};
use crate::local::stripe::{
    Admitted, ByKey, Postponed, Recent, Remembered, Stripe, Wake, WakeSlot, key_hash,
};
use crate::sync::{AtomicUsize, Mutex, Notify, Ordering};

/// Under a scheduler each stripe costs time in every schedule. With a single stripe all keys are neighbours,
/// as the scenarios need.
const STRIPES: usize = if cfg!(all(test, shuttle)) { 1 } else { 1024 };

#[derive(Debug)]
pub(crate) struct Stripes<V> {
    stripes: Box<[Mutex<Stripe<V>>]>,
    in_flight: AtomicUsize,
    /// No entry of L1 ends before this time.
    first_end: atomic::AtomicU64,
    faults: Switch,
}

/// How a lookup continues after a miss.
#[derive(Debug)]
pub(crate) enum Enter<V> {
    /// This caller leads. The key has no flight, or the result of its flight may be too old for this caller.
    Lead(Arc<Flight<V>>, Ticket),
    /// Another caller leads the flight.
    Join(Arc<Flight<V>>),
}

/// A value for L1, with the ticket that decides whether it may be stored.
type Offer<'a, V> = (&'a dyn LocalBackend<V>, &'a Partition, Ticket, Entry<V>);

impl<V: 'static> Stripes<V> {
    pub(crate) fn new(faults: Switch) -> Self {
        let stripe = || {
            Mutex::new(Stripe {
                local: 0,
                remote: 0,
                last_seq: 0,
                recent: Recent::default(),
                plain: 0,
                flights: ByKey::default(),
                waiting: ByKey::default(),
                postponed: Remembered::default(),
                failed: Remembered::default(),
                faults,
                #[cfg(feature = "testing")]
                checked: None,
            })
        };
        let stripes = (0..STRIPES).map(|_| stripe()).collect();
        let first_end = atomic::AtomicU64::new(u64::MAX);
        Self { stripes, in_flight: AtomicUsize::new(0), first_end, faults }
    }

    pub(super) fn stripe(&self, key: &[u8]) -> &Mutex<Stripe<V>> {
        &self.stripes[xxh3_64(key) as usize % STRIPES]
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A ticket for a read that other callers do not join. It must be taken before the command is sent.
    pub(crate) fn ticket(&self, key: &[u8], partition: &Partition) -> Ticket {
        self.stripe(key).lock().ticket(partition)
    }

    /// A ticket for the next question to the fleet. An older wake-up is dropped.
    pub(crate) fn ticket_for(&self, key: &Key, partition: &Partition, slot: &WakeSlot) -> Ticket {
        let stripe = self.stripe(key.as_bytes()).lock();
        slot.forget();
        stripe.ticket(partition)
    }

    /// Notes that a plain read has found a value. `beat` is the number of the next heartbeat.
    pub(crate) fn read_plainly(&self, key: &[u8], beat: u64) {
        let mut stripe = self.stripe(key).lock();
        stripe.plain = stripe.plain.max(beat);
    }

    /// Whether the entry of this key comes from a server memory that contained all changes known to this
    /// node. That holds if no plain read has brought the entry since the heartbeat `proven`. The echo of that
    /// heartbeat had the expected number. Without this check:
    ///
    /// 1. The key is invalidated here: change 9; 2. an older memory replaces the server's memory; 3. a plain
    ///    read finds the old value, and L1 stores it; 4. a get carries a stamp of change 9, which this node
    ///    has applied. The old value answers.
    pub(crate) fn vouches(&self, key: &[u8], proven: u64) -> bool {
        self.stripe(key).lock().plain <= proven
    }

    /// Joins the flight of the request's key if `joinable` allows it. Otherwise `begin` starts a new flight in
    /// its place. A flight of an older generation is never joined.
    pub(crate) fn enter(
        &self,
        request: &LookupRequest,
        partition: &Partition,
        joinable: impl FnOnce(&Flight<V>) -> bool,
        begin: impl FnOnce(Ticket) -> Flight<V>,
    ) -> Enter<V> {
        let mut stripe = self.stripe(request.key.as_bytes()).lock();
        let ticket = stripe.ticket(partition);
        let fresh = || Arc::new(begin(ticket));
        let flight = match stripe.flights.entry(request.key.clone()) {
            Slot::Occupied(slot)
                if request.mode != CacheMode::Reload
                    && slot.get().generation == ticket.generation
                    && joinable(slot.get()) =>
            {
                return Enter::Join(Arc::clone(slot.get()));
            }
            Slot::Occupied(mut slot) => {
                slot.insert(fresh());
                Arc::clone(slot.get())
            }
            Slot::Vacant(slot) => {
                self.in_flight.fetch_add(1, Ordering::Relaxed);
                Arc::clone(slot.insert(fresh()))
            }
        };
        Enter::Lead(flight, ticket)
    }

    /// Offers a value to L1.
    ///
    /// L1 may store the value if nothing has changed in the stripe since the ticket was taken. L1 may also
    /// store it if the value's own number shows that it reflects every change of its key received since.
    pub(crate) fn admit(
        &self,
        l1: &dyn LocalBackend<V>,
        key: &Key,
        partition: &Partition,
        ticket: Ticket,
        entry: Entry<V>,
    ) -> Admitted {
        if planted!(InsertUnlocked) {
            if !self.unmoved(key.as_bytes(), ticket, entry.seq) {
                return Admitted::Rejected;
            }
            l1.insert(key, Entry { generation: ticket.generation, ..entry });
            return Admitted::Stored;
        }
        let mut stripe = self.stripe(key.as_bytes()).lock();
        let ends = entry.life.ends;
        let admitted = stripe.admit(l1, key, partition, ticket, entry);
        self.note_end(ends);
        admitted
    }

    /// Notes the end of an entry of L1. It is called after the entry is stored. So a sweep finds either the
    /// entry or its end.
    pub(crate) fn note_end(&self, ends: Tick) {
        if ends.0 < self.first_end.load(Ordering::SeqCst) {
            self.first_end.fetch_min(ends.0, Ordering::SeqCst);
        }
    }

    /// No entry of L1 ends before this time.
    pub(crate) fn first_end(&self) -> Tick {
        Tick(self.first_end.load(Ordering::SeqCst))
    }

    /// Forgets the noted ends. The sweep that follows checks all entries, and notes their ends again.
    pub(crate) fn forget_ends(&self) {
        self.first_end.store(u64::MAX, Ordering::SeqCst);
    }

    /// Whether a value with number `seq` reflects every change of this key that this node has received since
    /// the ticket was taken. The answer may also be `false` because of a change of another key in the stripe,
    /// if it began on this node, or if too many changes came since to remember their keys.
    pub(crate) fn unmoved(&self, key: &[u8], ticket: Ticket, seq: u64) -> bool {
        self.stripe(key).lock().unmoved(key, ticket, seq)
    }

    /// Notes that a refresh of the key has failed: in the entry of L1, or beside it if L1 has no entry. The
    /// entry is replaced under the stripe's lock, so that no change can remove it meanwhile.
    pub(crate) fn postpone(&self, l1: Option<&dyn LocalBackend<V>>, key: &Key, now: Tick, retry: Tick) {
        let mut stripe = self.stripe(key.as_bytes()).lock();
        match l1.and_then(|l1| Some((l1, l1.get(key.as_bytes())?))) {
            Some((l1, entry)) => l1.insert(key, Entry { life: entry.life.failed(retry), ..entry }),
            None => {
                let before = stripe.postponed.of(key.as_bytes()).map_or(0, |before| before.failures);
                stripe.postponed.note(key, now, Postponed { retry, failures: before.saturating_add(1) });
            }
        }
    }

    /// The given life of a value, with the failed refreshes that were noted while L1 had no entry of the key.
    pub(crate) fn with_postponed(&self, key: &[u8], life: Expiry) -> Expiry {
        let stripe = self.stripe(key).lock();
        stripe.postponed.of(key).map_or(life, |of| Expiry { retry: of.retry, failures: of.failures, ..life })
    }

    /// Offers the value of a flight to L1 and removes the flight, in one step. A later caller finds either
    /// the value or the flight. If the key has been loaded, its earlier failures no longer count.
    pub(crate) fn land(
        &self,
        key: &Key,
        flight: &Arc<Flight<V>>,
        loaded: bool,
        offer: Option<Offer<'_, V>>,
    ) -> Option<Admitted> {
        let mut stripe = self.stripe(key.as_bytes()).lock();
        if loaded {
            stripe.postponed.forget(key.as_bytes());
            stripe.failed.forget(key.as_bytes());
        }
        if planted!(LandInTwoSteps) {
            self.remove_flight(&mut stripe, key.as_bytes(), true);
            drop(stripe);
            return offer.map(|(l1, partition, ticket, entry)| self.admit(l1, key, partition, ticket, entry));
        }
        let admitted = offer.map(|(l1, partition, ticket, entry)| {
            let ends = entry.life.ends;
            let admitted = stripe.admit(l1, key, partition, ticket, entry);
            self.note_end(ends);
            admitted
        });
        if flight.mode == CacheMode::Reload {
            // Loads that began before this refresh must not replace its value with their older one.
            stripe.local += 1;
        }
        let ours = stripe.flights.get(key.as_bytes()).is_some_and(|current| Arc::ptr_eq(current, flight));
        let ours = ours || planted!(LandAny);
        self.remove_flight(&mut stripe, key.as_bytes(), ours);
        admitted
    }

    /// A change of this key begins on this node. The key leaves L1, its flight is removed, and tickets become
    /// invalid. The number of the change is not known yet.
    pub(crate) fn change_begins(&self, l1: Option<&dyn LocalBackend<V>>, key: &[u8]) {
        self.begin(l1, key, |l1| l1.remove(key));
    }

    /// An expiry of this key begins on this node. It has the effects of `change_begins`, except that the entry of L1
    /// expires and stays.
    pub(crate) fn expiry_begins(&self, l1: Option<&dyn LocalBackend<V>>, key: &Key, now: Tick) {
        self.begin(l1, key.as_bytes(), |l1| expire_in(l1, key, u64::MAX, now));
    }

    fn begin(&self, l1: Option<&dyn LocalBackend<V>>, key: &[u8], apply: impl FnOnce(&dyn LocalBackend<V>)) {
        let mut stripe = self.stripe(key).lock();
        stripe.failed.forget(key);
        if !self.faults.is(Mutant::NoStamp) {
            stripe.local += 1;
        }
        if let Some(l1) = l1 {
            apply(l1);
            stripe.insert_checked(l1);
        }
        self.remove_flight(&mut stripe, key, !self.faults.is(Mutant::JoinAfterInvalidation));
    }

    /// L2 has executed a change of this key as number `seq`. An entry and a flight that do not reflect it are
    /// removed.
    ///
    /// This is needed for this node's own changes, too, after the reply and when the bus reports them:
    ///
    /// 1. `change_begins` removes the key from L1; 2. a get takes a new ticket and reads the old value from
    ///    L2;
    /// 3. L2 executes the change; 4. the get stores the old value. Only a second removal after step 3
    ///    corrects that.
    pub(crate) fn changed(&self, l1: Option<&dyn LocalBackend<V>>, key: &[u8], seq: u64) {
        self.apply(l1, key, seq, |l1| {
            if l1.get(key).is_some_and(|entry| entry.seq < seq) {
                l1.remove(key);
            }
        });
    }

    /// L2 has executed an expiry of this key as number `seq`. An entry that does not reflect it expires and stays.
    /// Otherwise it has the effects of `changed`.
    pub(crate) fn expired(&self, l1: Option<&dyn LocalBackend<V>>, key: &Key, seq: u64, now: Tick) {
        self.apply(l1, key.as_bytes(), seq, |l1| expire_in(l1, key, seq, now));
    }

    fn apply(
        &self,
        l1: Option<&dyn LocalBackend<V>>,
        key: &[u8],
        seq: u64,
        apply: impl FnOnce(&dyn LocalBackend<V>),
    ) {
        let mut stripe = self.stripe(key).lock();
        if stripe.failed.of(key).is_some_and(|failed| failed.seq < seq) {
            stripe.failed.forget(key);
        }
        if !self.faults.is(Mutant::NoStamp) {
            stripe.remote += 1;
            stripe.last_seq = stripe.last_seq.max(seq);
            stripe.recent.note(key_hash(key), seq);
        }
        if planted!(LastNotHighest) {
            stripe.last_seq = seq;
        }
        if let Some(l1) = l1 {
            apply(l1);
            stripe.insert_checked(l1);
        }
        let outdated = stripe.flights.get(key).is_some_and(|flight| flight.seq() < seq);
        self.remove_flight(&mut stripe, key, outdated && !self.faults.is(Mutant::JoinAfterInvalidation));
    }

    fn remove_flight(&self, stripe: &mut Stripe<V>, key: &[u8], condition: bool) {
        if condition && stripe.flights.remove(key).is_some() {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Registers a waiter for wake-ups of this key. It must be called before the command that tells L2 of the
    /// waiter.
    ///
    /// One waiter may wait for many keys. It then gives the same `notify` for each key.
    pub(crate) fn listen(&self, key: &Key, notify: &Arc<Notify>) -> Arc<WakeSlot> {
        let slot = Arc::new(WakeSlot::new(notify));
        self.stripe(key.as_bytes()).lock().waiting.entry(key.clone()).or_default().push(Arc::clone(&slot));
        slot
    }

    pub(crate) fn unlisten(&self, key: &Key, slot: &Arc<WakeSlot>) {
        let mut stripe = self.stripe(key.as_bytes()).lock();
        if let Slot::Occupied(mut slots) = stripe.waiting.entry(key.clone()) {
            slots.get_mut().retain(|other| !Arc::ptr_eq(other, slot));
            if slots.get().is_empty() {
                slots.remove();
            }
        }
    }

    /// Wakes all waiters of this key on this node.
    pub(crate) fn wake(&self, key: &[u8], wake: &Wake) {
        if self.faults.is(Mutant::LoseWakes) {
            return;
        }
        let stored = matches!(wake, Wake::Stored);
        let wake = if stored && self.faults.is(Mutant::LargeWakesFail) { &Wake::Ended } else { wake };
        let stripe = self.stripe(key).lock();
        for slot in stripe.waiting.get(key).into_iter().flatten() {
            slot.tell(wake.clone());
        }
    }

    /// Tells all waiters on this node that their wake-up may have been lost.
    pub(crate) fn bus_lost(&self) {
        for stripe in &self.stripes {
            let stripe = stripe.lock();
            for slot in stripe.waiting.values().flatten() {
                slot.tell_of_loss();
            }
        }
    }

    /// Whether no flight and no waiter is left.
    #[cfg(feature = "testing")]
    pub(crate) fn is_idle(&self) -> bool {
        self.stripes.iter().all(|stripe| {
            let stripe = stripe.lock();
            stripe.flights.is_empty() && stripe.waiting.is_empty()
        })
    }
}

/// Expires the entry of a key, if it does not reflect change `seq`. An entry that cannot be a fallback is removed. The
/// caller holds the lock of the stripe, so that no change can remove the entry meanwhile.
fn expire_in<V: 'static>(l1: &dyn LocalBackend<V>, key: &Key, seq: u64, now: Tick) {
    let Some(entry) = l1.get(key.as_bytes()).filter(|entry| entry.seq < seq) else { return };
    let life = entry.life.expired(now);
    match life.phase(now) {
        Phase::Expired => l1.remove(key.as_bytes()),
        _ if life == entry.life => {}
        _ => l1.insert(key, Entry { life, ..entry }),
    }
}
