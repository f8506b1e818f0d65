//! Many keys with a loader: the journey of one lookup, for many at once.
//!
//! Each key has a flight of its own, so that lookups of single keys join it, and invalidations make
//! this node forget it. What a flight needs is done for all of them together: one read of L2, one
//! question for the leases, one call of the loader, one fill.

use std::sync::Arc;

use crate::backend::{Entry, Token};
use crate::error::{ErrorKind, Result};
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::approach::{Answer, Reuse, Want};
use crate::local::flight::Flight;
use crate::local::lead::{Entered, enter};
use crate::local::probe::Probe;
use crate::lookup::many::lead::refresh_found_behind;
use crate::lookup::many::picked::Outcome;
use crate::lookup::many::plan::{LedKey, PlanMany};
use crate::lookup::many::{get, lead};
use crate::lookup::request::Origin;
use crate::lookup::stale::{Aged, Seek, aged};
use crate::lookup::wait::{Call, Role, Waited};
use crate::lookup::{check, reentry, wait};
use crate::observe::StaleCause;
use crate::options::Options;

/// What L1 says of one of many keys.
enum First<V> {
    Answer(Answer<V>),
    /// The same; and what it holds under the token is to be refreshed.
    AnswerAndRefresh(Answer<V>, Token),
    Open,
}

/// Looks keys up, and loads those that no tier has. One outcome for each, in their order.
pub(crate) async fn get_many_or_load<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    keys: &[Key],
    min_stamp: Option<&Stamp>,
    plan: PlanMany<V>,
) -> Vec<Outcome<V>> {
    if let Err(error) = check_plan(inner, keys, min_stamp, &plan) {
        return vec![Err(error); keys.len()];
    }
    let plan = Arc::new(plan);
    let mut outcomes: Vec<Option<Outcome<V>>> = Vec::with_capacity(keys.len());
    let (mut open, mut refresh) = (Vec::new(), Vec::new());
    for (place, key) in keys.iter().enumerate() {
        let outcome = match first(inner, key, min_stamp, &plan.options) {
            First::Answer(answer) => Some(Ok(answer)),
            First::AnswerAndRefresh(answer, token) => {
                refresh.push((place, token));
                Some(Ok(answer))
            }
            First::Open => reentry::check(inner, key).err().map(Err),
        };
        if outcome.is_none() {
            open.push(place);
        }
        outcomes.push(outcome);
    }
    refresh_many_behind(inner, keys, &refresh, &plan);
    let calls: Vec<Call<'_>> = keys
        .iter()
        .map(|key| {
            wait::call(
                inner,
                Seek { key, min_stamp, want: Want::ValueOrAbsence },
                Reuse::Cached,
                plan.options.clone(),
            )
        })
        .collect();
    while !open.is_empty() {
        open = fly(inner, &calls, &open, &plan, &mut outcomes).await;
    }
    let missing = || Err(inner.observer.error(ErrorKind::Shutdown, "the load ended with the runtime"));
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect()
}

pub(crate) fn check_plan<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    keys: &[Key],
    min_stamp: Option<&Stamp>,
    plan: &PlanMany<V>,
) -> Result<()> {
    check::check(inner, min_stamp)?;
    get::check_count(inner, keys.len())?;
    inner.local.check_options(&plan.options)
}

fn first<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &Key,
    min_stamp: Option<&Stamp>,
    options: &Options,
) -> First<V> {
    if let Some(answer) = inner.local.hit_at_once(key.as_bytes(), min_stamp, Want::ValueOrAbsence) {
        return First::Answer(answer);
    }
    let Entry { value, token, life, .. } = match inner.local.probe(key.as_bytes(), min_stamp) {
        Probe::Hit(entry) => {
            inner.observer.counters.l1_hits.increment();
            return First::Answer(entry.value);
        }
        Probe::Ripe(entry) | Probe::Stale(entry) => entry,
        Probe::Unverified(_) | Probe::Capped(_) | Probe::Miss => return First::Open,
    };
    let aged = aged(&life, options, inner.liveness.node.clock.now(), || 1.0 - fastrand::f64());
    match aged {
        Aged::Answers | Aged::Refresh => inner.observer.counters.l1_hits.increment(),
        Aged::Serve(cause) => inner.observer.stale_served(key.as_bytes(), cause),
        Aged::ServeAndRefresh => inner.observer.stale_served(key.as_bytes(), StaleCause::Revalidating),
        Aged::Load => {}
    }
    match aged {
        Aged::Answers | Aged::Serve(_) => First::Answer(value),
        Aged::Refresh | Aged::ServeAndRefresh => First::AnswerAndRefresh(value, token),
        Aged::Load => First::Open,
    }
}

/// Refreshes keys behind answers already given, unless somebody is at it.
fn refresh_many_behind<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    keys: &[Key],
    refresh: &[(usize, Token)],
    plan: &Arc<PlanMany<V>>,
) {
    let refresh: Vec<_> = refresh.iter().map(|&(place, token)| (place, keys[place].clone(), token)).collect();
    refresh_found_behind(inner, &refresh, plan);
}

/// Leads or joins a flight for each key, and waits for all. Gives those that are to be asked for
/// again: their leader was cancelled before it began to load, or they joined what is too old for them.
async fn fly<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    calls: &[Call<'_>],
    open: &[usize],
    plan: &Arc<PlanMany<V>>,
    outcomes: &mut [Option<Outcome<V>>],
) -> Vec<usize> {
    let mut flights: Vec<(usize, Role, Arc<Flight<V>>)> = Vec::with_capacity(open.len());
    let mut led = Vec::new();
    let aim = plan.aim(Reuse::Cached, Origin::Caller);
    let approach = aim.approach(wait::patience(inner, &plan.options));
    let min_stamp = calls.first().and_then(|call| call.seek.min_stamp);
    for &place in open {
        match enter(&inner.local, calls[place].seek.key, min_stamp, approach) {
            Entered::Lead(lead) => {
                flights.push((place, Role::Leads, lead.flight()));
                led.push(LedKey { place, aim: aim.clone(), lead });
            }
            Entered::Join(flight, hearing) => flights.push((place, Role::Joined(hearing), flight)),
        }
    }
    lead::lead_many(inner, led, min_stamp, plan).await;
    let mut again = Vec::new();
    for (place, role, flight) in flights {
        match (wait::wait(inner, &calls[place], &flight, role).await, role) {
            (Waited::Landed(Ok(_)), Role::Joined(_)) if wait::is_too_old(inner, &calls[place], &flight) => {
                again.push(place);
            }
            // Nobody loaded here, and there is nothing to make do with: someone must.
            (Waited::Landed(Err(_)), Role::Joined(_)) if flight.elsewhere().is_some() => {
                again.push(place);
            }
            (Waited::Landed(outcome), _) => {
                wait::count_landed(inner, &calls[place], (&flight, role), &outcome);
                outcomes[place] = Some(outcome);
            }
            (Waited::StandIn(answer), _) => outcomes[place] = Some(Ok(answer)),
            (Waited::Abandoned, Role::Leads) => {}
            (Waited::Abandoned, Role::Joined(_)) => match inner.lifecycle.check_open() {
                Ok(()) => again.push(place),
                Err(error) => outcomes[place] = Some(Err(error)),
            },
        }
    }
    again
}
