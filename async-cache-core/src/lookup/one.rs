//! The journey of one lookup.
//!
//! 1. [`probe`]: L1, if the node's serving lease is live. A hit ends here, synchronously.
//! 2. [`flight`]: one caller per key leads, the others wait for what it finds.
//! 3. [`fetch`]: the leader reads L2, unless the [`odds`] are that it has nothing.
//! 4. [`lease`]: L2 has nothing: one node of the fleet gets the lease, the others wait.
//! 5. [`load`]: the loader runs, in a task of its own, under a deadline.
//! 6. [`fill`]: the value goes to L2, then to L1, unless an invalidation has met it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::backend::{Accept, Entry, Tick};
use crate::error::{ErrorKind, Result};
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::inner::Shared;
use crate::liveness::stamp::Stamp;
use crate::local::approach::{Answer, Approach, Joins, Reuse, Want};
use crate::local::flight::{AnsweredBy, Entered, Flight, Lead};
use crate::local::probe::Probe;
use crate::lookup::loader::{BoxLoader, Wish};
use crate::lookup::outage::{Recourse, recourse};
use crate::lookup::stale::{Aged, Seek, aged};
use crate::lookup::wait::{Role, Waited};
use crate::lookup::{load, reentry};
use crate::observe::{StaleCause, trace};
use crate::options::Options;
use crate::remote::read::Fetched;

/// A lookup with a loader, besides the key.
pub(crate) struct Plan<V> {
    pub(crate) aim: Aim,
    pub(crate) loader: BoxLoader<V>,
}

/// What a lookup with a loader wants.
#[derive(Debug, Clone)]
pub(crate) struct Aim {
    pub(crate) want: Want,
    pub(crate) reuse: Reuse,
    pub(crate) origin: Origin,
    /// What the loader is to be told.
    pub(crate) wish: Wish,
    pub(crate) options: Options,
}

/// Who waits for the lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Its caller.
    Caller,
    /// Nobody: it refreshes behind an answer that has been given.
    Behind,
}

impl<V> Plan<V> {
    pub(crate) fn new(
        (want, reuse, origin): (Want, Reuse, Origin),
        options: Options,
        loader: BoxLoader<V>,
    ) -> Self {
        Self { aim: Aim { want, reuse, origin, wish: loader.wish(), options }, loader }
    }
}

impl Aim {
    pub(crate) fn approach(&self, limit: Duration) -> Approach {
        let Self { reuse, want, .. } = *self;
        Approach { reuse, want, joins: Joins::Any, l1_ttl: self.options.store.l1_ttl, limit }
    }

    pub(crate) fn is_answered_by<V>(&self, entry: &Entry<V>) -> bool {
        self.want.accepts(&entry.value)
            && match self.reuse {
                Reuse::Cached => true,
                Reuse::Newer(old) => entry.token != old,
                Reuse::Nothing => false,
            }
    }
}

/// How far the leader goes for a value that was not found.
pub(crate) enum Route<V> {
    /// Over the lease. Holds what L1 has, unverified.
    Fleet(Accept, Option<Entry<V>>),
    /// Without the shared tier: there is none, or it must not or cannot be asked.
    Alone,
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// A lookup without a loader, after the probe has missed.
    pub(crate) async fn get(&self, key: &Key, need: Option<&Stamp>) -> Result<Answer<V>> {
        self.check(need)?;
        let ticket = self.ticket_to_read(key);
        let unreachable = match self.fetch_unless_pending(key, need, ticket, &self.defaults).await {
            Fetched::Found(entry, ticket) => {
                self.counters.l2_hits.add(1);
                let answer = entry.value.clone();
                self.admit(key, ticket, entry, self.defaults.store.l1_ttl);
                return Ok(answer);
            }
            Fetched::Stale(..) | Fetched::Absent(_) => {
                self.counters.misses.add(1);
                return Ok(None);
            }
            Fetched::Unreachable(error) => error,
        };
        match recourse(self, key.as_bytes(), self.held(key.as_bytes(), need), unreachable) {
            Recourse::Serve(entry) => {
                self.serve_stale(key.as_bytes(), StaleCause::Outage);
                Ok(entry.value)
            }
            Recourse::Load(error) | Recourse::Fail(error) => {
                self.counters.misses.add(1);
                Err(error)
            }
        }
    }

