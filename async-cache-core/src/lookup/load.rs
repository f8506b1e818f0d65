//! The loader: its own task, its deadline, its panics, the lease's renewal.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::backend::{Accept, Entry, Lease, Renewed};
use crate::changes::replace;
use crate::error::Result;
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::local::approach::Answer;
use crate::local::flight::AnsweredBy;
use crate::local::lead::Lead;
use crate::lookup::find::Route;
use crate::lookup::held::Held;
use crate::lookup::lease::Grant;
use crate::lookup::loaded::{Keep, LoadContext};
use crate::lookup::loader::Wish;
use crate::lookup::outage::{OutageDecision, decide_in_outage};
use crate::lookup::produced::{Produced, replaces_something, resolve};
use crate::lookup::request::{Aim, Plan};
use crate::lookup::run::{failed_elsewhere, run_loader};
use crate::lookup::stale::is_source_failure;
use crate::lookup::{fill, lease, reentry, stale};
use crate::observe::trace;
use crate::remote::l2::L2;

/// Hands the flight to a task of its own: from here on nobody's cancellation stops it.
pub(crate) fn spawn<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    lead: Lead<V>,
    plan: Plan<V>,
    route: Route<V>,
) {
    let (node, key) = (inner.liveness.node.id, lead.key.clone());
    // Boxed before it is wrapped: it is large, and each layer around it moves what it is given.
    let load = Box::pin(run(Arc::clone(inner), lead, plan, route));
    inner.lifecycle.tasks.spawn(trace::load(
        &inner.observer.namespace,
        1,
        reentry::within(node, [key], load),
    ));
}

async fn run<V: Send + Sync + 'static>(
    inner: Arc<Inner<V>>,
    mut lead: Lead<V>,
    plan: Plan<V>,
    route: Route<V>,
) {
    let backoff = plan.aim.options.load.error_backoff;
    let (outcome, entry) = match (route, &inner.remote) {
        (Route::Fleet(accept, held), Some(l2)) => {
            over_the_fleet(&inner, l2, &mut lead, plan, accept, held).await
        }
        _ => {
            let loaded_at = lead.ticket.reached;
            alone(&inner, &mut lead, plan, loaded_at).await
        }
    };
    if outcome.as_ref().is_err_and(is_source_failure) {
        lead.postpone(backoff);
    }
    lead.land(outcome, entry);
}

/// What a flight ends with: the answer, and what L1 is offered.
type End<V> = (Result<Answer<V>>, Option<Entry<V>>);

async fn over_the_fleet<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    l2: &L2<V>,
    lead: &mut Lead<V>,
    plan: Plan<V>,
    accept: Accept,
    held: Option<Entry<V>>,
) -> End<V> {
    let asked = lease::acquire(inner, l2, lead, &plan.aim, accept, held.as_ref());
    let Some(grant) = inner.lifecycle.closing.run_until_cancelled(asked).await else {
        return (inner.lifecycle.check_open().map(|()| None), None);
    };
    match grant {
        Grant::Found(entry) => {
            lead.flight().found_by(AnsweredBy::L2);
            (Ok(entry.value.clone()), Some(entry))
        }
        Grant::Backoff(entry) => {
            lead.flight().found_by(AnsweredBy::Backoff);
            (Ok(entry.value.clone()), Some(entry))
        }
        Grant::Lease(lease) => with_lease(inner, l2, lead, plan, lease).await,
        Grant::LoadUncached => {
            let (reuse, loaded_at) = (plan.aim.reuse, lead.ticket.reached);
            let produced = produce(inner, lead, plan, loaded_at).await;
            if produced.as_ref().is_ok_and(|produced| produced.keep == Keep::Cached) {
                inner.observer.fill_rejected(lead.key.as_bytes());
            }
            if produced.is_ok() {
                replace::remove_replaced(inner, &lead.key, reuse).await;
            }
            (produced.map(|produced| produced.value), None)
        }
        Grant::Failed => (Err(failed_elsewhere(inner)), None),
        Grant::NoRoom(seq) => {
            let end = alone(inner, lead, plan, seq).await;
            if end.1.is_some() {
                inner.observer.fill_rejected(lead.key.as_bytes());
            }
            end
        }
        Grant::Unreachable(error) => match decide_in_outage(inner, lead.key.as_bytes(), held, error) {
            OutageDecision::Serve(entry) if lead.suffices(&entry) => {
                lead.flight().found_by(AnsweredBy::Unverified);
                lead.flight().came_from(entry.seq, &entry.tags);
                (Ok(entry.value), None)
            }
            OutageDecision::Serve(_) | OutageDecision::Load(_) => {
                let loaded_at = lead.ticket.reached;
                alone(inner, lead, plan, loaded_at).await
            }
            OutageDecision::Fail(error) => (Err(error), None),
        },
    }
}

