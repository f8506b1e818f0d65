//! The load: its own task, its deadline, its panics, the renewal of its lease.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::backend::{Entry, Lease, Renewed};
use crate::changes::replace;
use crate::error::Result;
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::local::approach::Answer;
use crate::local::lead::Lead;
use crate::lookup::held::Held;
use crate::lookup::loaded::LoadContext;
use crate::lookup::loader::Wish;
use crate::lookup::produced::{Produced, place, resolve};
use crate::lookup::progress::{Progress, land};
use crate::lookup::request::{Aim, Plan};
use crate::lookup::run::run_loader;
use crate::lookup::step::{Action, Basis, StoreIn};
use crate::lookup::{fill, lease, reentry, stale};
use crate::observe::trace;
use crate::remote::l2::L2;

/// Hands the flight to a task of its own. From here on no cancelled caller stops it.
pub(crate) fn spawn<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    lead: Lead<V>,
    plan: Plan<V>,
    progress: Progress<V>,
    action: Action,
) {
    let (node, key) = (inner.local.liveness.node.id, lead.key.clone());
    // The future is boxed before it is wrapped. It is large, and each layer around it moves its argument.
    let load = Box::pin(run(Arc::clone(inner), lead, plan, progress, action));
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
    mut progress: Progress<V>,
    mut action: Action,
) {
    let backoff = plan.aim.options.load.error_backoff;
    if let Action::Acquire(accept) = action {
        let pursued = lease::pursue(&inner, &mut lead, &plan.aim, &mut progress, accept);
        match inner.lifecycle.closing.run_until_cancelled(pursued).await {
            Some(decided) => action = decided,
            None => return land(lead, backoff, inner.lifecycle.check_open().map(|()| None), None),
        }
    }
    let Action::Load(basis) = action else {
        return drop(progress.end(&inner, lead, &plan.aim, action));
    };
    let (outcome, entry) = load(&inner, &mut lead, plan, basis).await;
    land(lead, backoff, outcome, entry);
}

/// The end of a flight: the answer, and the entry that L1 is offered.
type Landing<V> = (Result<Answer<V>>, Option<Entry<V>>);

/// Loads on this basis, and stores the value.
async fn load<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    lead: &mut Lead<V>,
    plan: Plan<V>,
    basis: Basis,
) -> Landing<V> {
    let (reuse, lease_ttl) = (plan.aim.reuse, plan.aim.options.load.lease_ttl);
    let loaded_at = basis.loaded_at(lead.ticket.reached);
    let held = Held { inner, key: lead.key.clone(), lease: basis.lease() };
    let loading = produce(inner, lead, plan, loaded_at);
    let produced = match (basis, &inner.remote) {
        (Basis::Leased(lease), Some(l2)) => tokio::select! {
            biased;
            produced = loading => produced,
            never = keep_alive(inner, l2, &held.key, lease, lease_ttl) => match never {},
        },
        _ => loading.await,
    };
    let produced = match produced {
        Ok(produced) => produced,
        Err(error) => return (Err(error), None),
    };
    let entry = match place(inner, lead, basis, &produced, reuse) {
        StoreIn::Fleet(_) => fill::fill(inner, held, &produced, reuse).await,
        StoreIn::L1 => {
            replace::replaces(inner, &lead.key, reuse);
            let term = produced.options.store.draw_term(produced.value.is_none());
            Some(fill::entry(inner, &produced, term, loaded_at))
        }
        StoreIn::Removed => {
            replace::forget(inner, std::slice::from_ref(&lead.key)).await;
            None
        }
        StoreIn::Nowhere => {
            replace::remove_replaced(inner, &lead.key, reuse).await;
            None
        }
    };
    (Ok(produced.value), entry)
}

/// Runs the loader under its deadline. A failure becomes an error for all callers. The value reflects every
/// change up to `loaded_at`.
async fn produce<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    lead: &Lead<V>,
    plan: Plan<V>,
    loaded_at: u64,
) -> Result<Produced<V>> {
    inner.observer.counters.loads.add(1);
    let Plan { aim: Aim { options, wish, .. }, loader } = plan;
    let (limit, begun) = (options.load.load_timeout, inner.local.liveness.node.clock.now());
    let previous =
        (wish == Wish::Previous).then(|| stale::previous(inner, &lead.key, &lead.flight())).flatten();
    let context = LoadContext::of(previous.as_ref(), begun);
    let given = run_loader(inner, move || loader.run(context), limit).await;
    let cost = inner.local.liveness.node.clock.now().since(begun);
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

/// Renews the lease after each third of its duration while the load runs. If the lease is lost, nothing is
/// renewed any more. The load goes on for its callers, and L2 will refuse the fill.
async fn keep_alive<V: 'static>(
    inner: &Inner<V>,
    l2: &L2<V>,
    key: &Key,
    lease: Lease,
    ttl: Duration,
) -> std::convert::Infallible {
    loop {
        sleep(ttl / 3).await;
        match l2.region.renew_one(key, lease, ttl).await {
            Ok(Renewed::Held) => {}
            Ok(Renewed::Lost) => std::future::pending().await,
            Err(error) => drop(inner.local.liveness.l2_failed(error)),
        }
    }
}
