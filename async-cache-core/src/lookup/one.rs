//! The lookup of one key.
//!
//! 1. [`first`]: the first poll probes [`L1`](crate::local::l1). A hit ends here, without waiting.
//! 2. [`flight`](crate::local::flight): one caller of each key leads. The others wait for its result.
//! 3. [`fetch`]: the leader reads L2. It skips that if the [`MissRate`](crate::remote::l2::MissRate) is high.
//! 4. [`lease`](super::lease): if L2 has nothing, one node of the fleet gets the lease. The others wait.
//! 5. [`load`]: the loader runs in its own task, under a deadline.
//! 6. [`fill`](load): the value goes to L2, then to L1, unless an invalidation came during the load.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::backend::{Entry, Token};
use crate::error::{Error, Result};
use crate::faults::mutant::Mutant;
use crate::format::key::{CacheKey, Key, with_any_length, with_encoded};
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::flight::Flight;
use crate::local::l1::{Probe, take_choice};
use crate::local::lead::{Entered, Lead, enter};
use crate::local::request::{Answer, CacheMode, FirstTier, Found, LookupRequest, Source};
use crate::local::sample::Sample;
use crate::lookup::load;
use crate::lookup::loader::{BoxLoader, check_reentry};
use crate::lookup::progress::{self, End, PastDue, Progress, Role, count_found, in_l1, in_l2, refreshes};
use crate::lookup::stale::{Aged, OutageDecision, aged, decide_in_outage};
use crate::lookup::step::{Action, Next, after_flight};
use crate::lookup::wait::{self, Caller};
use crate::observe::{StaleCause, trace};
use crate::options::Options;
use crate::remote::read::{Fetched, fetch};

/// A hit and nothing else, on the stack of the caller. [`first`] handles all other cases.
#[inline]
pub(crate) fn hit<V: 'static, Q: CacheKey + ?Sized>(
    inner: &Inner<V>,
    key: &Q,
    absent_ok: bool,
) -> Option<Answer<V>> {
    with_any_length(key, |bytes| inner.local.hit_at_once(bytes, absent_ok))
}

/// The result of the probe of L1 for a request, or the error of its key.
pub(crate) enum First<V> {
    Hit(Found<V>),
    /// A hit that the verifier has chosen.
    Sampled(Found<V>, Sample<V>),
    /// A hit. The entry with this token is to be refreshed.
    HitAndRefresh(Found<V>, Key, Token),
    Miss(Key),
    Failed(Error),
}

/// Probes L1 and handles all cases. `options` is `None` for a lookup without a loader.
pub(crate) fn first<V: Send + Sync + 'static, Q: CacheKey + ?Sized>(
    inner: &Inner<V>,
    key: &Q,
    min_stamp: Option<&Stamp>,
    absent_ok: bool,
    options: Option<&Options>,
) -> First<V> {
    let chosen = take_choice().then(|| inner.local.liveness.node.clock.coarse_now());
    if let Err(error) = inner.local.liveness.check_stamp(min_stamp) {
        return First::Failed(error);
    }
    let probed = with_encoded(key, |bytes| match inner.local.probe(bytes, min_stamp) {
        Probe::Hit(entry) if absent_ok || entry.value.is_some() => {
            inner.local.hits.increment();
            let found = Found::copied(&entry, Source::L1);
            match chosen {
                Some(begun) => {
                    let key = Key::from_encoded(bytes);
                    First::Sampled(found, Sample { key, entry, begun, rerun: None })
                }
                None => First::Hit(found),
            }
        }
        Probe::Ripe(entry) | Probe::Stale(entry) if absent_ok || entry.value.is_some() => {
            past_due(inner, bytes, entry, options)
        }
        _ => First::Miss(Key::from_encoded(bytes)),
    });
    probed.unwrap_or_else(|error| First::Failed(error.in_namespace(&inner.observer.namespace)))
}

#[cold]
fn past_due<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &[u8],
    entry: Entry<V>,
    options: Option<&Options>,
) -> First<V> {
    // A fresh hit does not check them, to save time.
    if let Some(Err(error)) = options.map(|options| inner.local.check_options(options)) {
        return First::Failed(error);
    }
    let now = inner.local.now();
    let aged = match options {
        Some(options) => aged(&entry.life, options, now, || 1.0 - fastrand::f64()),
        None if now < entry.life.expires => Aged::Answers,
        None => Aged::Load,
    };
    match progress::past_due(inner, key, entry, aged) {
        PastDue::Answer(entry) => First::Hit(Found::of(entry, aged.source())),
        PastDue::AnswerAndRefresh(entry) => {
            let token = entry.token;
            First::HitAndRefresh(Found::of(entry, aged.source()), Key::from_encoded(key), token)
        }
        PastDue::Nothing => First::Miss(Key::from_encoded(key)),
    }
}