async fn with_lease<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    l2: &L2<V>,
    lead: &mut Lead<V>,
    plan: Plan<V>,
    lease: Lease,
) -> End<V> {
    let (reuse, lease_ttl) = (plan.aim.reuse, plan.aim.options.load.lease_ttl);
    let held = Held { inner, key: lead.key.clone(), lease: Some(lease) };
    let produced = tokio::select! {
        biased;
        produced = produce(inner, lead, plan, lease.seq) => produced,
        never = keep_alive(inner, l2, &held.key, lease, lease_ttl) => match never {},
    };
    match produced {
        Ok(produced) if produced.keep == Keep::Cached => {
            lead.l1_ttl = produced.options.store.l1_ttl;
            let entry = fill::fill(inner, l2, held, &produced, reuse).await;
            (Ok(produced.value), entry)
        }
        Ok(produced) => {
            if replaces_something(lead, reuse) {
                replace::forget(inner, std::slice::from_ref(&lead.key)).await;
            }
            (Ok(produced.value), None)
        }
        Err(error) => (Err(error), None),
    }
}

/// Loads without the inner tier: there is none, it cannot be asked, or it takes nothing.
async fn alone<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    lead: &mut Lead<V>,
    plan: Plan<V>,
    loaded_at: u64,
) -> End<V> {
    let reuse = plan.aim.reuse;
    match produce(inner, lead, plan, loaded_at).await {
        Ok(produced) if produced.keep == Keep::Cached => {
            replace::replaces(inner, &lead.key, reuse);
            lead.l1_ttl = produced.options.store.l1_ttl;
            let term = produced.options.store.draw_term(produced.value.is_none());
            let entry = fill::entry(inner, &produced, term, loaded_at);
            (Ok(produced.value), Some(entry))
        }
        Ok(produced) => {
            if replaces_something(lead, reuse) {
                replace::forget(inner, std::slice::from_ref(&lead.key)).await;
            }
            (Ok(produced.value), None)
        }
        Err(error) => (Err(error), None),
    }
}

/// Runs the loader under its deadline, and turns what can go wrong into an error for everyone. What
/// it gives reflects every change up to `loaded_at`.
async fn produce<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    lead: &Lead<V>,
    plan: Plan<V>,
    loaded_at: u64,
) -> Result<Produced<V>> {
    inner.observer.counters.loads.add(1);
    let Plan { aim: Aim { options, wish, .. }, loader } = plan;
    let (limit, begun) = (options.load.load_timeout, inner.liveness.node.clock.now());
    let previous =
        (wish == Wish::Previous).then(|| stale::previous(inner, &lead.key, &lead.flight())).flatten();
    let context = LoadContext::of(previous.as_ref(), begun);
    let given = run_loader(inner, move || loader.run(context), limit).await;
    let cost = inner.liveness.node.clock.now().since(begun);
    let outcome = given.and_then(|given| resolve(inner, (&lead.key, given), previous, options, cost));
    match &outcome {
        Ok(_) if inner.policy.faults.is(Mutant::JoinersCheckedBySeal) => {}
        Ok(produced) => lead.flight().came_from(loaded_at, &produced.options.store.tags.tags),
        Err(error) => {
            inner.observer.load_failed(lead.key.as_bytes(), 1, error);
        }
    }
    outcome
}

/// Renews the lease at a third of its life for as long as the load runs. Once it is lost there is
/// nothing left to renew: the load goes on for those who wait, and its fill will be refused.
async fn keep_alive<V: 'static>(
    inner: &Inner<V>,
    l2: &L2<V>,
    key: &Key,
    lease: Lease,
    ttl: Duration,
) -> std::convert::Infallible {
    loop {
        sleep(ttl / 3).await;
        match l2.region.renew(key, lease, ttl).await {
            Ok(Renewed::Held) => {}
            Ok(Renewed::Lost) => std::future::pending().await,
            Err(error) => drop(inner.liveness.l2_failed(error)),
        }
    }
}