    /// A lookup with a loader, after the probe has missed.
    pub(crate) async fn get_or_load(
        self: &Arc<Self>,
        key: &Key,
        need: Option<&Stamp>,
        mut plan: Plan<V>,
    ) -> Result<Answer<V>> {
        self.check(need)?;
        self.check_options(&plan.aim.options)?;
        reentry::check(self, key)?;
        let want = plan.aim.want;
        let mut call = self.call(Seek { key, need, want }, plan.aim.reuse, plan.aim.options.clone());
        let mut approach = plan.aim.approach(call.limit);
        loop {
            let (flight, hearing) = match self.enter(key, need, approach) {
                Entered::Join(flight, hearing) => (flight, hearing),
                Entered::Lead(lead) => {
                    return match self.lead(lead, need, plan).await {
                        Ok(Led::Landed(answer, by)) => {
                            self.count(key.as_bytes(), by);
                            Ok(answer)
                        }
                        Ok(Led::Flying(flight)) => match self.wait(&call, &flight, Role::Leads).await {
                            Waited::Landed(outcome) => {
                                self.count_landed(&call, (&flight, Role::Leads), &outcome);
                                outcome
                            }
                            Waited::StandIn(answer) => Ok(answer),
                            Waited::Abandoned => {
                                Err(self.error(ErrorKind::Shutdown, "the load ended with the runtime"))
                            }
                        },
                        Err(error) => {
                            self.counters.misses.add(1);
                            Err(error)
                        }
                    };
                }
            };
            match self.wait(&call, &flight, Role::Joined(hearing)).await {
                Waited::Landed(Ok(_)) if self.is_too_old(&call, &flight) => {}
                // Nobody loaded here, and there is nothing to make do with: someone must.
                Waited::Landed(Err(_)) if flight.elsewhere().is_some() => self.check_open()?,
                // One of those who need a value leads the next flight, and the others join it: an absence
                // that is cached does not answer them, so that there is no need to insist on a load.
                Waited::Landed(Ok(answer)) if !want.accepts(&answer) => {
                    approach.joins = Joins::WithValue;
                    if self.switch.is(Mutant::SuccessorsLeadAlone) {
                        plan.aim.reuse = Reuse::Nothing;
                        approach.reuse = Reuse::Nothing;
                        call.reuse = Reuse::Nothing;
                    }
                }
                Waited::Landed(outcome) => {
                    self.count_landed(&call, (&flight, Role::Joined(hearing)), &outcome);
                    return outcome;
                }
                Waited::StandIn(answer) => return Ok(answer),
                // The leader was cancelled before it began to load, or nothing has been heard of it for
                // too long: someone else must lead.
                Waited::Abandoned => self.check_open()?,
            }
        }
    }

    /// Refreshes a key behind an answer already given, unless somebody is at it.
    pub(crate) fn refresh_behind(self: &Arc<Self>, key: &Key, plan: Plan<V>) {
        if self.closing.is_cancelled() || self.check_options(&plan.aim.options).is_err() {
            return;
        }
        self.lead_behind(key, plan);
    }

