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
use crate::local::lead::Lead;
use crate::local::request::Answer;
use crate::lookup::fill::Held;
use crate::lookup::loaded::LoadContext;
use crate::lookup::loader::{BoxLoader, Produced, place, resolve, run_loader};
use crate::lookup::progress::{Progress, land, land_load};
use crate::lookup::step::{Action, Basis, StoreIn};
use crate::lookup::{check, fill, lease, stale};
use crate::observe::trace;
use crate::remote::l2::L2;

/// Hands the flight to a task of its own. From here on no cancelled caller stops it.
pub(crate) fn spawn<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    lead: Lead<V>,
    loader: BoxLoader<V>,
    progress: Progress<V>,
    action: Action,
) {
    let (node, key) = (inner.local.liveness.node.id, lead.key().clone());
    // The future is boxed before it is wrapped. It is large, and each layer around it moves its argument.
    let load = Box::pin(run(Arc::clone(inner), lead, loader, progress, action));
    inner.lifecycle.tasks.spawn(trace::load(
        &inner.observer.namespace,
        1,
        check::within_load(node, [key], load),
    ));
}

async fn run<V: Send + Sync + 'static>(
    inner: Arc<Inner<V>>,
    mut lead: Lead<V>,
    loader: BoxLoader<V>,
    mut progress: Progress<V>,
    mut action: Action,
) {
    if let Action::Acquire(accept) = action {
        let pursued = lease::pursue(&inner, &mut lead, &mut progress, accept);
        match inner.lifecycle.closing.run_until_cancelled(pursued).await {
            Some(decided) => action = decided,
            None => return land(lead, inner.lifecycle.check_open().map(|()| None), None),
        }
    }
    let Action::Load(basis) = action else {
        return drop(progress.end(&inner, lead, action));
    };
    let loaded_at = basis.loaded_at(lead.ticket.reached);
    let (outcome, entry) = load(&inner, &mut lead, loader, basis).await;
    land_load(lead, loaded_at, outcome, entry);
}

/// The end of a flight: the answer, and the entry that L1 is offered.
type Landing<V> = (Result<Answer<V>>, Option<Entry<V>>);

/// Loads on this basis, and stores the value.
async fn load<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    lead: &mut Lead<V>,
    loader: BoxLoader<V>,
    basis: Basis,
) -> Landing<V> {
    let request = Arc::clone(&lead.request);
    let (key, mode) = (&request.key, request.mode);
    let loaded_at = basis.loaded_at(lead.ticket.reached);
    let leases = basis.lease().map(|lease| (key.clone(), lease)).into_iter().collect();
    let mut held = Held { inner, leases, ttl: request.options.load.lease_ttl };
    let loading = produce(inner, lead, loader, loaded_at);
    let produced = match (basis, &inner.remote) {
        (Basis::Leased(_), Some(l2)) => tokio::select! {
            biased;
            produced = loading => produced,
            never = keep_alive(inner, l2, &held.leases, request.options.load.lease_ttl) => match never {},
        },
        _ => loading.await,
    };
    let produced = match produced {
        Ok(produced) => produced,
        Err(error) => return (Err(error), None),
    };
    let entry = match place(inner, lead, basis, &produced) {
        StoreIn::Fleet(lease) => fill::fill(inner, &request, lease, &mut held, &produced).await,
        StoreIn::L1 => {
            replace::replaces(inner, key, mode);
            let term = produced.options.store.draw_term(produced.value.is_none());
            Some(fill::entry(inner, &produced, term, loaded_at))
        }
        StoreIn::Removed => {
            replace::forget(inner, std::slice::from_ref(key)).await;
            None
        }
        StoreIn::Nowhere => {
            replace::remove_replaced(inner, key, mode).await;
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
    loader: BoxLoader<V>,
    loaded_at: u64,
) -> Result<Produced<V>> {
    inner.observer.counters.loads.add(1);
    let request = &*lead.request;
    let (limit, begun) = (request.options.load.load_timeout, inner.local.liveness.node.clock.now());
    let previous = match loader.wants_previous() {
        true => stale::previous(inner, request, &lead.flight),
        false => None,
    };
    let context = LoadContext::of(previous.as_ref(), begun);
    lead.flight.load_begins(begun);
    let given = run_loader(inner, move || loader.run(context), limit).await;
    lead.flight.load_ends();
    let cost = inner.local.liveness.node.clock.now().since(begun);
    let outcome = given.and_then(|given| resolve(inner, request, given, previous, cost));
    match &outcome {
        Ok(_) if inner.policy.faults.is(Mutant::JoinersCheckedBySeal) => {}
        Ok(produced) => lead.flight().came_from(loaded_at, &produced.options.store.tags.tags),
        Err(error) => {
            inner.observer.load_failed(request.key.as_bytes(), 1, error);
        }
    }
    outcome
}

/// Renews the lease after each third of its duration while the load runs. If the lease is lost, nothing is
/// renewed any more. The load goes on for its callers, and L2 will refuse the fill.
async fn keep_alive<V: 'static>(
    inner: &Inner<V>,
    l2: &L2<V>,
    lease: &[(Key, Lease)],
    ttl: Duration,
) -> std::convert::Infallible {
    loop {
        sleep(ttl / 3).await;
        match l2.region.renew(lease, ttl).await {
            Ok(renewed) if renewed.contains(&Renewed::Lost) => std::future::pending().await,
            Ok(_) => {}
            Err(error) => drop(inner.local.liveness.l2_failed(error)),
        }
    }
}
