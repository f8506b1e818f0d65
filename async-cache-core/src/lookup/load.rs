//! The load: its own task, its deadline, its panics, the renewal of its lease. Then the fill: L2 first, then L1. It is
//! refused if an invalidation came during the load. And the return of leases that are not filled, so that other nodes
//! need not wait until they expire.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use crate::backend::{Announce, Entry, Fill, Filled, Lease, Renewed};
use crate::changes::retry;
use crate::error::Result;
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::pauses::Pauses;
use crate::liveness::unreturned::Owed;
use crate::local::l1::{NewEntry, new_entry};
use crate::local::lead::Lead;
use crate::local::request::{Answer, CacheMode, LookupRequest};
use crate::lookup::loader::{BoxLoader, LoadContext, Produced, place, resolve, run_loader, within_load};
use crate::lookup::many::keep::PART;
use crate::lookup::progress::{Progress, land, land_load};
use crate::lookup::step::{Action, Basis, StoreIn};
use crate::lookup::{lease, stale};
use crate::observe::{Stage, trace};
use crate::options::Term;
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
    // Its type names no `V`, so the task around it is compiled once for all caches.
    let load: BoxFuture<'static, ()> = Box::pin(run(Arc::clone(inner), lead, loader, progress, action));
    inner.lifecycle.tasks.spawn(trace::load(&inner.observer.namespace, 1, within_load(node, [key], load)));
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
        StoreIn::Fleet(lease) => fill(inner, &request, lease, &mut held, &produced).await,
        StoreIn::L1 => {
            retry::replaces(inner, key, mode);
            let term = produced.options.store.draw_term(produced.value.is_none());
            Some(entry(inner, &produced, term, loaded_at))
        }
        StoreIn::Removed => {
            retry::forget(inner, std::slice::from_ref(key)).await;
            None
        }
        StoreIn::Nowhere => {
            retry::remove_replaced(inner, key, mode).await;
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
    let (limit, begun) = (request.options.load.load_timeout, inner.local.now());
    let previous = match loader.wants_previous() {
        true => stale::previous(inner, request, &lead.flight),
        false => None,
    };
    let context = LoadContext::of(previous.as_ref(), begun);
    lead.flight.load_begins(begun);
    let given = run_loader(inner, move || loader.run(context), limit).await;
    lead.flight.load_ends();
    let cost = inner.local.now().since(begun);
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

/// Stores a value in L2 that was loaded under a lease. Returns the entry that L1 is offered. It is `None` if
/// an invalidation has broken the lease, because the loaded value may be old.
async fn fill<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    request: &LookupRequest,
    lease: Lease,
    held: &mut Held<'_, V>,
    produced: &Produced<V>,
) -> Option<Entry<V>> {
    let l2 = inner.remote.as_ref()?;
    let term = produced.options.store.draw_term(produced.value.is_none());
    let entry = entry(inner, produced, term, lease.seq);
    let frame = match l2.frame_of(&request.key, &entry, term, produced.cost) {
        Ok(frame) => frame,
        Err(error) => {
            // The callers still get their value, and L1 may keep it.
            inner.observer.not_encoded(request.key.as_bytes(), &error);
            retry::replaces(inner, &request.key, request.mode);
            return Some(entry);
        }
    };
    let announce = match request.mode {
        // Other nodes may hold the value that this one replaces. They ask L2 anyway when it expires.
        CacheMode::Use | CacheMode::Revalidate(_) => Announce::No,
        CacheMode::Reload => Announce::Yes,
    };
    let fill = Fill { key: request.key.clone(), lease, frame, life: term.kept(), announce };
    let outcome = inner.observer.stage(Stage::Fill, l2.region.fill_one(fill)).await;
    if outcome.is_ok() {
        held.leases.clear();
    }
    filled(inner, request, outcome, entry).await
}

/// The entry that L1 is offered after a fill of L2.
pub(crate) async fn filled<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    request: &LookupRequest,
    outcome: Result<Filled>,
    entry: Entry<V>,
) -> Option<Entry<V>> {
    let LookupRequest { key, mode, .. } = request;
    match outcome {
        Ok(Filled::Stored { seq }) => {
            if *mode == CacheMode::Reload {
                // This fill is a change made on this node. L1 may refuse the new value, because another key
                // of its stripe has changed. Then it must not keep the old value.
                inner.local.stripes.changed(inner.local.engine(), key.as_bytes(), seq);
            }
            Some(Entry { seq, ..entry })
        }
        Ok(Filled::Refused) => {
            inner.observer.fill_rejected(key.as_bytes());
            // An invalidation has broken the lease, or the lease was lost. In the second case the old value
            // is still stored.
            retry::remove_replaced(inner, key, *mode).await;
            None
        }
        // Whether L1 may store the value does not depend on L2. The ticket decides.
        Err(error) => {
            drop(inner.local.liveness.l2_failed(error));
            inner.observer.fill_rejected(key.as_bytes());
            retry::replaces(inner, key, *mode);
            Some(entry)
        }
    }
}

