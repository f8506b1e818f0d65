//! One call of a batch loader: it renews the leases, stores the values, and ends the flights.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::backend::{Announce, Entry, Fill, Lease};
use crate::changes::retry;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::local::request::Answer;
use crate::lookup::load::{self, Held, release};
use crate::lookup::loader::{Given, Produced, place, resolve, run_loader, within_load};
use crate::lookup::many::keep::{self, Kept, PART};
use crate::lookup::many::plan::{LedKey, Picked, PlanMany};
use crate::lookup::progress::{land, land_load};
use crate::lookup::step::{Basis, StoreIn};
use crate::lookup::wait;
use crate::observe::{Stage, trace};

/// A key to be loaded on this node, and the basis of the load.
pub(crate) struct Claimed<V: 'static> {
    pub(crate) led: LedKey<V>,
    pub(crate) basis: Basis,
}

/// Loads all keys with one call, in a task of its own.
pub(crate) fn spawn<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    claimed: Vec<Claimed<V>>,
    kept: Kept,
    plan: &Arc<PlanMany<V>>,
) {
    if claimed.is_empty() {
        return;
    }
    let keys: Vec<Key> = claimed.iter().map(|claimed| claimed.led.lead.key().clone()).collect();
    let load: BoxFuture<'static, ()> = Box::pin(run(Arc::clone(inner), claimed, kept, Arc::clone(plan)));
    let (count, load) = (keys.len(), within_load(inner.local.liveness.node.id, keys, load));
    inner.lifecycle.tasks.spawn(trace::load(&inner.observer.namespace, count, load));
}

async fn run<V: Send + Sync + 'static>(
    inner: Arc<Inner<V>>,
    claimed: Vec<Claimed<V>>,
    kept: Kept,
    plan: Arc<PlanMany<V>>,
) {
    let leases: Vec<(Key, Lease)> = claimed.iter().filter_map(Claimed::lease).collect();
    let kept = match inner.policy.faults.is(Mutant::LeasesKeptFromLoad) {
        true => Kept::of(leases.clone(), keep::lease_ttl(&inner, &plan.options, leases.len())),
        false => kept,
    };
    let held = Held { inner: &inner, leases, ttl: keep::longest_ttl(&plan.options) };
    let limit = wait::patience_with(&inner, &plan.options, claimed.len());
    claimed.iter().for_each(|claimed| claimed.led.lead.goes_on(limit));
    let begun = inner.local.now();
    claimed.iter().for_each(|claimed| claimed.led.lead.flight.load_begins(begun));
    let picked = tokio::select! {
        biased;
        picked = call(&inner, &claimed, &plan) => picked,
        never = keep::keep_alive(&inner, &kept) => match never {},
    };
    claimed.iter().for_each(|claimed| claimed.led.lead.flight.load_ends());
    let cost = inner.local.now().since(begun);
    match picked {
        Ok(picked) if inner.policy.faults.is(Mutant::LeasesKeptFromLoad) => {
            Storage { inner: &inner, kept: &kept, held, down: None }.store(claimed, picked, cost).await;
        }
        Ok(picked) => {
            claimed.iter().for_each(|claimed| claimed.led.lead.goes_on(limit));
            let mut storage = Storage { inner: &inner, kept: &kept, held, down: None };
            tokio::select! {
                biased;
                () = storage.store(claimed, picked, cost) => {}
                never = keep::keep_alive(&inner, &kept) => match never {},
            }
        }
        Err(error) => {
            inner.observer.counters.load_failures.add(1);
            inner.observer.log_failed(claimed[0].led.lead.key().as_bytes(), claimed.len(), &error);
            for Claimed { led, basis } in claimed {
                inner.observer.tell_failed(led.lead.key().as_bytes(), &error);
                let loaded_at = basis.loaded_at(led.lead.ticket.reached);
                land_load(led.lead, loaded_at, Err(error.clone()), None);
            }
        }
    }
}

async fn call<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    claimed: &[Claimed<V>],
    plan: &PlanMany<V>,
) -> Result<Picked<Given<V>>> {
    inner.observer.counters.loads.add(1);
    let places = claimed.iter().map(|claimed| claimed.led.place).collect();
    let picked = run_loader(inner, || (plan.loader)(places), plan.options.load.load_timeout).await?;
    inner.observer.counters.unasked_keys.add(picked.unasked);
    Ok(picked)
}

/// A batch while its values are stored.
struct Storage<'a, V: Send + Sync + 'static> {
    inner: &'a Arc<Inner<V>>,
    kept: &'a Kept,
    held: Held<'a, V>,
    /// The error of L2, if it stored nothing of a part.
    down: Option<Error>,
}

