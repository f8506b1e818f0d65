//! The loader: its own task, its deadline, its panics, the lease's renewal.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::fetch::Trust;
use super::flight::Lead;
use super::lease::{self, Grant};
use super::{Answer, Plan, Route, guard, reentry};
use crate::backend::{Entry, Lease, Renewed};
use crate::error::{BoxError, ErrorKind, Result};
use crate::key::Key;
use crate::options::{EntryOptions, Keep, Loaded};
use crate::resilience::{Recourse, recourse};
use crate::shared::{L2, Shared};

/// What a loader gave, typed by the cache's value alone.
pub(crate) struct Produced<V> {
    pub(crate) value: Answer<V>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) keep: Keep,
}

impl<V> Produced<V> {
    pub(crate) fn new(found: Option<Loaded<V>>) -> Self {
        match found {
            Some(Loaded { value, ttl, keep }) => Self { value: Some(Arc::new(value)), ttl, keep },
            None => Self { value: None, ttl: None, keep: Keep::Cached },
        }
    }
}

/// A loader, typed by the cache's value alone: the path is compiled once per value, not per call.
pub(crate) type BoxLoader<V> = Box<dyn FnOnce() -> BoxFuture<'static, Result<Produced<V>, BoxError>> + Send>;

pub(crate) fn box_loader<V, F, Fut, R, E>(loader: F, options: &mut EntryOptions) -> BoxLoader<V>
where
    V: Send + Sync + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    R: Into<Loaded<V>>,
    E: Into<BoxError>,
{
    box_optional_loader(move || loader().map(|result| result.map(Some)), options)
}

pub(crate) fn box_optional_loader<V, F, Fut, R, E>(loader: F, _: &mut EntryOptions) -> BoxLoader<V>
where
    V: Send + Sync + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Option<R>, E>> + Send + 'static,
    R: Into<Loaded<V>>,
    E: Into<BoxError>,
{
    Box::new(move || {
        loader()
            .map(|result| match result {
                Ok(found) => Ok(Produced::new(found.map(Into::into))),
                Err(error) => Err(error.into()),
            })
            .boxed()
    })
}

/// Hands the flight to a task of its own: from here on nobody's cancellation stops it.
pub(super) fn spawn<V: Send + Sync + 'static>(
    shared: &Arc<Shared<V>>,
    lead: Lead<V>,
    plan: Plan<V>,
    route: Route<V>,
) {
    let (node, key) = (shared.node.id, lead.key.clone());
    let task = reentry::within(node, key, run(Arc::clone(shared), lead, plan, route));
    shared.tasks.spawn(task);
}

async fn run<V: Send + Sync + 'static>(
    shared: Arc<Shared<V>>,
    mut lead: Lead<V>,
    plan: Plan<V>,
    route: Route<V>,
) {
    let (outcome, entry) = match (route, &shared.l2) {
        (Route::Fleet(trust, held), Some(l2)) => {
            over_the_fleet(&shared, l2, &mut lead, plan, trust, held).await
        }
        _ => alone(&shared, &lead, plan).await,
    };
    lead.land(outcome, entry);
}

/// What a flight ends with: the answer, and what L1 is offered.
type End<V> = (Result<Answer<V>>, Option<Entry<V>>);

async fn over_the_fleet<V: Send + Sync + 'static>(
    shared: &Arc<Shared<V>>,
    l2: &L2<V>,
    lead: &mut Lead<V>,
    plan: Plan<V>,
    trust: Trust,
    held: Option<Entry<V>>,
) -> End<V> {
    let asked = lease::acquire(shared, l2, lead, (plan.want, trust), held.as_ref(), &plan.options);
    let Some(grant) = shared.closing.run_until_cancelled(asked).await else {
        return (shared.check_open().map(|()| None), None);
    };
    match grant {
        Grant::Found(entry) => {
            shared.counters.l2_hits.add(1);
            (Ok(entry.value.clone()), Some(entry))
        }
        Grant::Lease(lease) => with_lease(shared, l2, lead, plan, lease).await,
        Grant::Impatient => {
            shared.replaces(&lead.key, plan.reuse);
            (produce(shared, plan.loader, &plan.options).await.map(|produced| produced.value), None)
        }
        Grant::Unreachable(error) => match recourse(shared, lead.key.as_bytes(), held, error) {
            Recourse::Serve(entry) => {
                shared.counters.stale_served.add(1);
                (Ok(entry.value), None)
            }
            Recourse::Load(_) => alone(shared, lead, plan).await,
            Recourse::Fail(error) => (Err(error), None),
        },
    }
}

async fn with_lease<V: Send + Sync + 'static>(
    shared: &Arc<Shared<V>>,
    l2: &L2<V>,
    lead: &Lead<V>,
    plan: Plan<V>,
    lease: Lease,
) -> End<V> {
    let Plan { options, reuse, loader, .. } = plan;
    let begun = shared.node.clock.now();
    let produced = tokio::select! {
        produced = produce(shared, loader, &options) => produced,
        never = keep_alive(shared, l2, &lead.key, lease, options.lease_ttl) => match never {},
    };
    let cost = shared.node.clock.now().since(begun);
    match produced {
        Ok(produced) if produced.keep == Keep::Cached => {
            let entry = shared.fill(l2, &lead.key, lease, &produced, (cost, reuse), &options).await;
            (Ok(produced.value), entry)
        }
        unstored => {
            shared.give_back(&lead.key, lease);
            (unstored.map(|produced| produced.value), None)
        }
    }
}

/// Loads without the shared tier: there is none, or it cannot be asked.
async fn alone<V: Send + Sync + 'static>(shared: &Arc<Shared<V>>, lead: &Lead<V>, plan: Plan<V>) -> End<V> {
    shared.replaces(&lead.key, plan.reuse);
    match produce(shared, plan.loader, &plan.options).await {
        Ok(produced) => {
            let life = plan.options.draw_life(produced.value.is_none(), produced.ttl);
            let entry = shared.entry(produced.value.clone(), life, lead.ticket.seq);
            (Ok(produced.value), (produced.keep == Keep::Cached).then_some(entry))
        }
        Err(error) => (Err(error), None),
    }
}

/// Runs the loader under its deadline, and turns what can go wrong into an error for everyone.
async fn produce<V: Send + Sync + 'static>(
    shared: &Shared<V>,
    loader: BoxLoader<V>,
    options: &EntryOptions,
) -> Result<Produced<V>> {
    shared.counters.misses.add(1);
    shared.counters.loads.add(1);
    let outcome =
        shared.run_loader(loader, options.load_timeout).await.and_then(|produced| match produced.ttl {
            Some(Duration::ZERO) => {
                Err(shared.error(ErrorKind::Config, "a loader chose a ttl of zero: use `uncached`"))
            }
            _ => Ok(produced),
        });
    if outcome.is_err() {
        shared.counters.load_failures.add(1);
    }
    outcome
}

impl<V: 'static> Shared<V> {
    /// Runs a loader for as long as the cache is open, and within its limit.
    async fn run_loader<T, Fut>(&self, loader: impl FnOnce() -> Fut, limit: Duration) -> Result<T>
    where
        Fut: Future<Output = Result<T, BoxError>>,
    {
        match self.closing.run_until_cancelled(guard::run("loading a key", limit, loader)).await {
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
