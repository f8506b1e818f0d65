//! One node and its database. Its callers and background tasks run on threads.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use shuttle::future::block_on;
use shuttle::sync::atomic::AtomicU64;
use shuttle::sync::atomic::Ordering::SeqCst;
use shuttle::sync::mpsc::Receiver;
use shuttle::thread::{self, JoinHandle};

use crate::api::builder::TieredCacheBuilder;
use crate::backend::{
    Accept, Acquire, Announce, BusEvent, Entry, Fill, Filled, Lease, Listener, LocalBackend,
};
use crate::changes::{intent, send};
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::inner::Inner;
use crate::liveness::heartbeat::resync_all;
use crate::liveness::partition::Partition;
use crate::local::flight::{AnsweredBy, Landed};
use crate::local::l1::{NewEntry, new_entry};
use crate::local::lead::{self, Entered, Lead};
use crate::local::request::{CacheMode, FirstTier, LookupRequest};
use crate::lookup::progress::{self, Progress, Seen};
use crate::lookup::step::{Action, Basis, Learnt, Reply};
use crate::lookup::{lease, one};
use crate::options::{Options, StoreOptions};
use crate::schedules::Verdict;
use crate::schedules::server::{Map, Server, TIME_MS, Tier};

/// How long a flight may take. It is longer than every step of the clock here, so that no flight is overdue.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) type Events = Receiver<Option<BusEvent>>;

pub(super) struct Cache {
    pub(super) inner: Arc<Inner<u64>>,
    pub(super) key: Key,
    pub(super) verdict: Verdict,
    /// The database: one value, whose number is its version.
    pub(super) source: AtomicU64,
    pub(super) loads: AtomicU64,
    /// Versions below this one were invalidated.
    pub(super) gone: AtomicU64,
    /// The number of begun and of ended invalidations together. It is odd during an invalidation.
    epoch: AtomicU64,
    leading: std::sync::Mutex<HashSet<u64>>,
}

/// The end of a flight: the version, and the entry that L1 is offered.
type End = (u64, Option<Entry<u64>>);

impl Cache {
    /// A cache without a fleet.
    pub(super) fn alone(off: Option<Mutant>) -> Arc<Self> {
        Self::of(TieredCacheBuilder::new().l1(Map::default()), off)
    }

    /// A node that serves, and whose L1 holds version 1.
    pub(super) fn warm(off: Option<Mutant>) -> (Arc<Self>, Arc<Server>, Events) {
        let (cache, server, events) = Self::cold(off);
        assert_eq!(cache.get(), 1);
        (cache, server, events)
    }

    /// A node that serves.
    pub(super) fn cold(off: Option<Mutant>) -> (Arc<Self>, Arc<Server>, Events) {
        let (server, events) = Server::start();
        let cache = Self::of(TieredCacheBuilder::new().l1(Map::default()).l2(Tier(Arc::clone(&server))), off);
        let now = cache.inner.local.liveness.node.clock.now();
        cache.inner.local.liveness.node.partition(0).unwrap().server_clock.observe(TIME_MS, now, now);
        cache.inner.notify(BusEvent::Subscribed);
        cache.resync();
        (cache, server, events)
    }

    fn of(builder: TieredCacheBuilder<u64, u64>, off: Option<Mutant>) -> Arc<Self> {
        let builder = match off {
            Some(mutant) => builder.mutant(mutant),
            None => builder,
        };
        let (inner, early_events) = builder.assemble().unwrap();
        let inner = Arc::new(inner);
        early_events.open(&inner);
        Arc::new(Self {
            inner,
            key: Key::encode("key").unwrap(),
            verdict: Verdict::default(),
            source: AtomicU64::new(1),
            loads: AtomicU64::new(0),
            gone: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            leading: std::sync::Mutex::default(),
        })
    }

    pub(super) fn partition(&self) -> &Partition {
        self.inner.local.liveness.node.partition_of(self.key.as_bytes()).1
    }

    pub(super) fn l1(&self) -> &dyn LocalBackend<u64> {
        self.inner.local.engine().unwrap()
    }

