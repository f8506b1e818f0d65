//! The loader: its own task, its deadline, its panics, the lease's renewal.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::backend::{Accept, Entry, Lease, Renewed};
use crate::error::{BoxError, Error, ErrorKind, Result, guard};
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::inner::{L2, Shared};
use crate::local::approach::{Answer, Reuse};
use crate::local::flight::{AnsweredBy, Lead};
use crate::lookup::lease::Grant;
use crate::lookup::loaded::{Keep, LoadContext};
use crate::lookup::loader::{Given, Payload, Wish};
use crate::lookup::one::{Aim, Plan, Route};
use crate::lookup::outage::{Recourse, recourse};
use crate::lookup::stale::excuses;
use crate::lookup::{lease, reentry};
use crate::observe::{Amended, trace};
use crate::options::Options;

/// What came of a load.
pub(crate) struct Produced<V> {
    pub(crate) value: Answer<V>,
    /// How it is kept: the options of the call, and over them those that the loader chose.
    pub(crate) options: Options,
    pub(crate) keep: Keep,
    /// How long it took.
    pub(crate) cost: Duration,
}

/// Hands the flight to a task of its own: from here on nobody's cancellation stops it.
pub(crate) fn spawn<V: Send + Sync + 'static>(
    shared: &Arc<Shared<V>>,
    lead: Lead<V>,
    plan: Plan<V>,
    route: Route<V>,
) {
    let (node, key) = (shared.node.id, lead.key.clone());
    // Boxed before it is wrapped: it is large, and each layer around it moves what it is given.
    let load = Box::pin(run(Arc::clone(shared), lead, plan, route));
    shared.tasks.spawn(trace::load(&shared.namespace, 1, reentry::within(node, [key], load)));
}

async fn run<V: Send + Sync + 'static>(
    shared: Arc<Shared<V>>,
    mut lead: Lead<V>,
    plan: Plan<V>,
    route: Route<V>,
) {
    let backoff = plan.aim.options.load.error_backoff;
    let (outcome, entry) = match (route, &shared.l2) {
        (Route::Fleet(accept, held), Some(l2)) => {
            over_the_fleet(&shared, l2, &mut lead, plan, accept, held).await
        }
        _ => {
            let loaded_at = lead.ticket.reached;
            alone(&shared, &mut lead, plan, loaded_at).await
        }
    };
    if outcome.as_ref().is_err_and(excuses) {
        lead.postpone(backoff);
    }
    lead.land(outcome, entry);
}

/// What a flight ends with: the answer, and what L1 is offered.
type End<V> = (Result<Answer<V>>, Option<Entry<V>>);

async fn over_the_fleet<V: Send + Sync + 'static>(
    shared: &Arc<Shared<V>>,
    l2: &L2<V>,
    lead: &mut Lead<V>,
    plan: Plan<V>,
    accept: Accept,
    held: Option<Entry<V>>,
) -> End<V> {
    let asked = lease::acquire(shared, l2, lead, &plan.aim, accept, held.as_ref());
    let Some(grant) = shared.closing.run_until_cancelled(asked).await else {
        return (shared.check_open().map(|()| None), None);
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
        Grant::Lease(lease) => with_lease(shared, l2, lead, plan, lease).await,
        Grant::Impatient => {
            let (reuse, loaded_at) = (plan.aim.reuse, lead.ticket.reached);
            let produced = produce(shared, lead, plan, loaded_at).await;
            if produced.as_ref().is_ok_and(|produced| produced.keep == Keep::Cached) {
                shared.rejected(&lead.key);
            }
            if produced.is_ok() {
                shared.remove_replaced(&lead.key, reuse).await;
            }
            (produced.map(|produced| produced.value), None)
        }
        Grant::Failed => (Err(shared.failed_elsewhere()), None),
        Grant::NoRoom(seq) => {
            let end = alone(shared, lead, plan, seq).await;
            if end.1.is_some() {
                shared.rejected(&lead.key);
            }
            end
        }
        Grant::Unreachable(error) => match recourse(shared, lead.key.as_bytes(), held, error) {
            Recourse::Serve(entry) if lead.suffices(&entry) => {
                lead.flight().found_by(AnsweredBy::Unverified);
                lead.flight().came_from(entry.seq, &entry.tags);
                (Ok(entry.value), None)
            }
            Recourse::Serve(_) | Recourse::Load(_) => {
                let loaded_at = lead.ticket.reached;
                alone(shared, lead, plan, loaded_at).await
            }
            Recourse::Fail(error) => (Err(error), None),
        },
    }
}

async fn with_lease<V: Send + Sync + 'static>(
    shared: &Arc<Shared<V>>,
    l2: &L2<V>,
    lead: &mut Lead<V>,
    plan: Plan<V>,
    lease: Lease,
) -> End<V> {
    let (reuse, lease_ttl) = (plan.aim.reuse, plan.aim.options.load.lease_ttl);
    let held = Held { shared, key: lead.key.clone(), lease: Some(lease) };
    let produced = tokio::select! {
        biased;
        produced = produce(shared, lead, plan, lease.seq) => produced,
        never = keep_alive(shared, l2, &held.key, lease, lease_ttl) => match never {},
    };
    match produced {
        Ok(produced) if produced.keep == Keep::Cached => {
            lead.l1_ttl = produced.options.store.l1_ttl;
            let entry = shared.fill(l2, held, &produced, reuse).await;
            (Ok(produced.value), entry)
        }
        Ok(produced) => {
            if replaces_something(lead, reuse) {
                shared.forget(std::slice::from_ref(&lead.key)).await;
            }
            (Ok(produced.value), None)
        }
        Err(error) => (Err(error), None),
    }
}

