//! A caller waits for a flight: until it ends, or until the caller accepts a stale value instead.

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::backend::{Phase, Tick};
use crate::error::{Error, ErrorKind, Result};
use crate::faults::mutant::Mutant;
use crate::inner::Inner;
use crate::local::flight::{AnsweredBy, Flight, Landed};
use crate::local::request::{Answer, CacheMode, Found, LookupRequest, Source};
use crate::lookup::progress::{Role, count_found, count_landed, source_of};
use crate::lookup::stale::{self, StandIn, Standing, is_source_failure};
use crate::lookup::step::Ended;
use crate::observe::{Stage, StaleCause};
use crate::options::Options;

/// The result of waiting for a flight.
#[derive(Debug)]
pub(crate) enum Waited<V> {
    /// The flight has ended. The lookup is not counted yet, because the caller may have to ask again.
    Landed(Result<Answer<V>>),
    /// Another value answers instead. The lookup is counted.
    StandIn(Found<V>),
    /// The leader was dropped before anything was loaded.
    Abandoned,
}

/// Extra time beyond the limits of a load: its end is reported a moment later.
const GRACE: Duration = Duration::from_millis(100);

/// The number of commands to L2 in one lookup: the read, the question for the lease, the question after a
/// wait, the fill.
const QUESTIONS: u32 = 4;

/// The time by which each key of a batch may extend a step of the batch.
const PER_KEY: Duration = Duration::from_millis(1);

/// The state of a flight that matters to a waiting caller.
enum FlightState<V> {
    Landed(Landed<V>),
    StandIn(StandIn<V>),
}

/// Ends when this task is polled again, after the tasks that were queued before it.
///
/// This is not `tokio::task::yield_now`. That keeps the task with its worker until the worker's queue is
/// empty, and no other worker can take it. If a loader blocked the worker, its caller would wait beyond every
/// limit.
async fn requeued() {
    let mut polled = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A caller that waits for flights of its request, and how long it waits.
pub(crate) struct Caller {
    pub(crate) request: Arc<LookupRequest>,
    /// The time from which the caller accepts a stale value.
    soft: Option<Instant>,
    /// The number of the last tag change that the node knew when the lookup began.
    known: u64,
    begun: Tick,
    /// How long the caller waits for the whole lookup.
    pub(crate) limit: Duration,
}

impl Caller {
    /// Begins a lookup.
    pub(crate) fn new<V: Send + Sync + 'static>(inner: &Inner<V>, request: Arc<LookupRequest>) -> Self {
        let (_, partition) = inner.local.partition_of(request.key.as_bytes());
        Self {
            soft: request.options.load.soft_timeout.map(|limit| Instant::now() + limit),
            known: partition.last_tag_change(),
            begun: inner.local.coarse_now(),
            limit: patience(inner, &request.options),
            request,
        }
    }

    /// The end of the whole lookup.
    fn deadline(&self) -> Tick {
        self.begun.after(self.limit)
    }

    /// The end of a load, as far as this caller waits for it. It may take up to the caller's own `load_timeout`
    /// after the caller asked. If the loader does not run yet, the caller must look again at this time.
    fn load_deadline(&self, loading_since: Option<Tick>, now: Tick) -> Tick {
        let limit = self.request.options.load.load_timeout.saturating_add(GRACE);
        loading_since.map_or(now, |since| since.max(self.begun)).after(limit)
    }

    /// Whether the caller accepts a stale value. A reload does not accept a cached value.
    fn takes_stale(&self) -> bool {
        self.request.mode != CacheMode::Reload
    }
}

/// How long a whole lookup may take. The caller waits no longer, even if another caller leads.
pub(crate) fn patience<V: Send + Sync + 'static>(inner: &Inner<V>, options: &Options) -> Duration {
    let questions = inner.remote.as_ref().map_or(Duration::ZERO, |l2| {
        options.load.wait_timeout.saturating_add(QUESTIONS * l2.region.info().deadline)
    });
    options.load.load_timeout.saturating_add(questions).saturating_add(GRACE)
}

/// How long a step of a batch may take. The step is done for all keys of the batch together.
pub(crate) fn patience_with<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    options: &Options,
    keys: usize,
) -> Duration {
    patience(inner, options).saturating_add(PER_KEY * u32::try_from(keys).unwrap_or(u32::MAX))
}

