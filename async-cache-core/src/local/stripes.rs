//! The stripes of L1: 1,024 of them, each a mutex over what decides whether a value may still be
//! stored: the loads under way and the changes seen.
//!
//! The race it prevents, on one key:
//!
//! 1. a load reads the database: version 1;
//! 2. version 2 is committed and the key invalidated: L1 is emptied;
//! 3. the load ends and stores version 1.
//!
//! The load takes a [`Ticket`] before it sends its first command. In step 2 the invalidation locks
//! the stripe, moves its counts, removes the entry and forgets the load, so that gets which start
//! later do not join it. In step 3 the ticket no longer matches, and the value goes to those who
//! waited for it, but not into L1. A hit takes no stripe at all.

use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, atomic};

use xxhash_rust::xxh3::xxh3_64;

use crate::backend::{Entry, Expiry, LocalBackend, Tick};
use crate::faults::mutant::{Mutant, Switch};
use crate::faults::planted;
use crate::format::key::Key;
use crate::liveness::partition::Partition;
use crate::local::approach::{Approach, Reuse};
use crate::local::flight::Flight;
use crate::local::postponed::Postponed;
use crate::local::stripe::{Admitted, ByKey, Stripe};
use crate::local::ticket::Ticket;
use crate::local::waiters::{Wake, WakeSlot};
use crate::sync::{AtomicUsize, Mutex, Notify, Ordering};

/// Under a scheduler each costs time in every schedule, and neighbours are wanted.
const STRIPES: usize = if cfg!(all(test, shuttle)) { 1 } else { 1024 };

#[derive(Debug)]
pub(crate) struct Stripes<V> {
    stripes: Box<[Mutex<Stripe<V>>]>,
    in_flight: AtomicUsize,
    /// No entry of L1 ends before this.
    first_end: atomic::AtomicU64,
    faults: Switch,
}

/// How a lookup that missed goes on.
#[derive(Debug)]
pub(crate) enum Enter<V> {
    /// This caller leads: nobody is at it, or only someone whose result may be too old.
    Lead(Arc<Flight<V>>, Ticket),
    /// Another caller is at it.
    Join(Arc<Flight<V>>),
}

/// A value for L1, and what decides whether it may be stored.
type Offer<'a, V> = (&'a dyn LocalBackend<V>, &'a Partition, Ticket, Entry<V>);