/// Loads without the shared tier: there is none, it cannot be asked, or it takes nothing.
async fn alone<V: Send + Sync + 'static>(
    shared: &Arc<Shared<V>>,
    lead: &mut Lead<V>,
    plan: Plan<V>,
    loaded_at: u64,
) -> End<V> {
    let reuse = plan.aim.reuse;
    match produce(shared, lead, plan, loaded_at).await {
        Ok(produced) if produced.keep == Keep::Cached => {
            shared.replaces(&lead.key, reuse);
            lead.l1_ttl = produced.options.store.l1_ttl;
            let term = produced.options.store.draw_term(produced.value.is_none());
            let entry = shared.entry(&produced, term, loaded_at);
            (Ok(produced.value), Some(entry))
        }
        Ok(produced) => {
            if replaces_something(lead, reuse) {
                shared.forget(std::slice::from_ref(&lead.key)).await;
            }
            (Ok(produced.value), None)
        }
        Err(error) => (Err(error), None),
    }
}

/// Whether what a load would have replaced is to be removed, where the load is not to be stored: it is known to be old.
pub(crate) fn replaces_something<V>(lead: &Lead<V>, reuse: Reuse) -> bool {
    reuse == Reuse::Nothing || lead.flight().fallback().is_some()
}

/// Runs the loader under its deadline, and turns what can go wrong into an error for everyone. What
/// it gives reflects every change up to `loaded_at`.
async fn produce<V: Send + Sync + 'static>(
    shared: &Shared<V>,
    lead: &Lead<V>,
    plan: Plan<V>,
    loaded_at: u64,
) -> Result<Produced<V>> {
    shared.counters.loads.add(1);
    let Plan { aim: Aim { options, wish, .. }, loader } = plan;
    let (limit, begun) = (options.load.load_timeout, shared.node.clock.now());
    let previous = (wish == Wish::Previous).then(|| shared.previous(&lead.key, &lead.flight())).flatten();
    let context = LoadContext::of(previous.as_ref(), begun);
    let given = shared.run_loader(move || loader.run(context), limit).await;
    let cost = shared.node.clock.now().since(begun);
    let outcome = given.and_then(|given| resolve(shared, (&lead.key, given), previous, options, cost));
    match &outcome {
        Ok(_) if shared.switch.is(Mutant::JoinersCheckedBySeal) => {}
        Ok(produced) => lead.flight().came_from(loaded_at, &produced.options.store.tags.tags),
        Err(error) => {
            shared.load_failed(&lead.key, 1, error);
        }
    }
    outcome
}

/// What the loader gave, in the light of what there was.
pub(crate) fn resolve<V: Send + Sync + 'static>(
    shared: &Shared<V>,
    (key, mut given): (&Key, Given<V>),
    previous: Option<Entry<V>>,
    options: Options,
    cost: Duration,
) -> Result<Produced<V>> {
    let mut amended = given.choice.amend(&options.store.tags);
    let mut options = options.chosen(&given.choice);
    let value = match given.payload {
        Payload::New(value) => value,
        Payload::Unchanged => match previous {
            Some(Entry { value: Some(value), tags, .. }) => {
                let mut together = options.store.tags.clone();
                together.add_all(&tags.into());
                match together.get() {
                    Ok(_) => options.store.tags = together,
                    Err(_) => amended = Some(Amended::Uncached),
                }
                Some(value)
            }
            _ => {
                let message = "a loader answered `unchanged`, but there is no previous value: look at `LoadContext::previous` first";
                return Err(shared.error(ErrorKind::Loader, message));
            }
        },
    };
    let mut keep = given.keep;
    if let Some(to) = amended {
        shared.amended(key, to);
        keep = if to == Amended::Uncached { Keep::Uncached } else { keep };
    }
    Ok(Produced { value, options, keep, cost })
}

/// A lease, given back however the load ends: with an error, a panic, a deadline, a fill of which
/// nothing was heard. Others need not wait for it to lapse.
pub(crate) struct Held<'a, V: Send + Sync + 'static> {
    shared: &'a Arc<Shared<V>>,
    pub(crate) key: Key,
    lease: Option<Lease>,
}

impl<V: Send + Sync + 'static> Held<'_, V> {
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.lease
    }

    /// A fill has ended it.
    pub(crate) fn ended(&mut self) {
        self.lease = None;
    }
}

impl<V: Send + Sync + 'static> Drop for Held<'_, V> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.shared.give_back(&self.key, lease);
        }
    }
}

impl<V: 'static> Shared<V> {
    pub(crate) fn failed_elsewhere(&self) -> Error {
        self.error(ErrorKind::Loader, "another node failed to load this key, or takes too long")
    }

    /// Runs a loader for as long as the cache is open, and within its limit.
    pub(crate) async fn run_loader<T, Fut>(&self, loader: impl FnOnce() -> Fut, limit: Duration) -> Result<T>
    where
        Fut: Future<Output = Result<T, BoxError>>,
    {
        #[cfg(feature = "metrics")]
        let begun = self.node.clock.now();
        let outcome = self.closing.run_until_cancelled(guard::run("loading a key", limit, loader)).await;
        #[cfg(feature = "metrics")]
        crate::observe::loaded(self, self.node.clock.now().since(begun));
        match outcome {
            Some(outcome) => outcome.map_err(|error| error.in_namespace(&self.namespace)),
            None => {
                Err(self.error(ErrorKind::Shutdown, "the cache was shut down while a key was being loaded"))
            }
        }
    }
}

/// Renews the lease at a third of its life for as long as the load runs. Once it is lost there is
/// nothing left to renew: the load goes on for those who wait, and its fill will be refused.
async fn keep_alive<V: 'static>(
    shared: &Shared<V>,
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
            Err(error) => drop(shared.l2_failed(error)),
        }
    }
}