/// Waits until the caller should give up, and returns the limit that has passed. The leader waits until the flight
/// is overdue, or until its load is. A joined caller also stops when its own lookup has taken too long. The task that
/// drives the flight may have stopped: its loader blocks the thread, or nobody runs its runtime.
async fn out_of_time<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    caller: &Caller,
    flight: &Flight<V>,
    role: Role,
) -> Limit {
    if inner.policy.faults.is(Mutant::WaitWithoutDeadline) {
        return pending().await;
    }
    if role == Role::Leads {
        // The load may have ended before this task runs again. A timer costs more than such a load.
        requeued().await;
    }
    loop {
        let now = inner.local.coarse_now();
        let load_end = caller.load_deadline(flight.loading_since(), now);
        let end = match role {
            Role::Leads => flight.due(),
            Role::Joined(_) => flight.due().min(caller.deadline()),
        };
        if now > load_end {
            return Limit::Load;
        }
        if now > end {
            return Limit::Lookup;
        }
        sleep(end.min(load_end).since(now).saturating_add(Duration::from_millis(1))).await;
    }
}

/// The limit of a caller that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// `load_timeout`, while the loader ran.
    Load,
    /// The limit of the whole lookup, or of the flight.
    Lookup,
}

/// The result for a caller that has waited long enough. If the flight is overdue and there is enough time left, the
/// caller may lead or join another flight.
async fn given_up<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    caller: &Caller,
    flight: &Flight<V>,
    role: Role,
    passed: Limit,
) -> Waited<V> {
    let now = inner.local.now();
    let may_ask_again = role != Role::Leads && caller.deadline().since(now) >= caller.limit / 2;
    if passed == Limit::Lookup && may_ask_again {
        return Waited::Abandoned;
    }
    let limit = match passed {
        Limit::Load => caller.request.options.load.load_timeout,
        Limit::Lookup => caller.limit,
    };
    let message = match role != Role::Leads && now < flight.due() {
        true => format!(
            "this call waited for {limit:?}, as long as its own options allow, for a load whose own limit is later: \
             give both calls the same `load_timeout`"
        ),
        false => format!(
            "nothing was heard of this load within {limit:?}: its loader blocks a thread, or nobody runs the runtime \
             that it began on"
        ),
    };
    or_stale(inner, caller, flight, inner.observer.error(ErrorKind::Timeout, message)).await
}

/// Whether the result of a flight is too old for a caller that joined it.
fn is_too_old<V: Send + Sync + 'static>(inner: &Inner<V>, caller: &Caller, flight: &Flight<V>) -> bool {
    let (_, partition) = inner.local.partition_of(caller.request.key.as_bytes());
    // The leader of the flight may need less than the stamp of this caller, and a change may have expired the answer.
    let expired = flight.answered_by() == AnsweredBy::Backoff
        && (caller.request.min_stamp.is_some()
            || !(caller.request.options.load.stale_on_error
                || caller.request.options.load.stale_while_revalidate));
    expired
        || flight.too_old_since(caller.known, partition) && !inner.policy.faults.is(Mutant::JoinersUnchecked)
}

/// Waits until the flight has ended, or until a stale value answers instead.
pub(crate) async fn wait<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    caller: &Caller,
    flight: &Flight<V>,
    role: Role,
) -> Waited<V> {
    let waits = wait_in(inner, caller, flight, role);
    match role {
        Role::Leads => waits.await,
        Role::Joined(_) => inner.observer.stage(Stage::WaitForFlight, waits).await,
    }
}

async fn wait_in<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    caller: &Caller,
    flight: &Flight<V>,
    role: Role,
) -> Waited<V> {
    let impatient = async {
        match caller.soft {
            Some(limit) if caller.takes_stale() => {
                sleep_until(limit).await;
                flight.until(|| stale::at_hand(inner, &caller.request, flight)).await
            }
            _ => pending().await,
        }
    };
    let (found, cause) = tokio::select! {
        biased;
        seen = flight.until(|| seen(inner, caller, flight)) => match seen {
            FlightState::Landed(Landed::Answer(Err(error))) => return or_stale(inner, caller, flight, error).await,
            FlightState::Landed(Landed::Answer(Ok(answer))) => return Waited::Landed(Ok(answer)),
            FlightState::Landed(Landed::Abandoned) => return Waited::Abandoned,
            FlightState::StandIn(found) => (found, StaleCause::Revalidating),
        },
        found = impatient => (found, StaleCause::SlowLoad),
        passed = out_of_time(inner, caller, flight, role) => {
            return given_up(inner, caller, flight, role, passed).await;
        }
    };
    stand_in(inner, caller, found, cause)
}