    pub(super) fn hit(&self) -> Option<u64> {
        self.inner.local.hit(self.key.as_bytes()).map(|answer| *answer.unwrap())
    }

    /// Leads a flight of the key, or joins one.
    pub(super) fn enter(&self) -> Entered<u64> {
        let request = LookupRequest {
            key: self.key.clone(),
            min_stamp: None,
            mode: CacheMode::Use,
            absent_ok: false,
            first_tier: FirstTier::L1,
            background: false,
            options: Options::default(),
        };
        lead::enter(&self.inner.local, &Arc::new(request), LIMIT, false)
    }

    /// A lookup with a loader.
    pub(super) fn get(&self) -> u64 {
        if let Some(version) = self.hit() {
            return version;
        }
        loop {
            let epoch = self.epoch.load(SeqCst);
            match self.enter() {
                Entered::Join(flight, _) => {
                    if let Landed::Answer(outcome) = block_on(flight.landed()) {
                        return *outcome.unwrap().unwrap();
                    }
                }
                Entered::Lead(lead) => return self.lead(lead, epoch),
            }
        }
    }

    /// A lookup without a loader. L1 is offered the value of L2.
    pub(super) fn peek(&self) -> Option<u64> {
        self.hit().or_else(|| {
            block_on(one::get(&self.inner, &self.key, None, FirstTier::L1))
                .unwrap()
                .answer
                .map(|version| *version)
        })
    }

    /// Checks that a read that begins now returns nothing older than an invalidation that has ended.
    pub(super) fn demand_current(&self, read: impl FnOnce() -> Option<u64>) {
        let gone = self.gone.load(SeqCst);
        if let Some(version) = read() {
            self.verdict.demand(version >= gone, || format!("version {version} was read, {gone} is due"));
        }
    }

    /// Commits the next version and invalidates the last.
    pub(super) fn change(&self) {
        let version = self.source.fetch_add(1, SeqCst) + 1;
        self.epoch.fetch_add(1, SeqCst);
        self.inner.local.stripes.change_begins(self.inner.local.engine(), self.key.as_bytes());
        self.epoch.fetch_add(1, SeqCst);
        block_on(send::send_invalidate(&self.inner, std::slice::from_ref(&self.key))).unwrap();
        self.gone.fetch_max(version, SeqCst);
    }

    /// A change whose invalidation has an unknown outcome.
    pub(super) fn change_undecided(&self) {
        let (version, keys) = (self.source.fetch_add(1, SeqCst) + 1, std::slice::from_ref(&self.key));
        self.inner.local.stripes.change_begins(self.inner.local.engine(), self.key.as_bytes());
        assert!(block_on(send::send_invalidate(&self.inner, keys)).is_err_and(|error| error.is_temporary()));
        intent::retry_later(&self.inner, keys);
        self.gone.fetch_max(version, SeqCst);
    }

    pub(super) fn resync(&self) {
        let region = &self.inner.remote.as_ref().unwrap().region;
        while block_on(resync_all(&self.inner.local.liveness, &**region)).is_err() {}
    }

    /// Reads the subscriber's socket to its end.
    pub(super) fn listen(self: &Arc<Self>, events: Events) -> JoinHandle<()> {
        self.spawn(move |cache| {
            while let Ok(Some(event)) = events.recv() {
                cache.inner.notify(event);
            }
        })
    }

    pub(super) fn spawn(self: &Arc<Self>, work: impl FnOnce(&Arc<Self>) + Send + 'static) -> JoinHandle<()> {
        let cache = Arc::clone(self);
        thread::spawn(move || work(&cache))
    }

    /// Checks, after the end of all threads, that nothing is left behind and that no check has failed.
    pub(super) fn end(&self) {
        let (in_flight, idle) = (self.inner.local.stripes.in_flight(), self.inner.local.stripes.is_idle());
        self.verdict.demand(in_flight == 0 && idle, || format!("{in_flight} flights are left behind"));
        self.verdict.pronounce();
    }

