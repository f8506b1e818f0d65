//! The lookup of one key.
//!
//! 1. [`probe`](crate::local::probe): L1 is asked, if the node serves. A hit ends here, without waiting.
//! 2. [`flight`](crate::local::flight): one caller of each key leads. The others wait for its result.
//! 3. [`fetch`](super::fetch): the leader reads L2. It skips that if the [`miss_rate`](crate::remote::miss_rate) is high.
//! 4. [`lease`](super::lease): if L2 has nothing, one node of the fleet gets the lease. The others wait.
//! 5. [`load`]: the loader runs in its own task, under a deadline.
//! 6. [`fill`](super::fill): the value goes to L2, then to L1, unless an invalidation came during the load.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::error::Result;
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::approach::{Answer, Joins, Reuse};
use crate::local::flight::Flight;
use crate::local::lead::{Entered, Lead, enter};
use crate::lookup::check::check;
use crate::lookup::fetch::fetch;
use crate::lookup::outage::{OutageDecision, decide_in_outage};
use crate::lookup::progress::{End, Progress};
use crate::lookup::request::{Aim, Origin, Plan};
use crate::lookup::stale::Seek;
use crate::lookup::step::{Action, Next, after_flight};
use crate::lookup::wait::Role;
use crate::lookup::{find, load, reentry, wait};
use crate::observe::{StaleCause, trace};
use crate::remote::read::Fetched;

/// A lookup without a loader, after the probe has missed.
pub(crate) async fn get<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &Key,
    min_stamp: Option<&Stamp>,
) -> Result<Answer<V>> {
    check(inner, min_stamp)?;
    let ticket = inner.local.ticket_to_read(key);
    let unreachable = match fetch(inner, key, min_stamp, ticket, &inner.policy.defaults).await {
        Fetched::Found(entry, ticket) => {
            inner.observer.counters.l2_hits.add(1);
            let answer = entry.value.clone();
            inner.local.admit(key, ticket, entry, inner.policy.defaults.store.l1_ttl);
            return Ok(answer);
        }
        Fetched::Stale(..) | Fetched::Absent(_) => {
            inner.observer.counters.misses.add(1);
            return Ok(None);
        }
        Fetched::Unreachable(error) => error,
    };
    match decide_in_outage(inner, key.as_bytes(), inner.local.held(key.as_bytes(), min_stamp), unreachable) {
        OutageDecision::Serve(entry) => {
            inner.observer.stale_served(key.as_bytes(), StaleCause::Outage);
            Ok(entry.value)
        }
        OutageDecision::Load(error) | OutageDecision::Fail(error) => {
            inner.observer.counters.misses.add(1);
            Err(error)
        }
    }
}

/// A lookup with a loader, after the probe has missed.
pub(crate) async fn get_or_load<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    key: &Key,
    min_stamp: Option<&Stamp>,
    mut plan: Plan<V>,
) -> Result<Answer<V>> {
    check(inner, min_stamp)?;
    inner.local.check_options(&plan.aim.options)?;
    reentry::check(inner, key)?;
    let want = plan.aim.want;
    let mut call = wait::call(inner, Seek { key, min_stamp, want }, plan.aim.reuse, plan.aim.options.clone());
    let mut approach = plan.aim.approach(call.limit);
    let lead = loop {
        let (flight, role) = match enter(&inner.local, key, min_stamp, approach) {
            Entered::Lead(lead) => break lead,
            Entered::Join(flight, bound) => (flight, Role::Joined(bound)),
        };
        let waited = wait::wait(inner, &call, &flight, role).await;
        match after_flight(false, wait::ended(inner, &call, &flight, &waited)) {
            Next::Return | Next::Lost => return wait::returned(inner, &call, (&flight, role), waited),
            Next::AskAgain => inner.lifecycle.check_open()?,
            Next::AskForValue => {
                approach.joins = Joins::WithValue;
                if inner.policy.faults.is(Mutant::SuccessorsLeadAlone) {
                    plan.aim.reuse = Reuse::Nothing;
                    approach.reuse = Reuse::Nothing;
                    call.reuse = Reuse::Nothing;
                }
            }
        }
    };
    let flight = match lead_flight(inner, lead, min_stamp, plan).await {
        Led::Flying(flight) => flight,
        Led::Ended(Ok((answer, by))) => {
            wait::count(inner, key.as_bytes(), by);
            return Ok(answer);
        }
        Led::Ended(Err(error)) => {
            inner.observer.counters.misses.add(1);
            return Err(error);
        }
    };
    let waited = wait::wait(inner, &call, &flight, Role::Leads).await;
    wait::returned(inner, &call, (&flight, Role::Leads), waited)
}

/// Refreshes a key in the background, unless a flight is refreshing it already.
pub(crate) fn refresh_behind<V: Send + Sync + 'static>(inner: &Arc<Inner<V>>, key: &Key, plan: Plan<V>) {
    if inner.lifecycle.closing.is_cancelled() || inner.local.check_options(&plan.aim.options).is_err() {
        return;
    }
    lead_behind(inner, key, plan);
}

fn lead_behind<V: Send + Sync + 'static>(inner: &Arc<Inner<V>>, key: &Key, plan: Plan<V>) {
    let approach = plan.aim.approach(wait::patience(inner, &plan.aim.options));
    if let Entered::Lead(lead) = enter(&inner.local, key, None, approach) {
        let at_work = Arc::clone(inner);
        // The future is boxed, because it can start itself again, and a future cannot contain itself.
        let leading: BoxFuture<'static, ()> = Box::pin(trace::here(async move {
            // The callers that join the flight learn its result from the flight.
            drop(lead_flight(&at_work, lead, None, plan).await);
        }));
        inner.lifecycle.tasks.spawn(leading);
    }
}

/// Leads a flight. If a tier has the value, the flight ends here. Otherwise a task of its own takes it over.
async fn lead_flight<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    lead: Lead<V>,
    min_stamp: Option<&Stamp>,
    plan: Plan<V>,
) -> Led<V> {
    let skips_read = inner.remote.as_ref().is_some_and(|l2| l2.miss_rate.skip_read());
    let mut progress = Progress::begin(inner, &plan.aim, skips_read);
    let mut action = progress.learn(inner, &lead, find::in_l1(inner, &lead, min_stamp, &plan.aim));
    if action == Action::ReadL2 {
        let seen = find::in_l2(inner, &lead, min_stamp, &plan.aim).await;
        action = progress.learn(inner, &lead, seen);
    }
    if let Action::Acquire(_) | Action::Load(_) = action {
        let flight = lead.flight();
        load::spawn(inner, lead, plan, progress, action);
        return Led::Flying(flight);
    }
    let refreshed = match (action, progress.answer()) {
        (Action::Answer(by), Some(entry)) => {
            find::refreshes(inner, &plan.aim, entry, by).then(|| (lead.key.clone(), entry.token))
        }
        _ => None,
    };
    let ended = progress.end(inner, lead, &plan.aim, action);
    if let Some((key, token)) = refreshed {
        let aim = Aim { reuse: Reuse::Newer(token), origin: Origin::Behind, ..plan.aim };
        lead_behind(inner, &key, Plan { aim, ..plan });
    }
    Led::Ended(ended)
}

/// How far the leader has brought the flight.
enum Led<V> {
    Ended(End<V>),
    /// A task of its own brings the flight to its end.
    Flying(Arc<Flight<V>>),
}