/// The end of the flight. Before its end, a value that may answer at once.
fn seen<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    caller: &Caller,
    flight: &Flight<V>,
) -> Option<FlightState<V>> {
    if let Some(landed) = flight.has_landed() {
        return Some(FlightState::Landed(landed));
    }
    if !caller.takes_stale() {
        return None;
    }
    // An entry that is only past its cap in L1 is not stale. L2 is asked for it, not the source.
    let stale = || match caller.request.options.load.stale_while_revalidate {
        true => {
            stale::at_hand(inner, &caller.request, flight).filter(|found| found.standing != Standing::Capped)
        }
        false => None,
    };
    let fresh = flight.fallback().and_then(|fallback| stale::fresh(inner, &caller.request, fallback));
    fresh.or_else(stale).map(FlightState::StandIn)
}

/// The result for a caller whose load failed.
async fn or_stale<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    caller: &Caller,
    flight: &Flight<V>,
    error: Error,
) -> Waited<V> {
    if !(caller.takes_stale() && caller.request.options.load.stale_on_error && is_source_failure(&error)) {
        return Waited::Landed(Err(error));
    }
    let Some(found) = stale::fallback(inner, &caller.request, flight).await else {
        return Waited::Landed(Err(error));
    };
    stand_in(inner, caller, found, StaleCause::LoadFailed(error.kind()))
}

/// Answers with the stand-in, and counts it as stale if it has expired or nothing verifies it. Otherwise it
/// counts as any other value: another load may have brought it meanwhile.
fn stand_in<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    caller: &Caller,
    found: StandIn<V>,
    cause: StaleCause,
) -> Waited<V> {
    let StandIn { entry, standing } = found;
    let key = caller.request.key.as_bytes();
    let is_stale = entry.life.phase(inner.local.now()) == Phase::Stale;
    let source = match standing {
        Standing::Unverified => {
            count_found(inner, key, AnsweredBy::Unverified);
            Source::Stale
        }
        _ if is_stale => {
            inner.observer.stale_served(key, cause);
            Source::Stale
        }
        Standing::Confirmed => {
            count_found(inner, key, AnsweredBy::L2);
            Source::L2
        }
        Standing::Verified | Standing::Capped => {
            count_found(inner, key, AnsweredBy::L1);
            Source::L1
        }
    };
    Waited::StandIn(Found::of(entry, source))
}

/// The end of a flight for one of its callers.
pub(crate) fn ended<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    caller: &Caller,
    flight: &Flight<V>,
    waited: &Waited<V>,
) -> Ended {
    match waited {
        Waited::Landed(Ok(_)) if is_too_old(inner, caller, flight) => Ended::TooOld,
        Waited::Landed(Ok(answer)) if !caller.request.accepts(answer) => Ended::WithoutValue,
        Waited::Landed(Ok(_)) => Ended::Answered,
        Waited::Landed(Err(_)) if flight.elsewhere().is_some() => Ended::FailedElsewhere,
        Waited::Landed(Err(_)) => Ended::Failed,
        Waited::StandIn(_) => Ended::StandIn,
        Waited::Abandoned => Ended::Abandoned,
    }
}

/// The result for a caller. Counts the lookup.
pub(crate) fn returned<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    caller: &Caller,
    flight: &Flight<V>,
    role: Role,
    waited: Waited<V>,
) -> Result<Found<V>> {
    match waited {
        Waited::Landed(outcome) => {
            count_landed(inner, caller.request.key.as_bytes(), flight, role, &outcome);
            outcome.map(|answer| Found { answer, source: source_of(flight, role), born: flight.born() })
        }
        Waited::StandIn(found) => Ok(found),
        Waited::Abandoned => {
            Err(inner.observer.error(ErrorKind::Shutdown, "the load ended with the runtime"))
        }
    }
}