impl<V: Send + Sync + 'static> Storage<'_, V> {
    /// Stores the loaded values in parts. A stored value needs no lease any more.
    async fn store(&mut self, claimed: Vec<Claimed<V>>, picked: Picked<Given<V>>, cost: Duration) {
        let (inner, mut failed) = (self.inner, None::<(Key, usize, Error)>);
        let mut loaded = claimed.into_iter().zip(picked.answers);
        loop {
            let part: Vec<_> = loaded.by_ref().take(PART).collect();
            if part.is_empty() {
                break;
            }
            let behind = self
                .held
                .leases
                .split_off(part.iter().filter(|(claimed, _)| claimed.lease().is_some()).count());
            let (mut fills, mut filling, mut forgotten) = (Vec::new(), Vec::new(), Vec::new());
            for (Claimed { mut led, basis }, answer) in part {
                let loaded_at = basis.loaded_at(led.lead.ticket.reached);
                match storing_of(inner, &mut led, basis, answer, cost) {
                    Storing::Fill(fill, answer, entry) => {
                        fills.push(fill);
                        filling.push((led, answer, entry));
                    }
                    Storing::Forget(answer) => forgotten.push((led, answer)),
                    Storing::Land(outcome, entry) => {
                        if let Err(error) = &outcome {
                            let first =
                                failed.get_or_insert_with(|| (led.lead.key().clone(), 0, error.clone()));
                            first.1 += 1;
                        }
                        land_load(led.lead, loaded_at, outcome, entry);
                    }
                }
            }
            if !forgotten.is_empty() {
                let keys: Vec<Key> = forgotten.iter().map(|(led, _)| led.lead.key().clone()).collect();
                retry::forget(inner, &keys).await;
                forgotten.into_iter().for_each(|(led, answer)| {
                    land(led.lead, Ok(answer), None);
                });
            }
            // The leases of values that are not stored are released at once.
            self.held.release_but(&fills);
            self.held.leases.extend(behind);
            self.fill_part(filling, fills).await;
        }
        if let Some((key, keys, error)) = failed {
            inner.observer.log_failed(key.as_bytes(), keys, &error);
        }
    }

    /// Stores one part: in L2 with one command, then in L1 and for the callers, key by key. If L2 stored nothing
    /// of a part, it is not asked for the next parts, because each of them would wait for its deadline.
    async fn fill_part(&mut self, filling: Vec<(LedKey<V>, Answer<V>, Entry<V>)>, fills: Vec<Fill>) {
        let inner = self.inner;
        let Some(l2) = inner.remote.as_ref().filter(|_| !fills.is_empty()) else { return };
        let filled = match &self.down {
            Some(error) => vec![Err(error.clone()); fills.len()],
            None => inner.observer.stage(Stage::Fill, l2.region.fill(&fills)).await,
        };
        if filled.iter().all(Result::is_err) {
            self.down = filled.first().and_then(|outcome| outcome.as_ref().err().cloned());
        }
        self.kept.filled(&fills);
        self.held.leases.drain(..fills.len());
        let mut unfilled = Vec::new();
        for (((led, answer, entry), outcome), Fill { lease, .. }) in
            filling.into_iter().zip(filled).zip(fills)
        {
            if outcome.is_err() {
                unfilled.push((led.lead.key().clone(), lease));
            }
            let entry = load::filled(inner, &led.lead.request, outcome, entry).await;
            land(led.lead, Ok(answer), entry);
        }
        release(inner, unfilled, self.held.ttl);
    }
}

/// What is done with the answer of one key.
enum Storing<V> {
    Fill(Fill, Answer<V>, Entry<V>),
    /// The value is not stored, and the value that it was to replace is removed.
    Forget(Answer<V>),
    Land(Result<Answer<V>>, Option<Entry<V>>),
}

/// Decides what is done with the answer of one key.
fn storing_of<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    led: &mut LedKey<V>,
    basis: Basis,
    answer: Option<Result<Given<V>, BoxError>>,
    cost: Duration,
) -> Storing<V> {
    let produced = match answer {
        Some(Ok(given)) => resolve(inner, &led.lead.request, given, None, cost),
        Some(Err(cause)) => {
            Err(inner.observer.error(ErrorKind::Loader, "loading a key of a batch failed").with_source(cause))
        }
        // The loader returned nothing for this key. It did not say that there is no value.
        None => return Storing::Land(Ok(None), None),
    };
    let produced = match produced {
        Ok(produced) => produced,
        Err(error) => {
            inner.observer.counters.load_failures.add(1);
            inner.observer.tell_failed(led.lead.key().as_bytes(), &error);
            return Storing::Land(Err(error), None);
        }
    };
    let loaded_at = basis.loaded_at(led.lead.ticket.reached);
    led.lead.flight().came_from(loaded_at, &produced.options.store.tags.tags);
    let answer = produced.value.clone();
    match place(inner, &mut led.lead, basis, &produced) {
        StoreIn::Fleet(lease) => fill_of(inner, led, lease, &produced),
        StoreIn::L1 => {
            let term = produced.options.store.draw_term(answer.is_none());
            Storing::Land(Ok(answer), Some(load::entry(inner, &produced, term, loaded_at)))
        }
        StoreIn::Removed => Storing::Forget(answer),
        StoreIn::Nowhere => Storing::Land(Ok(answer), None),
    }
}

/// The fill of one key. If the value cannot be stored in L2, its flight ends.
fn fill_of<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    led: &LedKey<V>,
    lease: Lease,
    produced: &Produced<V>,
) -> Storing<V> {
    let answer = produced.value.clone();
    let term = produced.options.store.draw_term(answer.is_none());
    let entry = load::entry(inner, produced, term, lease.seq);
    let Some(l2) = &inner.remote else { return Storing::Land(Ok(answer), Some(entry)) };
    match l2.frame_of(led.lead.key(), &entry, term, produced.cost) {
        Ok(frame) => {
            let (key, life) = (led.lead.key().clone(), term.kept());
            Storing::Fill(Fill { key, lease, frame, life, announce: Announce::No }, answer, entry)
        }
        // The callers still get their value, and L1 may keep it.
        Err(error) => {
            inner.observer.not_encoded(led.lead.key().as_bytes(), &error);
            Storing::Land(Ok(answer), Some(entry))
        }
    }
}

impl<V> Claimed<V> {
    fn lease(&self) -> Option<(Key, Lease)> {
        self.basis.lease().map(|lease| (self.led.lead.key().clone(), lease))
    }
}