    fn lead(&self, mut lead: Lead<u64>, epoch: u64) -> u64 {
        // If no invalidation began meanwhile, it is known between which two invalidations this leader loads.
        // In a fleet, the reply to an invalidation and its message on the bus each allow another leader.
        let counted = self.inner.remote.is_none() && epoch % 2 == 0 && self.epoch.load(SeqCst) == epoch;
        if counted {
            let alone = self.leading.lock().unwrap().insert(epoch);
            self.verdict.demand(alone, || format!("two lead in epoch {epoch}"));
        }
        let mut progress = Progress::begin(&self.inner, &lead.request, false, false);
        let mut action = progress.learn(&self.inner, &lead, progress::in_l1(&self.inner, &lead));
        if action == Action::ReadL2 {
            let seen = block_on(progress::in_l2(&self.inner, &lead));
            action = progress.learn(&self.inner, &lead, seen);
        }
        if let Action::Acquire(accept) = action {
            action = self.pursue(&mut lead, &mut progress, accept);
        }
        let (version, entry) = match (action, progress.answer()) {
            (Action::Answer(by), Some(entry)) => {
                (version_of(entry), (by == AnsweredBy::L2).then(|| entry.clone()))
            }
            (Action::Load(Basis::Leased(lease)), _) => self.fill(lease),
            (Action::Load(Basis::Alone), _) => self.load(lead.ticket.seq),
            (Action::Load(_), _) => (self.load(0).0, None),
            _ => unreachable!("the fleet answers"),
        };
        if counted {
            self.leading.lock().unwrap().remove(&epoch);
        }
        lead.land(Ok(Some(Arc::new(version))), entry);
        version
    }

    fn pursue(&self, lead: &mut Lead<u64>, progress: &mut Progress<u64>, mut accept: Accept) -> Action {
        let (inner, key) = (&*self.inner, &self.key);
        let l2 = inner.remote.as_ref().unwrap();
        let slot = inner.local.stripes.listen(key, &Arc::default());
        let decided = loop {
            lead.ticket = inner.local.stripes.ticket_for(key, self.partition(), &slot);
            let asked = inner.local.liveness.node.clock.now();
            let seen = if inner.local.liveness.is_unsent(key.as_bytes()) {
                Seen::bare(Learnt::Lease(Reply::Unsent))
            } else {
                let token = inner.local.liveness.node.next_token();
                let ask = Acquire { token, ttl: Duration::from_secs(3), accept };
                let answer = block_on(l2.region.acquire_one(key, ask));
                lease::reply(inner, lead, None, asked, answer)
            };
            match progress.learn(inner, lead, seen) {
                Action::Acquire(next) => accept = next,
                Action::Wait(_) => drop(block_on(slot.woken())),
                decided => break decided,
            }
        };
        inner.local.stripes.unlisten(key, &slot);
        decided
    }

    fn fill(&self, lease: Lease) -> End {
        let region = &self.inner.remote.as_ref().unwrap().region;
        let (version, entry) = self.load(lease.seq);
        let term = StoreOptions::default().draw_term(false);
        let frame = self
            .inner
            .remote
            .as_ref()
            .unwrap()
            .frame_of(&self.key, entry.as_ref().unwrap(), term, Duration::ZERO)
            .unwrap();
        let filled = block_on(region.fill_one(Fill {
            key: self.key.clone(),
            lease,
            frame,
            life: term.kept(),
            announce: Announce::No,
        }))
        .unwrap();
        (version, entry.filter(|_| filled != Filled::Refused))
    }

    fn load(&self, seq: u64) -> End {
        self.loads.fetch_add(1, SeqCst);
        let version = self.source.load(SeqCst);
        (version, Some(self.entry(version, seq)))
    }

    pub(super) fn entry(&self, version: u64, seq: u64) -> Entry<u64> {
        let term = StoreOptions::default().draw_term(false);
        let (value, tags) = (Some(Arc::new(version)), &Tags::default());
        new_entry(&self.inner.local.liveness.node, NewEntry { value, term, ahead: Duration::ZERO, seq, tags })
    }
}

fn version_of(entry: &Entry<u64>) -> u64 {
    **entry.value.as_ref().unwrap()
}

pub(super) fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    let threads: Vec<_> = threads.into_iter().collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