/// A lookup without a loader, after the probe has missed.
pub(crate) async fn get<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &Key,
    min_stamp: Option<&Stamp>,
    first_tier: FirstTier,
) -> Result<Found<V>> {
    inner.lifecycle.check_open()?;
    inner.local.liveness.check_stamp(min_stamp)?;
    inner.local.check_first_tier(first_tier)?;
    let ticket = inner.local.ticket_to_read(key);
    let unreachable = match fetch(inner.remote.as_ref(), key, min_stamp, ticket, &inner.policy.defaults).await
    {
        Fetched::Found(entry, ticket) => {
            inner.observer.counters.l2_hits.add(1);
            let found = Found::copied(&entry, Source::L2);
            inner.local.admit(key, ticket, entry, inner.policy.defaults.store.l1_ttl);
            return Ok(found);
        }
        Fetched::Stale(..) | Fetched::Absent(_) => {
            inner.observer.counters.misses.add(1);
            return Ok(Found::NOTHING);
        }
        Fetched::Unreachable(error) => error,
    };
    let held = match first_tier {
        FirstTier::L1 => inner.local.held(key.as_bytes(), min_stamp),
        FirstTier::L2 => None,
    };
    match decide_in_outage(inner, key.as_bytes(), held, unreachable) {
        OutageDecision::Serve(entry) => {
            inner.observer.stale_served(key.as_bytes(), StaleCause::Outage);
            Ok(Found::of(entry, Source::Stale))
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
    request: Arc<LookupRequest>,
    loader: BoxLoader<V>,
) -> Result<Found<V>> {
    inner.lifecycle.check_open()?;
    inner.local.liveness.check_stamp(request.min_stamp.as_ref())?;
    inner.local.check_first_tier(request.first_tier)?;
    inner.local.check_options(&request.options)?;
    check_reentry(inner, &request.key)?;
    let mut caller = Caller::new(inner, request);
    let mut needs_value = false;
    let lead = loop {
        let (flight, role) = match enter(&inner.local, &caller.request, caller.limit, needs_value) {
            Entered::Lead(lead) => break lead,
            Entered::Join(flight, bound) => (flight, Role::Joined(bound)),
        };
        let waited = wait::wait(inner, &caller, &flight, role).await;
        match after_flight(false, wait::ended(inner, &caller, &flight, &waited)) {
            Next::Return | Next::Lost => return wait::returned(inner, &caller, &flight, role, waited),
            Next::AskAgain => inner.lifecycle.check_open()?,
            Next::AskForValue => {
                needs_value = true;
                if inner.policy.faults.is(Mutant::SuccessorsLeadAlone) {
                    Arc::make_mut(&mut caller.request).mode = CacheMode::Reload;
                }
            }
        }
    };
    let flight = match lead_flight(inner, lead, loader).await {
        Led::Flying(flight) => flight,
        Led::Ended(Ok((found, by))) => {
            count_found(inner, caller.request.key.as_bytes(), by);
            return Ok(found);
        }
        Led::Ended(Err(error)) => {
            inner.observer.counters.misses.add(1);
            return Err(error);
        }
    };
    let waited = wait::wait(inner, &caller, &flight, Role::Leads).await;
    wait::returned(inner, &caller, &flight, Role::Leads, waited)
}

/// Refreshes a key in the background, unless a flight is refreshing it already.
pub(crate) fn refresh_behind<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    request: LookupRequest,
    loader: BoxLoader<V>,
) {
    // The tags of a decorated function are known only now.
    if inner.lifecycle.closing.is_cancelled() || inner.local.check_options(&request.options).is_err() {
        return;
    }
    lead_behind(inner, &Arc::new(request), loader);
}

fn lead_behind<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    request: &Arc<LookupRequest>,
    loader: BoxLoader<V>,
) {
    let limit = wait::patience(inner, &request.options);
    if let Entered::Lead(lead) = enter(&inner.local, request, limit, false) {
        let at_work = Arc::clone(inner);
        // The future is boxed, because it can start itself again, and a future cannot contain itself.
        let leading: BoxFuture<'static, ()> = Box::pin(trace::here(async move {
            // The callers that join the flight learn its result from the flight.
            drop(lead_flight(&at_work, lead, loader).await);
        }));
        inner.lifecycle.tasks.spawn(leading);
    }
}

/// Leads a flight. If a tier has the value, the flight ends here. Otherwise a task of its own takes it over.
async fn lead_flight<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    lead: Lead<V>,
    loader: BoxLoader<V>,
) -> Led<V> {
    let skips_read = inner.remote.as_ref().is_some_and(|l2| l2.miss_rate.skip_read());
    let mut progress = Progress::begin(inner, &lead.request, loader.wants_previous(), skips_read);
    let mut action = progress.learn(inner, &lead, in_l1(inner, &lead));
    if action == Action::ReadL2 {
        let seen = in_l2(inner, &lead).await;
        action = progress.learn(inner, &lead, seen);
    }
    if let Action::Acquire(_) | Action::Load(_) = action {
        let flight = lead.flight();
        load::spawn(inner, lead, loader, progress, action);
        return Led::Flying(flight);
    }
    if action == Action::FailAgain {
        // The leader waits, too: a stale value answers before the error.
        let flight = lead.flight();
        drop(progress.end(inner, lead, action));
        return Led::Flying(flight);
    }
    let refresh = match (action, progress.answer()) {
        (Action::Answer(by), Some(entry)) if refreshes(inner, &lead.request, entry, by) => {
            Some(lead.request.behind(entry.token))
        }
        _ => None,
    };
    let ended = progress.end(inner, lead, action);
    if let Some(request) = refresh {
        lead_behind(inner, &Arc::new(request), loader);
    }
    Led::Ended(ended)
}

/// How far the leader has brought the flight.
enum Led<V> {
    Ended(End<V>),
    /// A task of its own brings the flight to its end, or it has ended with an error that the caller may not get.
    Flying(Arc<Flight<V>>),
}
