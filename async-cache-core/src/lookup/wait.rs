//! Waiting for a flight: for its end, or for as long as the caller's patience with a stale value at hand.

use std::future::{pending, poll_fn};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::backend::{Phase, Tick};
use crate::error::{Error, ErrorKind, Result};
use crate::faults::mutant::Mutant;
use crate::inner::Shared;
use crate::local::approach::{Answer, Reuse};
use crate::local::flight::{AnsweredBy, Flight, Hearing, Landed};
use crate::lookup::stale::{Seek, StandIn, Standing, excuses};
use crate::observe::StaleCause;
use crate::options::Options;

/// What a caller is in a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Leads,
    Joined(Hearing),
}

/// What came of waiting for a flight.
#[derive(Debug)]
pub(crate) enum Waited<V> {
    /// It has landed. Not counted yet: the caller may have to ask again.
    Landed(Result<Answer<V>>),
    /// Something else answers in its stead, and is counted.
    StandIn(Answer<V>),
    /// Its leader went away before anything was loaded.
    Abandoned,
}
/// What the limits of a load do not cover: that its end is told a moment later.
const GRACE: Duration = Duration::from_millis(100);

/// Questions to L2 in one lookup: what it has, whose turn it is, what has come of a wait, the fill.
const QUESTIONS: u32 = 4;

/// What each key of a batch may add to the time that a step of the batch takes.
const PER_KEY: Duration = Duration::from_millis(1);

/// What a look at a flight may show.
enum Seen<V> {
    Landed(Landed<V>),
    StandIn(StandIn<V>),
}

/// Ends when the task is polled again: when those have run that were queued before it.
///
/// Not `tokio::task::yield_now`. That keeps the task with its worker until the worker's queue is empty, where no
/// other worker can take it; a loader that blocks the worker would hold its caller past every limit.
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

/// One caller's lookup, and how it wants to be answered.
pub(crate) struct Call<'a> {
    pub(crate) seek: Seek<'a>,
    pub(crate) reuse: Reuse,
    options: Options,
    /// When to make do with a stale value.
    soft: Option<Instant>,
    /// The last tag change known when it was begun.
    known: u64,
    /// How long it waits for other callers' loads, and until when.
    pub(crate) limit: Duration,
    deadline: Tick,
}

impl<'a> Call<'a> {
    fn new(
        seek: Seek<'a>,
        reuse: Reuse,
        options: Options,
        known: u64,
        (limit, now): (Duration, Tick),
    ) -> Self {
        let soft = options.load.soft_timeout.map(|limit| Instant::now() + limit);
        Self { seek, reuse, options, soft, known, limit, deadline: now.after(limit) }
    }

