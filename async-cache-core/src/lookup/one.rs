//! The journey of one lookup.
//!
//! 1. [`probe`]: L1, if the node's serving lease is live. A hit ends here, synchronously.
//! 2. [`flight`]: one caller per key leads, the others wait for what it finds.
//! 3. [`fetch`]: the leader reads L2, unless the [`odds`] are that it has nothing.
//! 4. [`lease`]: L2 has nothing: one node of the fleet gets the lease, the others wait.
//! 5. [`load`]: the loader runs, in a task of its own, under a deadline.
//! 6. [`fill`]: the value goes to L2, then to L1, unless an invalidation has met it.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::error::{ErrorKind, Result};
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::approach::{Answer, Joins, Reuse};
use crate::local::flight::{AnsweredBy, Flight};
use crate::local::lead::{Entered, Lead, enter};
use crate::lookup::check::check;
use crate::lookup::fetch::fetch;
use crate::lookup::find::{Found, find, refreshes};
use crate::lookup::outage::{OutageDecision, decide_in_outage};
use crate::lookup::request::{Aim, Origin, Plan};
use crate::lookup::stale::Seek;
use crate::lookup::wait::{Role, Waited};
use crate::lookup::{load, reentry, wait};
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
    loop {
        let (flight, hearing) = match enter(&inner.local, key, min_stamp, approach) {
            Entered::Join(flight, hearing) => (flight, hearing),
            Entered::Lead(lead) => {
                return match lead_flight(inner, lead, min_stamp, plan).await {
                    Ok(Led::Landed(answer, by)) => {
                        wait::count(inner, key.as_bytes(), by);
                        Ok(answer)
                    }
                    Ok(Led::Flying(flight)) => match wait::wait(inner, &call, &flight, Role::Leads).await {
                        Waited::Landed(outcome) => {
                            wait::count_landed(inner, &call, (&flight, Role::Leads), &outcome);
                            outcome
                        }
                        Waited::StandIn(answer) => Ok(answer),
                        Waited::Abandoned => {
                            Err(inner.observer.error(ErrorKind::Shutdown, "the load ended with the runtime"))
                        }
                    },
                    Err(error) => {
                        inner.observer.counters.misses.add(1);
                        Err(error)
                    }
                };
            }
        };
        match wait::wait(inner, &call, &flight, Role::Joined(hearing)).await {
            Waited::Landed(Ok(_)) if wait::is_too_old(inner, &call, &flight) => {}
            // Nobody loaded here, and there is nothing to make do with: someone must.
            Waited::Landed(Err(_)) if flight.elsewhere().is_some() => inner.lifecycle.check_open()?,
            // One of those who need a value leads the next flight, and the others join it: an absence
            // that is cached does not answer them, so that there is no need to insist on a load.
            Waited::Landed(Ok(answer)) if !want.accepts(&answer) => {
                approach.joins = Joins::WithValue;
                if inner.policy.faults.is(Mutant::SuccessorsLeadAlone) {
                    plan.aim.reuse = Reuse::Nothing;
                    approach.reuse = Reuse::Nothing;
                    call.reuse = Reuse::Nothing;
                }
            }
            Waited::Landed(outcome) => {
                wait::count_landed(inner, &call, (&flight, Role::Joined(hearing)), &outcome);
                return outcome;
            }
            Waited::StandIn(answer) => return Ok(answer),
            // The leader was cancelled before it began to load, or nothing has been heard of it for
            // too long: someone else must lead.
            Waited::Abandoned => inner.lifecycle.check_open()?,
        }
    }
}

/// Refreshes a key behind an answer already given, unless somebody is at it.
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
        // Boxed: this leads in turn, and a future cannot hold itself.
        let leading: BoxFuture<'static, ()> = Box::pin(trace::here(async move {
            // Who joins the flight is told how it ended.
            drop(lead_flight(&at_work, lead, None, plan).await);
        }));
        inner.lifecycle.tasks.spawn(leading);
    }
}

/// Leads a flight: to its end if a tier has the value, else up to where a task of its own takes over.
async fn lead_flight<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    lead: Lead<V>,
    min_stamp: Option<&Stamp>,
    plan: Plan<V>,
) -> Result<Led<V>> {
    match find(inner, &lead, min_stamp, &plan.aim).await {
        Ok(Found::Answer(entry, by)) => {
            let answer = entry.value.clone();
            let refresh = refreshes(inner, &plan.aim, &entry, by).then(|| (lead.key.clone(), entry.token));
            lead.found(entry, by);
            if let Some((key, token)) = refresh {
                let aim = Aim { reuse: Reuse::Newer(token), origin: Origin::Behind, ..plan.aim };
                lead_behind(inner, &key, Plan { aim, ..plan });
            }
            Ok(Led::Landed(answer, by))
        }
        Ok(Found::Nothing(route)) => {
            let flight = lead.flight();
            load::spawn(inner, lead, plan, route);
            Ok(Led::Flying(flight))
        }
        Err(error) => {
            lead.land(Err(error.clone()), None);
            Err(error)
        }
    }
}

/// How far a leader has come.
enum Led<V> {
    Landed(Answer<V>, AnsweredBy),
    Flying(Arc<Flight<V>>),
}