impl<V: 'static> Stripes<V> {
    pub(crate) fn new(faults: Switch) -> Self {
        let stripe = || {
            Mutex::new(Stripe {
                local: 0,
                remote: 0,
                last_seq: 0,
                plain: 0,
                flights: ByKey::default(),
                waiting: ByKey::default(),
                postponed: Postponed::default(),
                faults,
                #[cfg(feature = "testing")]
                checked: None,
            })
        };
        let stripes = (0..STRIPES).map(|_| stripe()).collect();
        let first_end = atomic::AtomicU64::new(u64::MAX);
        Self { stripes, in_flight: AtomicUsize::new(0), first_end, faults }
    }

    fn stripe(&self, key: &[u8]) -> &Mutex<Stripe<V>> {
        &self.stripes[xxh3_64(key) as usize % STRIPES]
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A ticket for a read that nobody joins. To be taken before the command is sent.
    pub(crate) fn ticket(&self, key: &[u8], partition: &Partition) -> Ticket {
        self.stripe(key).lock().ticket(partition)
    }

    /// A ticket for the next question to the fleet; forgets a wake-up that came before it.
    pub(crate) fn ticket_for(&self, key: &Key, partition: &Partition, slot: &WakeSlot) -> Ticket {
        let stripe = self.stripe(key.as_bytes()).lock();
        slot.forget();
        stripe.ticket(partition)
    }

    /// A plain read has found something; `beat` is the next heartbeat to be sent.
    pub(crate) fn read_plainly(&self, key: &[u8], beat: u64) {
        let mut stripe = self.stripe(key).lock();
        stripe.plain = stripe.plain.max(beat);
    }

    /// Whether what L1 holds of this key is of a memory that had come as far as this node knows: no plain
    /// read has brought it since the heartbeat `proven`, whose echo brought the right number.
    ///
    /// 1. the key is invalidated here: change 9; 2. the server's memory becomes an older one; 3. a plain
    ///    read finds the old value, and L1 keeps it; 4. a get insists on change 9, which has been applied.
    pub(crate) fn vouches(&self, key: &[u8], proven: u64) -> bool {
        self.stripe(key).lock().plain <= proven
    }

    /// Joins the flight of this key if `joinable` says so, or else starts one in its place.
    /// A flight from before the last flush or clear is never joined.
    pub(crate) fn enter(
        &self,
        key: &Key,
        partition: &Partition,
        (approach, now, min_seq): (Approach, Tick, u64),
        joinable: impl FnOnce(&Flight<V>) -> bool,
    ) -> Enter<V> {
        let mut stripe = self.stripe(key.as_bytes()).lock();
        let ticket = stripe.ticket(partition);
        let fresh = || Arc::new(Flight::new(approach, now, ticket, min_seq));
        let flight = match stripe.flights.entry(key.clone()) {
            Slot::Occupied(slot)
                if approach.reuse != Reuse::Nothing
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
    /// It may be stored if nothing has changed in the stripe since the ticket was taken, or if
    /// every change heard since is one that the value reflects by its own number.
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

    /// Notes when an entry ends that L1 holds: after it is stored, so that who looks for dead ones sees it or this.
    pub(crate) fn note_end(&self, ends: Tick) {
        if ends.0 < self.first_end.load(Ordering::SeqCst) {
            self.first_end.fetch_min(ends.0, Ordering::SeqCst);
        }
    }

    /// No entry of L1 ends before.
    pub(crate) fn first_end(&self) -> Tick {
        Tick(self.first_end.load(Ordering::SeqCst))
    }

    /// All entries are about to be looked at, and their ends noted anew.
    pub(crate) fn forget_ends(&self) {
        self.first_end.store(u64::MAX, Ordering::SeqCst);
    }

    /// Whether no change of this key, as far as this node has heard, came between the taking of a
    /// ticket and now that a value with sequence number `seq` does not reflect. A change of another
    /// key in the stripe may deny it, too.
    pub(crate) fn unmoved(&self, key: &[u8], ticket: Ticket, seq: u64) -> bool {
        self.stripe(key).lock().unmoved(ticket, seq)
    }

    /// Notes that refreshing a key has failed: at what L1 holds of it, or else beside it. What L1 holds is
    /// replaced under the stripe's lock, so that it cannot have been removed meanwhile.
    pub(crate) fn postpone(&self, l1: Option<&dyn LocalBackend<V>>, key: &Key, (now, retry): (Tick, Tick)) {
        let mut stripe = self.stripe(key.as_bytes()).lock();
        match l1.and_then(|l1| Some((l1, l1.get(key.as_bytes())?))) {
            Some((l1, entry)) => l1.insert(key, Entry { life: entry.life.failed(retry), ..entry }),
            None => stripe.postponed.note(key, now, retry),
        }
    }

    /// A key has been loaded: what failed before is over.
    pub(crate) fn loaded(&self, key: &[u8]) {
        self.stripe(key).lock().postponed.forget(key);
    }

    /// A life, with the refreshes of the key that have failed here while L1 did not hold it.
    pub(crate) fn with_postponed(&self, key: &[u8], life: Expiry) -> Expiry {
        self.stripe(key).lock().postponed.of(key).map_or(life, |(retry, failures)| Expiry {
            retry,
            failures,
            ..life
        })
    }

    /// Offers a flight's value to L1 and takes the flight out, in one step: whoever comes later
    /// finds the one or the other.
    pub(crate) fn land(
        &self,
        key: &Key,
        flight: &Arc<Flight<V>>,
        offer: Option<Offer<'_, V>>,
    ) -> Option<Admitted> {
        let mut stripe = self.stripe(key.as_bytes()).lock();
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
        if flight.reuse == Reuse::Nothing {
            // Loads begun before this refresh must not put their older value over it.
            stripe.local += 1;
        }
        let ours = stripe.flights.get(key.as_bytes()).is_some_and(|current| Arc::ptr_eq(current, flight));
        let ours = ours || planted!(LandAny);
        self.remove_flight(&mut stripe, key.as_bytes(), ours);
        admitted
    }

    /// A change of this key begins here: forget everything about it, whatever its number will be.
    pub(crate) fn change_begins(&self, l1: Option<&dyn LocalBackend<V>>, key: &[u8]) {
        let mut stripe = self.stripe(key).lock();
        if !self.faults.is(Mutant::NoStamp) {
            stripe.local += 1;
        }
        if let Some(l1) = l1 {
            l1.remove(key);
            stripe.insert_checked(l1);
        }
        self.remove_flight(&mut stripe, key, !self.faults.is(Mutant::JoinAfterInvalidation));
    }

    /// A change of this key has been executed as number `seq`: forget what does not reflect it.
    ///
    /// Needed for our own changes too, after the reply and from the bus:
    ///
    /// 1. `change_begins` empties L1; 2. a get reads the old value from L2 with a new ticket;
    /// 3. the change is executed; 4. the get stores the old value. Only a second removal, after 3, undoes it.
    pub(crate) fn changed(&self, l1: Option<&dyn LocalBackend<V>>, key: &[u8], seq: u64) {
        let mut stripe = self.stripe(key).lock();
        if !self.faults.is(Mutant::NoStamp) {
            stripe.remote += 1;
            stripe.last_seq = stripe.last_seq.max(seq);
        }
        if planted!(LastNotHighest) {
            stripe.last_seq = seq;
        }
        if let Some(l1) = l1 {
            if l1.get(key).is_some_and(|entry| entry.seq < seq) {
                l1.remove(key);
            }
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

    /// Registers for wake-ups of this key. To be done before the command that notes us as waiting.
    ///
    /// One waiter may listen for many keys by giving the same `notify` for each.
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

    /// Tells everyone here who waits for this key.
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

    /// Tells everyone here who waits that what they wait for may have been lost.
    pub(crate) fn bus_lost(&self) {
        for stripe in &self.stripes {
            let stripe = stripe.lock();
            for slot in stripe.waiting.values().flatten() {
                slot.tell_of_loss();
            }
        }
    }

    /// Whether nothing is left behind by loads and waits.
    #[cfg(feature = "testing")]
    pub(crate) fn is_idle(&self) -> bool {
        self.stripes.iter().all(|stripe| {
            let stripe = stripe.lock();
            stripe.flights.is_empty() && stripe.waiting.is_empty()
        })
    }
}
