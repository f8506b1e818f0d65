//! Many keys with a loader: the journey of one lookup, for many at once.
//!
//! Each key has a flight of its own, so that lookups of single keys join it, and invalidations make
//! this node forget it. What a flight needs is done for all of them together: one read of L2, one
//! question for the leases, one call of the loader, one fill.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::api::data_loader::source::Outcome;
use crate::backend::{Entry, Token};
use crate::error::{BoxError, ErrorKind, Result};
use crate::format::key::Key;
use crate::inner::Shared;
use crate::liveness::stamp::Stamp;
use crate::local::approach::{Answer, Reuse, Want};
use crate::local::flight::{Entered, Flight, Lead};
use crate::local::probe::Probe;
use crate::lookup::loader::{Given, Wish};
use crate::lookup::many::picked::Picked;
use crate::lookup::one::{Aim, Origin};
use crate::lookup::reentry;
use crate::lookup::stale::{Aged, Seek, aged};
use crate::lookup::wait::{Call, Role, Waited};
use crate::observe::{StaleCause, trace};
use crate::options::Options;

/// What a lookup of many keys wants, besides the keys.
pub(crate) struct PlanMany<V> {
    pub(crate) options: Options,
    pub(crate) loader: BatchLoader<V>,
}

/// A batch loader, typed by the cache's value alone: it is told the places of the keys to load.
pub(crate) type BatchLoader<V> =
    Arc<dyn Fn(Vec<usize>) -> BoxFuture<'static, Result<Picked<Given<V>>, BoxError>> + Send + Sync>;

impl<V> PlanMany<V> {
    /// An absence answers as well as a value.
    fn aim(&self, reuse: Reuse, origin: Origin) -> Aim {
        Aim { want: Want::ValueOrAbsence, reuse, origin, wish: Wish::Nothing, options: self.options.clone() }
    }
}

/// A key this node leads, and its place among the keys asked for.
pub(crate) struct Seat<V: 'static> {
    pub(crate) place: usize,
    pub(crate) aim: Aim,
    pub(crate) lead: Lead<V>,
}

/// What L1 says of one of many keys.
enum First<V> {
    Answer(Answer<V>),
    /// The same; and what it holds under the token is to be refreshed.
    AnswerAndRefresh(Answer<V>, Token),
    Open,
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// Looks keys up, and loads those that no tier has. One outcome for each, in their order.
    pub(crate) async fn get_many_or_load(
        self: &Arc<Self>,
        keys: &[Key],
        need: Option<&Stamp>,
        plan: PlanMany<V>,
    ) -> Vec<Outcome<V>> {
        if let Err(error) = self.check_plan(keys, need, &plan) {
            return vec![Err(error); keys.len()];
        }
        let plan = Arc::new(plan);
        let mut outcomes: Vec<Option<Outcome<V>>> = Vec::with_capacity(keys.len());
        let (mut open, mut refresh) = (Vec::new(), Vec::new());
        for (place, key) in keys.iter().enumerate() {
            let outcome = match self.first(key, need, &plan.options) {
                First::Answer(answer) => Some(Ok(answer)),
                First::AnswerAndRefresh(answer, token) => {
                    refresh.push((place, token));
                    Some(Ok(answer))
                }
                First::Open => reentry::check(self, key).err().map(Err),
            };
            if outcome.is_none() {
                open.push(place);
            }
            outcomes.push(outcome);
        }
        self.refresh_many_behind(keys, &refresh, &plan);
        let calls: Vec<Call<'_>> = keys
            .iter()
            .map(|key| {
                self.call(Seek { key, need, want: Want::ValueOrAbsence }, Reuse::Cached, plan.options.clone())
            })
            .collect();
        while !open.is_empty() {
            open = self.fly(&calls, &open, &plan, &mut outcomes).await;
        }
        let missing = || Err(self.error(ErrorKind::Shutdown, "the load ended with the runtime"));
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect()
    }

    pub(crate) fn check_plan(&self, keys: &[Key], need: Option<&Stamp>, plan: &PlanMany<V>) -> Result<()> {
        self.check(need)?;
        self.check_count(keys.len())?;
        self.check_options(&plan.options)
    }

