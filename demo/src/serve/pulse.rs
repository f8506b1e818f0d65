//! What the dashboard shows: the state of all instances, twice a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::MissedTickBehavior;

use crate::clock::{self, MILLISECOND};
use crate::messages::{RelayFigures, Tiers};
use crate::referee::{Answers, MAX_STALENESS, Referee};
use crate::serve::hub::{Entry, Hub, Switches};
use crate::serve::problems::{self, Problem};

/// Time between two pulses.
const EVERY: Duration = Duration::from_millis(500);
/// The writes whose lag is shown: those of this time, in nanoseconds.
const LAG_OVER: u64 = 2_000 * MILLISECOND;
/// An instance that reports nothing for so long is no longer waited for by the referee.
const SILENCE: u64 = 5_000 * MILLISECOND;

/// One state of everything.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Pulse {
    /// Raised by one with each pulse.
    pub(crate) number: u64,
    pub(crate) uptime_s: f64,
    pub(crate) problems: Vec<Problem>,
    pub(crate) switches: Switches,
    pub(crate) promise: Promise,
    pub(crate) queries: u64,
    pub(crate) queries_per_s: f64,
    pub(crate) instances: Vec<View>,
    /// `None` if there is none.
    pub(crate) outbox: Option<Outbox>,
    pub(crate) log: Vec<Entry>,
}

/// The promise, and the reads that were checked against it.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Promise {
    pub(crate) max_staleness_ms: f64,
    pub(crate) checked: u64,
    pub(crate) stale: u64,
    /// Older reads on instances that could not reach the shared tier: the promise did not bind them.
    pub(crate) unbound: u64,
}

/// The outbox, as the relays of the instances that live see it.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Outbox {
    /// The instance whose relay is at work. `None` if there is none at the moment.
    pub(crate) at_work: Option<u16>,
    /// Rows that wait, and the age of the oldest.
    pub(crate) rows: u64,
    pub(crate) oldest_s: f64,
    /// Rows that these relays have applied.
    pub(crate) applied: u64,
}

/// One instance.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct View {
    pub(crate) instance: u16,
    pub(crate) alive: bool,
    /// Whether its own memory answers.
    pub(crate) l1_serves: bool,
    pub(crate) reaches_tier: bool,
    pub(crate) l1_entries: u64,
    pub(crate) pending_invalidations: u64,
    /// Requests per second by the source of the answer, over the last pulse.
    pub(crate) rates: Rates,
    pub(crate) loads_per_s: f64,
    pub(crate) load_failures_per_s: f64,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    /// The median time after which it showed another instance's write.
    pub(crate) lag_ms: Option<f64>,
    pub(crate) totals: Answers,
    pub(crate) loads: u64,
}

/// Requests per second.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Rates {
    l1: f64,
    l2: f64,
    waited: f64,
    loaded: f64,
    stale: f64,
    failed: f64,
}

/// Counts at the pulse before.
struct Before {
    at: Instant,
    queries: u64,
    seats: Vec<Counts>,
}

/// The counts of one instance.
#[derive(Clone, Copy, Default)]
struct Counts {
    answers: Answers,
    tiers: Tiers,
}

/// Takes pulses until the process ends.
pub(crate) fn start(hub: &Arc<Hub>) {
    let hub = Arc::clone(hub);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let seats = vec![Counts::default(); usize::from(hub.len())];
        let mut before = Before { at: Instant::now(), queries: 0, seats };
        for number in 1.. {
            ticks.tick().await;
            hub.pulse.send_replace(Arc::new(pulse(&hub, number, &mut before)));
        }
    });
}

fn pulse(hub: &Hub, number: u64, before: &mut Before) -> Pulse {
    let mut referee = hub.referee.lock();
    let seconds = before.at.elapsed().as_secs_f64().max(0.001);
    before.at = Instant::now();
    let queries = referee.seen.queries;
    let queries_per_s = rate(queries, before.queries, seconds);
    before.queries = queries;
    let mut instances = Vec::new();
    for (instance, counts) in (0..).zip(&mut before.seats) {
        let view = view(&mut referee, instance, counts, seconds);
        instances.push(View { alive: hub.is_alive(instance), ..view });
    }
    let seen = &referee.seen;
    let promise = Promise {
        max_staleness_ms: (MAX_STALENESS / MILLISECOND) as f64,
        checked: seen.checked,
        stale: seen.stale,
        unbound: seen.unbound,
    };
    let relays = referee.instances().iter().map(|seat| seat.tiers.relay);
    let outbox = outbox(instances.iter().zip(relays));
    drop(referee);
    let switches = hub.switches();
    let mut pulse = Pulse {
        number,
        uptime_s: hub.begun.elapsed().as_secs_f64(),
        problems: Vec::new(),
        switches,
        promise,
        queries,
        queries_per_s,
        instances,
        outbox,
        log: hub.log(),
    };
    pulse.problems = problems::of(&hub.facts, &pulse);
    pulse
}

fn outbox<'a>(relays: impl Iterator<Item = (&'a View, Option<RelayFigures>)>) -> Option<Outbox> {
    let mut outbox = None;
    for (view, relay) in relays.filter(|(view, _)| view.alive) {
        let Some(relay) = relay else { continue };
        let outbox = outbox.get_or_insert_with(Outbox::default);
        outbox.applied += relay.applied;
        if relay.at_work {
            outbox.at_work = Some(view.instance);
            outbox.rows = relay.rows;
            outbox.oldest_s = relay.oldest_ms as f64 / 1000.0;
        }
    }
    outbox
}

fn view(referee: &mut Referee, instance: u16, before: &mut Counts, seconds: f64) -> View {
    let now = clock::now();
    referee.dismiss_if_silent(instance, now.saturating_sub(SILENCE));
    let recent = referee.take_recent(instance);
    let lags = referee.lag.since(now.saturating_sub(LAG_OVER), instance);
    let seat = &referee.instances()[usize::from(instance)];
    let (answers, tiers) = (seat.answers, seat.tiers);
    let Counts { answers: old, tiers: old_tiers } = std::mem::replace(before, Counts { answers, tiers });
    let of = |quantile| (!recent.is_empty()).then(|| recent.value_at_quantile(quantile) as f64 / 1000.0);
    View {
        instance: instance + 1,
        alive: true,
        l1_serves: !tiers.l1_suspended,
        reaches_tier: !tiers.l2_unreachable,
        l1_entries: tiers.l1_entries,
        pending_invalidations: tiers.pending_invalidations,
        rates: Rates {
            l1: rate(answers.l1, old.l1, seconds),
            l2: rate(answers.l2, old.l2, seconds),
            waited: rate(answers.waited, old.waited, seconds),
            loaded: rate(answers.loaded, old.loaded, seconds),
            stale: rate(answers.stale, old.stale, seconds),
            failed: rate(answers.failed, old.failed, seconds),
        },
        loads_per_s: rate(tiers.loads, old_tiers.loads, seconds),
        load_failures_per_s: rate(tiers.load_failures, old_tiers.load_failures, seconds),
        p50_us: of(0.5),
        p99_us: of(0.99),
        lag_ms: (!lags.is_empty()).then(|| lags.value_at_quantile(0.5) as f64 / MILLISECOND as f64),
        totals: answers,
        loads: tiers.loads,
    }
}

fn rate(now: u64, before: u64, seconds: f64) -> f64 {
    (now.saturating_sub(before) as f64 / seconds * 10.0).round() / 10.0
}