    fn lead_behind(self: &Arc<Self>, key: &Key, plan: Plan<V>) {
        let approach = plan.aim.approach(self.patience(&plan.aim.options));
        if let Entered::Lead(lead) = self.enter(key, None, approach) {
            let shared = Arc::clone(self);
            // Boxed: this leads in turn, and a future cannot hold itself.
            let leading: BoxFuture<'static, ()> = Box::pin(trace::here(async move {
                // Who joins the flight is told how it ended.
                drop(shared.lead(lead, None, plan).await);
            }));
            self.tasks.spawn(leading);
        }
    }

    /// Leads a flight: to its end if a tier has the value, else up to where a task of its own takes over.
    async fn lead(self: &Arc<Self>, lead: Lead<V>, need: Option<&Stamp>, plan: Plan<V>) -> Result<Led<V>> {
        match self.find(&lead, need, &plan.aim).await {
            Ok(Found::Answer(entry, by)) => {
                let answer = entry.value.clone();
                let refresh = self.refreshes(&plan.aim, &entry, by).then(|| (lead.key.clone(), entry.token));
                lead.found(entry, by);
                if let Some((key, token)) = refresh {
                    let aim = Aim { reuse: Reuse::Newer(token), origin: Origin::Behind, ..plan.aim };
                    self.lead_behind(&key, Plan { aim, ..plan });
                }
                Ok(Led::Landed(answer, by))
            }
            Ok(Found::Nothing(route)) => {
                let flight = lead.flight();
                load::spawn(self, lead, plan, route);
                Ok(Led::Flying(flight))
            }
            Err(error) => {
                lead.land(Err(error.clone()), None);
                Err(error)
            }
        }
    }

    /// What the tiers have for the leader.
    pub(crate) async fn find(&self, lead: &Lead<V>, need: Option<&Stamp>, aim: &Aim) -> Result<Found<V>> {
        let accept = match self.find_here(lead, need, aim) {
            Here::Enough(found) => return Ok(found),
            Here::Ask(accept) => accept,
        };
        if self.odds.are_poor() && aim.reuse != Reuse::Nothing && !self.is_pending(&lead.key) {
            return Ok(Found::Nothing(self.route(&lead.key, accept, None)));
        }
        let asked = self.node.clock.now();
        let fetched = self.fetch_unless_pending(&lead.key, need, lead.ticket, &aim.options).await;
        self.found(lead, aim, (accept, asked), fetched)
    }

    /// What L1 has for the leader.
    pub(crate) fn find_here(&self, lead: &Lead<V>, need: Option<&Stamp>, aim: &Aim) -> Here<V> {
        let mut accept = Accept::Any;
        // Between this caller's probe and its lead, another flight may have landed.
        match self.probe(lead.key.as_bytes(), need) {
            Probe::Hit(entry) | Probe::Ripe(entry) if aim.is_answered_by(&entry) => {
                return Here::Enough(Found::Answer(entry, AnsweredBy::L1));
            }
            // Its token is worth a question that needs no payload for an answer: ask with the lease.
            Probe::Unverified(entry) | Probe::Capped(entry)
                if aim.is_answered_by(&entry) && !self.pending.voids(&entry) =>
            {
                let route = self.route(&lead.key, Accept::Known(entry.token), Some(entry));
                return Here::Enough(Found::Nothing(route));
            }
            Probe::Hit(entry) | Probe::Ripe(entry) | Probe::Stale(entry) => {
                accept = Accept::Other(entry.token);
                lead.found_stale(entry, Tick(0));
            }
            Probe::Unverified(_) | Probe::Capped(_) | Probe::Miss => {}
        }
        if aim.reuse == Reuse::Nothing && !(aim.wish == Wish::Previous && accept == Accept::Any) {
            return Here::Enough(Found::Nothing(self.route(&lead.key, Accept::Nothing, None)));
        }
        Here::Ask(accept)
    }

    /// What is left to do for the leader after L2 has been read. `asked` is when the question was sent.
    pub(crate) fn found(
        &self,
        lead: &Lead<V>,
        aim: &Aim,
        (mut accept, asked): (Accept, Tick),
        fetched: Fetched<V>,
    ) -> Result<Found<V>> {
        if let Fetched::Found(..) | Fetched::Stale(..) = fetched {
            self.odds.found();
        }
        match fetched {
            Fetched::Found(entry, _) if aim.is_answered_by(&entry) => {
                return Ok(Found::Answer(entry, AnsweredBy::L2));
            }
            Fetched::Found(entry, ticket) | Fetched::Stale(entry, ticket) => {
                if self.backs_off(aim, &entry) {
                    return Ok(Found::Answer(entry, AnsweredBy::Backoff));
                }
                accept = Accept::Other(entry.token);
                self.admit(&lead.key, ticket, entry.clone(), aim.options.store.l1_ttl);
                lead.found_stale(entry, asked);
            }
            Fetched::Absent(found) if accept == Accept::Any => accept = found,
            Fetched::Absent(_) => {}
            Fetched::Unreachable(error) => match recourse(self, lead.key.as_bytes(), None, error) {
                Recourse::Fail(error) => return Err(error),
                Recourse::Serve(_) | Recourse::Load(_) => return Ok(Found::Nothing(Route::Alone)),
            },
        }
        let accept = if aim.reuse == Reuse::Nothing { Accept::Nothing } else { accept };
        Ok(Found::Nothing(self.route(&lead.key, accept, None)))
    }

    /// Whether an expired value of L2 answers because refreshing it has failed here a moment ago.
    pub(crate) fn backs_off(&self, aim: &Aim, entry: &Entry<V>) -> bool {
        (aim.origin, aim.reuse) == (Origin::Caller, Reuse::Cached)
            && aim.want.accepts(&entry.value)
            && matches!(aged(&entry.life, &aim.options, self.node.clock.now(), || 1.0), Aged::Serve(_))
    }

    /// Whether an entry that L2 had answers and is to be refreshed behind that, as a hit in L1 would be.
    pub(crate) fn refreshes(&self, aim: &Aim, entry: &Entry<V>, by: AnsweredBy) -> bool {
        by == AnsweredBy::L2
            && (aim.origin, aim.reuse) == (Origin::Caller, Reuse::Cached)
            && aged(&entry.life, &aim.options, self.node.clock.now(), || 1.0 - fastrand::f64())
                == Aged::Refresh
    }

    fn route(&self, key: &Key, accept: Accept, held: Option<Entry<V>>) -> Route<V> {
        if self.l2.is_none() || self.is_pending(key) { Route::Alone } else { Route::Fleet(accept, held) }
    }

    pub(crate) fn check(&self, need: Option<&Stamp>) -> Result<()> {
        self.check_open()?;
        self.check_stamp(need)
    }

    /// Whether a stamp says anything about this cache. To be asked before L1 is: what is held must not hide it.
    pub(crate) fn check_stamp(&self, need: Option<&Stamp>) -> Result<()> {
        match need {
            Some(stamp) if stamp.namespace() != &*self.namespace => {
                Err(crate::liveness::stamp::foreign(stamp.namespace(), &self.namespace))
            }
            Some(stamp) => {
                // Whoever made it was answered by memory that had come so far.
                self.node.knows(stamp);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// How far L1 has brought a leader.
pub(crate) enum Here<V> {
    Enough(Found<V>),
    /// L2 is to be read; and what is acceptable there when the lease is asked for.
    Ask(Accept),
}

/// How far a leader has come.
enum Led<V> {
    Landed(Answer<V>, AnsweredBy),
    Flying(Arc<Flight<V>>),
}

pub(crate) enum Found<V> {
    /// An entry that answers, and who had it.
    Answer(Entry<V>, AnsweredBy),
    Nothing(Route<V>),
}