    fn first(&self, key: &Key, need: Option<&Stamp>, options: &Options) -> First<V> {
        if let Some(answer) = self.hit_at_once(key.as_bytes(), need, Want::ValueOrAbsence) {
            return First::Answer(answer);
        }
        let Entry { value, token, life, .. } = match self.probe(key.as_bytes(), need) {
            Probe::Hit(entry) => {
                self.counters.l1_hits.increment();
                return First::Answer(entry.value);
            }
            Probe::Ripe(entry) | Probe::Stale(entry) => entry,
            Probe::Unverified(_) | Probe::Capped(_) | Probe::Miss => return First::Open,
        };
        let aged = aged(&life, options, self.node.clock.now(), || 1.0 - fastrand::f64());
        match aged {
            Aged::Answers | Aged::Refresh => self.counters.l1_hits.increment(),
            Aged::Serve(cause) => self.serve_stale(key.as_bytes(), cause),
            Aged::ServeAndRefresh => self.serve_stale(key.as_bytes(), StaleCause::Revalidating),
            Aged::Load => {}
        }
        match aged {
            Aged::Answers | Aged::Serve(_) => First::Answer(value),
            Aged::Refresh | Aged::ServeAndRefresh => First::AnswerAndRefresh(value, token),
            Aged::Load => First::Open,
        }
    }

    /// Refreshes keys behind answers already given, unless somebody is at it.
    fn refresh_many_behind(
        self: &Arc<Self>,
        keys: &[Key],
        refresh: &[(usize, Token)],
        plan: &Arc<PlanMany<V>>,
    ) {
        let refresh: Vec<_> =
            refresh.iter().map(|&(place, token)| (place, keys[place].clone(), token)).collect();
        self.refresh_found_behind(&refresh, plan);
    }

    /// The same, each key with its place among those asked for.
    pub(crate) fn refresh_found_behind(
        self: &Arc<Self>,
        refresh: &[(usize, Key, Token)],
        plan: &Arc<PlanMany<V>>,
    ) {
        let mut seats = Vec::new();
        for &(place, ref key, token) in refresh {
            let aim = plan.aim(Reuse::Newer(token), Origin::Behind);
            let approach = aim.approach(self.patience(&plan.options));
            if let Entered::Lead(lead) = self.enter(key, None, approach) {
                seats.push(Seat { place, aim, lead });
            }
        }
        if !seats.is_empty() {
            let (shared, plan) = (Arc::clone(self), Arc::clone(plan));
            // Boxed: this leads in turn, and a future cannot hold itself.
            let leading: BoxFuture<'static, ()> =
                Box::pin(trace::here(async move { shared.lead_many(seats, None, &plan).await }));
            self.tasks.spawn(leading);
        }
    }

    /// Leads or joins a flight for each key, and waits for all. Gives those that are to be asked for
    /// again: their leader was cancelled before it began to load, or they joined what is too old for them.
    async fn fly(
        self: &Arc<Self>,
        calls: &[Call<'_>],
        open: &[usize],
        plan: &Arc<PlanMany<V>>,
        outcomes: &mut [Option<Outcome<V>>],
    ) -> Vec<usize> {
        let mut flights: Vec<(usize, Role, Arc<Flight<V>>)> = Vec::with_capacity(open.len());
        let mut seats = Vec::new();
        let aim = plan.aim(Reuse::Cached, Origin::Caller);
        let approach = aim.approach(self.patience(&plan.options));
        let need = calls.first().and_then(|call| call.seek.need);
        for &place in open {
            match self.enter(calls[place].seek.key, need, approach) {
                Entered::Lead(lead) => {
                    flights.push((place, Role::Leads, lead.flight()));
                    seats.push(Seat { place, aim: aim.clone(), lead });
                }
                Entered::Join(flight, hearing) => flights.push((place, Role::Joined(hearing), flight)),
            }
        }
        self.lead_many(seats, need, plan).await;
        let mut again = Vec::new();
        for (place, role, flight) in flights {
            match (self.wait(&calls[place], &flight, role).await, role) {
                (Waited::Landed(Ok(_)), Role::Joined(_)) if self.is_too_old(&calls[place], &flight) => {
                    again.push(place);
                }
                // Nobody loaded here, and there is nothing to make do with: someone must.
                (Waited::Landed(Err(_)), Role::Joined(_)) if flight.elsewhere().is_some() => {
                    again.push(place);
                }
                (Waited::Landed(outcome), _) => {
                    self.count_landed(&calls[place], (&flight, role), &outcome);
                    outcomes[place] = Some(outcome);
                }
                (Waited::StandIn(answer), _) => outcomes[place] = Some(Ok(answer)),
                (Waited::Abandoned, Role::Leads) => {}
                (Waited::Abandoned, Role::Joined(_)) => match self.check_open() {
                    Ok(()) => again.push(place),
                    Err(error) => outcomes[place] = Some(Err(error)),
                },
            }
        }
        again
    }
}
