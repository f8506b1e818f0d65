//! Many keys with a loader: the steps of a lookup, for many keys together.
//!
//! Each key has its own flight. So lookups of single keys can join it, and invalidations make this node
//! remove it. The steps of all flights are done together: one read of L2, one question for the leases, one
//! call of the loader, one fill.

use std::sync::Arc;

use crate::backend::Token;
use crate::error::{ErrorKind, Result};
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::flight::Flight;
use crate::local::l1::Probe;
use crate::local::lead::{Entered, enter};
use crate::local::request::{Answer, FirstTier};
use crate::lookup::loader::check_reentry;
use crate::lookup::many::get;
use crate::lookup::many::lead::{self, refresh_found_behind};
use crate::lookup::many::plan::{LedKey, Outcome, PlanMany};
use crate::lookup::progress::{self, PastDue, Role};
use crate::lookup::stale::aged;
use crate::lookup::step::{Next, after_flight};
use crate::lookup::wait::{self, Caller};
use crate::options::Options;

/// What L1 has for one of many keys.
enum First<V> {
    Answer(Answer<V>),
    /// An answer. The entry under the token is to be refreshed.
    AnswerAndRefresh(Answer<V>, Token),
    Open,
}

/// A key without an answer yet, and its place among the requested keys.
struct Waiting {
    place: usize,
    caller: Caller,
}

/// Looks up many keys, and loads those that no tier has. Returns one outcome for each key, in the order of
/// the keys.
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
        let looked = match plan.first_tier {
            FirstTier::L1 => first(inner, key, min_stamp, &plan.options),
            FirstTier::L2 => First::Open,
        };
        let outcome = match looked {
            First::Answer(answer) => Some(Ok(answer)),
            First::AnswerAndRefresh(answer, token) => {
                refresh.push((place, token));
                Some(Ok(answer))
            }
            First::Open => check_reentry(inner, key).err().map(Err),
        };
        if outcome.is_none() {
            open.push(Waiting { place, caller: Caller::new(inner, Arc::new(plan.request(key, min_stamp))) });
        }
        outcomes.push(outcome);
    }
    refresh_many_behind(inner, keys, &refresh, &plan);
    while !open.is_empty() {
        open = fly(inner, open, min_stamp, &plan, &mut outcomes).await;
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
    inner.lifecycle.check_open()?;
    inner.local.liveness.check_stamp(min_stamp)?;
    get::check_count(inner, keys.len())?;
    inner.local.check_first_tier(plan.first_tier)?;
    inner.local.check_options(&plan.options)
}

fn first<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &Key,
    min_stamp: Option<&Stamp>,
    options: &Options,
) -> First<V> {
    if let Some(answer) = inner.local.hit_of_many(key.as_bytes(), min_stamp) {
        return First::Answer(answer);
    }
    let entry = match inner.local.probe(key.as_bytes(), min_stamp) {
        Probe::Hit(entry) => {
            inner.local.hits.increment();
            return First::Answer(entry.value);
        }
        Probe::Ripe(entry) | Probe::Stale(entry) => entry,
        Probe::Unverified(_) | Probe::Capped(_) | Probe::Miss => return First::Open,
    };
    let aged = aged(&entry.life, options, inner.local.now(), || 1.0 - fastrand::f64());
    match progress::past_due(inner, key.as_bytes(), entry, aged) {
        PastDue::Answer(entry) => First::Answer(entry.value),
        PastDue::AnswerAndRefresh(entry) => First::AnswerAndRefresh(entry.value, entry.token),
        PastDue::Nothing => First::Open,
    }
}

/// Refreshes keys in the background, unless flights are refreshing them already.
fn refresh_many_behind<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    keys: &[Key],
    refresh: &[(usize, Token)],
    plan: &Arc<PlanMany<V>>,
) {
    let refresh: Vec<_> = refresh.iter().map(|&(place, token)| (place, keys[place].clone(), token)).collect();
    refresh_found_behind(inner, &refresh, plan);
}

/// Leads or joins a flight for each key, and waits for all. Returns the keys that must be asked for again:
/// their leader was cancelled before it began to load, or the joined flight's value is too old for them.
async fn fly<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    open: Vec<Waiting>,
    min_stamp: Option<&Stamp>,
    plan: &Arc<PlanMany<V>>,
    outcomes: &mut [Option<Outcome<V>>],
) -> Vec<Waiting> {
    let mut flights: Vec<(Waiting, Role, Arc<Flight<V>>)> = Vec::with_capacity(open.len());
    let mut led = Vec::new();
    for waiting in open {
        match enter(&inner.local, &waiting.caller.request, waiting.caller.limit, false) {
            Entered::Lead(lead) => {
                let flight = lead.flight();
                led.push(LedKey { place: waiting.place, lead });
                flights.push((waiting, Role::Leads, flight));
            }
            Entered::Join(flight, bound) => flights.push((waiting, Role::Joined(bound), flight)),
        }
    }
    lead::lead_many(inner, led, min_stamp, plan).await;
    let mut again = Vec::new();
    for (waiting, role, flight) in flights {
        let Waiting { place, caller } = &waiting;
        let waited = wait::wait(inner, caller, &flight, role).await;
        match after_flight(role == Role::Leads, wait::ended(inner, caller, &flight, &waited)) {
            Next::Return | Next::Lost => {
                outcomes[*place] =
                    Some(wait::returned(inner, caller, &flight, role, waited).map(|found| found.answer));
            }
            Next::AskAgain | Next::AskForValue => match inner.lifecycle.check_open() {
                Ok(()) => again.push(waiting),
                Err(error) => outcomes[*place] = Some(Err(error)),
            },
        }
    }
    again
}