    /// Who asks for a load whatever is cached does not want what is cached.
    fn takes_stale(&self) -> bool {
        self.reuse != Reuse::Nothing
    }
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// Begins a lookup.
    pub(crate) fn call<'a>(&self, seek: Seek<'a>, reuse: Reuse, options: Options) -> Call<'a> {
        let (_, partition) = self.node.partition_of(seek.key.as_bytes());
        let limit = (self.patience(&options), self.node.clock.glance());
        Call::new(seek, reuse, options, partition.last_tag_change(), limit)
    }

    /// How long a lookup may take, all in all: its caller waits no longer, whoever is at it.
    pub(crate) fn patience(&self, options: &Options) -> Duration {
        let shared = self.l2.as_ref().map_or(Duration::ZERO, |l2| {
            options.load.wait_timeout.saturating_add(QUESTIONS * l2.region.command_timeout())
        });
        options.load.load_timeout.saturating_add(shared).saturating_add(GRACE)
    }

    /// The same for a step of a batch, which is done for all its keys at once.
    pub(crate) fn patience_with(&self, options: &Options, keys: usize) -> Duration {
        self.patience(options).saturating_add(PER_KEY * u32::try_from(keys).unwrap_or(u32::MAX))
    }

    /// Waits for as long as it is worth: the leader until the flight is overdue, another no longer than its
    /// own lookup may take. Whoever drives the flight may have stopped: the loader blocks its thread, or the
    /// runtime is one that nobody runs.
    async fn out_of_time(&self, call: &Call<'_>, flight: &Flight<V>, role: Role) {
        if self.switch.is(Mutant::WaitWithoutDeadline) {
            return pending().await;
        }
        if role == Role::Leads {
            // Its load may have ended when this task runs again: a timer costs more than such a load.
            requeued().await;
        }
        loop {
            let end = match role {
                Role::Leads => flight.due(),
                Role::Joined(_) => flight.due().min(call.deadline),
            };
            let now = self.node.clock.glance();
            if now > end {
                return;
            }
            sleep(end.since(now).saturating_add(Duration::from_millis(1))).await;
        }
    }

    /// What a caller gets who has waited long enough: another flight, if there is time for that.
    async fn given_up(&self, call: &Call<'_>, flight: &Flight<V>, role: Role) -> Waited<V> {
        let left = call.deadline.since(self.node.clock.now());
        if role != Role::Leads && left >= call.limit / 2 {
            return Waited::Abandoned;
        }
        let limit = call.limit;
        let message = match self.node.clock.now() < flight.due() {
            true => format!(
                "this call waited for {limit:?}, as long as its own options allow, for a load whose own limit is \
                 later: give both calls the same `load_timeout`"
            ),
            false => format!(
                "nothing was heard of this load within {limit:?}: its loader blocks a thread, or nobody runs the \
                 runtime that it began on"
            ),
        };
        self.or_stale(call, flight, self.error(ErrorKind::Timeout, message)).await
    }

    /// Whether what a flight has ended with is too old for a caller who joined it.
    pub(crate) fn is_too_old(&self, call: &Call<'_>, flight: &Flight<V>) -> bool {
        let (_, partition) = self.node.partition_of(call.seek.key.as_bytes());
        let expired = flight.answered_by() == AnsweredBy::Backoff
            && !(call.options.load.stale_on_error || call.options.load.stale_while_revalidate);
        expired || flight.too_old_since(call.known, partition) && !self.switch.is(Mutant::JoinersUnchecked)
    }

    /// Waits until the flight has landed, or a stale value is to be served instead.
    pub(crate) async fn wait(&self, call: &Call<'_>, flight: &Flight<V>, role: Role) -> Waited<V> {
        let impatient = async {
            match call.soft {
                Some(limit) if call.takes_stale() => {
                    sleep_until(limit).await;
                    flight.until(|| self.at_hand(call.seek, flight)).await
                }
                _ => pending().await,
            }
        };
        let (found, cause) = tokio::select! {
            biased;
            seen = flight.until(|| self.seen(call, flight)) => match seen {
                Seen::Landed(Landed::Answer(Err(error))) => return self.or_stale(call, flight, error).await,
                Seen::Landed(Landed::Answer(Ok(answer))) => return Waited::Landed(Ok(answer)),
                Seen::Landed(Landed::Abandoned) => return Waited::Abandoned,
                Seen::StandIn(found) => (found, StaleCause::Revalidating),
            },
            found = impatient => (found, StaleCause::SlowLoad),
            () = self.out_of_time(call, flight, role) => return self.given_up(call, flight, role).await,
        };
        self.stand_in(call, found, cause)
    }

    /// The end of the flight; or before that, what answers at once.
    fn seen(&self, call: &Call<'_>, flight: &Flight<V>) -> Option<Seen<V>> {
        if let Some(landed) = flight.has_landed() {
            return Some(Seen::Landed(landed));
        }
        if !call.takes_stale() {
            return None;
        }
        // What is only past its cap in L1 is not stale: L2 is asked, and not the source.
        let stale = || match call.options.load.stale_while_revalidate {
            true => self.at_hand(call.seek, flight).filter(|found| found.standing != Standing::Capped),
            false => None,
        };
        self.fresh_at_hand(call.seek, flight).or_else(stale).map(Seen::StandIn)
    }

    /// What a caller gets whose load failed.
    async fn or_stale(&self, call: &Call<'_>, flight: &Flight<V>, error: Error) -> Waited<V> {
        if !(call.takes_stale() && call.options.load.stale_on_error && excuses(&error)) {
            return Waited::Landed(Err(error));
        }
        let Some(found) = self.fallback(call.seek, flight, &call.options).await else {
            return Waited::Landed(Err(error));
        };
        self.stand_in(call, found, StaleCause::LoadFailed(error.kind()))
    }

    /// Answers with what stands in, and tells so if it has expired, or nothing verifies it. Otherwise it is as
    /// good as any: another load may have brought it meanwhile.
    fn stand_in(&self, call: &Call<'_>, found: StandIn<V>, cause: StaleCause) -> Waited<V> {
        let StandIn { entry, standing } = found;
        let key = call.seek.key.as_bytes();
        let is_stale = entry.life.phase(self.node.clock.now()) == Phase::Stale;
        match standing {
            Standing::Unverified => self.count(key, AnsweredBy::Unverified),
            _ if is_stale => self.serve_stale(key, cause),
            Standing::Confirmed => self.count(key, AnsweredBy::L2),
            Standing::Verified | Standing::Capped => self.count(key, AnsweredBy::L1),
        }
        Waited::StandIn(entry.value)
    }

    /// Counts a lookup whose flight has landed: once, by what became of it.
    pub(crate) fn count_landed(
        &self,
        call: &Call<'_>,
        (flight, role): (&Flight<V>, Role),
        outcome: &Result<Answer<V>>,
    ) {
        let key = call.seek.key.as_bytes();
        match (outcome, role, flight.answered_by()) {
            (Err(_), ..) => self.counters.misses.add(1),
            (Ok(_), Role::Joined(Hearing::Unheard), _) => self.count(key, AnsweredBy::Unverified),
            (Ok(_), Role::Leads, by) | (Ok(_), _, by @ (AnsweredBy::Unverified | AnsweredBy::Backoff)) => {
                self.count(key, by);
            }
            (Ok(_), Role::Joined(Hearing::Heard), _) => self.counters.coalesced_waits.add(1),
        }
    }

    /// Counts a lookup by what answered it.
    pub(crate) fn count(&self, key: &[u8], by: AnsweredBy) {
        match by {
            AnsweredBy::L1 => self.counters.l1_hits.increment(),
            AnsweredBy::L2 => self.counters.l2_hits.add(1),
            AnsweredBy::Load => self.counters.misses.add(1),
            AnsweredBy::Backoff => self.serve_stale(key, StaleCause::Backoff),
            AnsweredBy::Unverified => self.serve_stale(key, StaleCause::Outage),
        }
    }
}