/// The loaded value as an entry with its own token.
pub(crate) fn entry<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    produced: &Produced<V>,
    term: Term,
    seq: u64,
) -> Entry<V> {
    let ahead = produced.options.load.ahead(|| produced.cost);
    let tags = &produced.options.store.tags.tags;
    new_entry(&inner.local.liveness.node, NewEntry { value: produced.value.clone(), term, ahead, seq, tags })
}

/// Leases that are released however their load ends: with an error, a panic, a timeout, or a fill of unknown
/// outcome. So other nodes need not wait until they expire.
pub(crate) struct Held<'a, V: Send + Sync + 'static> {
    pub(crate) inner: &'a Arc<Inner<V>>,
    pub(crate) leases: Vec<(Key, Lease)>,
    /// The time after which they have expired if nobody renews them.
    pub(crate) ttl: Duration,
}

impl<V: Send + Sync + 'static> Held<'_, V> {
    /// Releases the leases that will not be filled. The leases and `fills` are in the order of the keys.
    pub(crate) fn release_but(&mut self, fills: &[Fill]) {
        let mut filled = fills.iter().map(|fill| fill.lease.token).peekable();
        let (kept, unfilled) = std::mem::take(&mut self.leases)
            .into_iter()
            .partition(|(_, lease)| filled.next_if_eq(&lease.token).is_some());
        self.leases = kept;
        release(self.inner, unfilled, self.ttl);
    }
}

impl<V: Send + Sync + 'static> Drop for Held<'_, V> {
    fn drop(&mut self) {
        release(self.inner, std::mem::take(&mut self.leases), self.ttl);
    }
}

/// The pause between attempts while L2 cannot be reached.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// The longest pause between attempts while L2 refuses them. It must be well below the duration of a lease.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Releases leases that will not be filled, in a task of its own. They expire within `ttl` if nobody renews them.
///
/// A release also follows a fill of unknown outcome. If the fill has stored the value, its lease is gone, and the
/// release finds nothing. If the fill is executed after the release, L2 refuses it. The fill itself is not sent again.
/// It would be refused if the first one has stored the value, and also if a change has broken the lease, and the answer
/// does not tell which.
pub(crate) fn release<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    leases: Vec<(Key, Lease)>,
    ttl: Duration,
) {
    if leases.is_empty() {
        return;
    }
    let expires = Instant::now() + ttl;
    let owed = leases.into_iter().map(|lease| Owed { lease, expires }).collect();
    let returning = Returning { inner: Arc::clone(inner), owed };
    // A future may be dropped by a thread without a runtime. Then a task of the background returns its leases.
    if let Ok(runtime) = Handle::try_current() {
        let sending: BoxFuture<'static, ()> = Box::pin(async move { drop(returning.send().await) });
        inner.lifecycle.tasks.spawn_on(sending, &runtime);
    }
}

/// Leases on their way to L2. They are kept for another attempt if this one fails, because the connection may have been
/// lost together with the fill, and another one is made within the second. They are kept, too, if the runtime of the
/// attempt ends.
struct Returning<V: Send + Sync + 'static> {
    inner: Arc<Inner<V>>,
    owed: Vec<Owed>,
}

impl<V: Send + Sync + 'static> Returning<V> {
    async fn send(mut self) -> Result<()> {
        let Some(l2) = self.inner.remote.as_ref().filter(|_| !self.owed.is_empty()) else {
            self.owed.clear();
            return Ok(());
        };
        let leases: Vec<(Key, Lease)> = self.owed.iter().map(|owed| owed.lease.clone()).collect();
        let returned = l2.region.release(&leases).await;
        returned.map_err(|error| self.inner.local.liveness.l2_failed(error))?;
        self.owed.clear();
        Ok(())
    }
}

impl<V: Send + Sync + 'static> Drop for Returning<V> {
    fn drop(&mut self) {
        if !self.owed.is_empty() {
            self.inner.local.liveness.unreturned.add(std::mem::take(&mut self.owed));
        }
    }
}

/// Sends some of the leases that could not be returned before.
async fn send_again<V: Send + Sync + 'static>(inner: &Arc<Inner<V>>) -> Result<()> {
    let owed = inner.local.liveness.unreturned.take(PART);
    Returning { inner: Arc::clone(inner), owed }.send().await
}

/// Retries what could not be returned, until the cache is closed. An outage is waited for without a command.
pub(crate) async fn return_leases<V: Send + Sync + 'static>(inner: Arc<Inner<V>>) {
    let liveness = &inner.local.liveness;
    let mut pauses = Pauses::new(RETRY_EVERY);
    loop {
        if liveness.unreturned.is_empty() {
            pauses.over();
            liveness.unreturned.added.notified().await;
        } else if liveness.is_cut_off() {
            sleep(pauses.short()).await;
        } else {
            match send_again(&inner).await {
                Ok(()) => pauses.over(),
                Err(error) if error.is_temporary() => sleep(pauses.short()).await,
                Err(_) => liveness.pause(pauses.longer().min(LONGEST_PAUSE)).await,
            }
        }
    }
}

/// The last attempt before the node ends.
pub(crate) async fn return_last<V: Send + Sync + 'static>(inner: &Arc<Inner<V>>) {
    while !inner.local.liveness.unreturned.is_empty() {
        if send_again(inner).await.is_err() {
            return;
        }
    }
}
