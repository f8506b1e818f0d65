//! Leading many flights: what the tiers have, then the leases, in rounds.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, sleep_until};

use crate::backend::{Accept, Acquire, Entry, Token};
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::approach::Reuse;
use crate::local::flight::AnsweredBy;
use crate::local::lead::{Entered, enter};
use crate::lookup::find::{Found, Here, Route};
use crate::lookup::lease::{Grant, Queue, Step, makes_do, settles};
use crate::lookup::many::keep;
use crate::lookup::many::keep::{Kept, PART};
use crate::lookup::many::load::{Claim, Claimed, land, spawn};
use crate::lookup::many::plan::{LedKey, PlanMany};
use crate::lookup::outage::{OutageDecision, decide_in_outage};
use crate::lookup::request::Origin;
use crate::lookup::{find, lease, reentry, run, wait};
use crate::observe::trace;
use crate::remote::l2::L2;
use crate::remote::read::Fetched;
use crate::sync::Notify;

/// Wake-ups come in bursts, when a batch elsewhere has ended: those that come this close together
/// are answered by one question and, if it comes to that, one load.
const BURST: Duration = Duration::from_millis(1);

/// A key that no tier has for certain, and how far to go for it.
struct Open<V: 'static> {
    seat: LedKey<V>,
    route: Route<V>,
}

/// Lands what the tiers have, and hands the rest to a task of its own: from there on nobody's
/// cancellation stops it.
pub(crate) async fn lead_many<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    led: Vec<LedKey<V>>,
    min_stamp: Option<&Stamp>,
    plan: &Arc<PlanMany<V>>,
) {
    let limit = wait::patience_with(inner, &plan.options, led.len());
    led.iter().for_each(|seat| seat.lead.goes_on(limit));
    let mut refresh = Vec::new();
    let open = find_many(inner, led, min_stamp, &mut refresh).await;
    refresh_found_behind(inner, &refresh, plan);
    if !open.is_empty() {
        let seeking = seek(Arc::clone(inner), open, Arc::clone(plan));
        // In the caller's loads, so that a loader that waits for itself is told so.
        inner.lifecycle.tasks.spawn(trace::here(reentry::within(inner.liveness.node.id, [], seeking)));
    }
}

/// Keys that L2 has and that are to be refreshed behind the answer go to `refresh`.
async fn find_many<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    led: Vec<LedKey<V>>,
    min_stamp: Option<&Stamp>,
    refresh: &mut Vec<(usize, Key, Token)>,
) -> Vec<Open<V>> {
    let mut open = Vec::new();
    let (mut unread, mut accepts) = (Vec::new(), Vec::new());
    for seat in led {
        match find::find_here(inner, &seat.lead, min_stamp, &seat.aim) {
            Here::Enough(found) => open.extend(found_or_open(seat, found)),
            Here::Ask(accept) => {
                accepts.push(accept);
                unread.push(seat);
            }
        }
    }
    let asked = inner.liveness.node.clock.now();
    let read = read_seats(inner, &unread.iter().collect::<Vec<_>>(), min_stamp).await;
    for ((seat, fetched), accept) in unread.into_iter().zip(read).zip(accepts) {
        match find::found(inner, &seat.lead, &seat.aim, (accept, asked), fetched) {
            Ok(found) => {
                if let Found::Answer(entry, by) = &found
                    && find::refreshes(inner, &seat.aim, entry, *by)
                {
                    refresh.push((seat.place, seat.lead.key.clone(), entry.token));
                }
                open.extend(found_or_open(seat, found));
            }
            Err(error) => seat.lead.land(Err(error), None),
        }
    }
    open
}

/// What L2 has for each, in one question. It is not asked for what was invalidated here and
/// could not yet be removed there: asked first, and that found out then, the retry could have
/// landed in between.
async fn read_seats<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    led: &[&LedKey<V>],
    min_stamp: Option<&Stamp>,
) -> Vec<Fetched<V>> {
    let mut read: Vec<Fetched<V>> = Vec::with_capacity(led.len());
    let (mut keys, mut asked) = (Vec::new(), Vec::new());
    for (at, seat) in led.iter().enumerate() {
        read.push(match (&inner.remote, inner.liveness.refuse_unsent(seat.lead.key.as_bytes())) {
            (Some(_), Some(error)) => Fetched::Unreachable(error),
            (Some(_), None) => {
                keys.push(seat.lead.key.clone());
                asked.push(at);
                Fetched::Absent(Accept::Any)
            }
            (None, _) => Fetched::Absent(Accept::Any),
        });
    }
    let Some(l2) = inner.remote.as_ref().filter(|_| !keys.is_empty()) else { return read };
    match l2.read_many(&keys, min_stamp).await {
        Ok(found) => {
            for (at, stored) in asked.into_iter().zip(found.values) {
                let LedKey { lead, aim, .. } = &led[at];
                let under = (lead.ticket, &aim.options);
                read[at] = l2.stored(&lead.key, stored.as_deref(), under);
            }
        }
        Err(error) => {
            asked.into_iter().for_each(|at| read[at] = Fetched::Unreachable(error.clone()));
        }
    }
    read
}

fn found_or_open<V: Send + Sync + 'static>(seat: LedKey<V>, found: Found<V>) -> Option<Open<V>> {
    match found {
        Found::Answer(entry, by) => {
            seat.lead.found(entry, by);
            None
        }
        Found::Nothing(route) => Some(Open { seat, route }),
    }
}

/// Takes every key to its end: a value from the fleet, or a load.
async fn seek<V: Send + Sync + 'static>(inner: Arc<Inner<V>>, open: Vec<Open<V>>, plan: Arc<PlanMany<V>>) {
    let notify = Arc::new(Notify::new());
    let (mut claimed, mut waiters) = (Vec::new(), Vec::new());
    for Open { seat, route } in open {
        match (route, &inner.remote) {
            (Route::Fleet(accept, held), Some(_)) => {
                let queue = Queue::join(&inner, &seat.lead, &notify);
                waiters.push(LeaseWaiter { seat, accept, held, queue, due_at: Instant::now() });
            }
            _ => claimed.push(Claimed { seat, claim: Claim::Alone }),
        }
    }
    let seeking = seek_in_fleet(&inner, waiters, &notify, claimed, &plan);
    // Cut short, the flights that have not landed are abandoned.
    inner.lifecycle.closing.run_until_cancelled(seeking).await;
}

async fn seek_in_fleet<'a, V: Send + Sync + 'static>(
    inner: &'a Arc<Inner<V>>,
    mut due: Vec<LeaseWaiter<'a, V>>,
    notify: &Notify,
    mut claimed: Vec<Claimed<V>>,
    plan: &Arc<PlanMany<V>>,
) {
    let give_up = Instant::now() + plan.options.load.wait_timeout;
    let mut waiting: Vec<LeaseWaiter<'a, V>> = Vec::new();
    let kept = Kept::new(keep::lease_ttl(inner, &plan.options, due.len()));
    while let Some(l2) = inner.remote.as_ref().filter(|_| !due.is_empty() || !waiting.is_empty()) {
        let asking = ask_all(inner, l2, std::mem::take(&mut due), (plan, &kept));
        let answered = tokio::select! {
            biased;
            answered = asking => answered,
            never = keep::keep_alive(inner, &kept) => match never {},
        };
        for (mut waiter, step) in answered {
            match step {
                Step::Again(accept) => due.push(LeaseWaiter { accept, ..waiter }),
                Step::Wait(_) if waiter.queue.is_out_of_patience(give_up) => {
                    let settles = settles(inner, &waiter.seat.lead, &waiter.seat.aim);
                    let grant = if settles { Grant::Failed } else { Grant::LoadUncached };
                    claimed.extend(settle(inner, waiter, grant));
                }
                Step::Wait(lapses_in) => {
                    waiter.due_at = Instant::now() + waiter.queue.pause(lapses_in, give_up);
                    waiting.push(waiter);
                }
                Step::Done(grant) => claimed.extend(settle(inner, waiter, grant)),
            }
        }
        if !due.is_empty() {
            continue;
        }
        // Those who were granted the lease must not wait for those who were not: another node may
        // hold theirs and wait for ours.
        spawn(inner, std::mem::take(&mut claimed), kept.hand_over(), plan);
        if !waiting.is_empty() {
            due = wait(inner, l2, &mut waiting, notify, give_up).await;
        }
    }
    spawn(inner, claimed, kept, plan);
}

/// Asks for all, in parts: the leases of one are kept alive while the others are asked for.
async fn ask_all<'a, V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    l2: &L2<V>,
    due: Vec<LeaseWaiter<'a, V>>,
    (plan, kept): (&PlanMany<V>, &Kept),
) -> Vec<(LeaseWaiter<'a, V>, Step<V>)> {
    if let Err(error) = inner.liveness.learn_server_time(&*l2.region).await {
        let unreachable = |waiter| (waiter, Step::Done(Grant::Unreachable(error.clone())));
        return due.into_iter().map(unreachable).collect();
    }
    let part = if inner.policy.faults.is(Mutant::LeasesKeptFromLoad) { due.len() } else { PART };
    let limit = wait::patience_with(inner, &plan.options, due.len());
    let all = due.len();
    let mut answered = Vec::with_capacity(all);
    let mut due = due.into_iter();
    while due.len() > 0 {
        due.as_slice().iter().for_each(|waiter| waiter.seat.lead.goes_on(limit));
        let ttl = kept.life(all);
        answered.extend(ask_part(inner, l2, due.by_ref().take(part.max(1)), (kept, ttl)).await);
    }
    answered
}

/// One question for some.
async fn ask_part<'a, V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    l2: &L2<V>,
    due: impl Iterator<Item = LeaseWaiter<'a, V>>,
    (kept, ttl): (&Kept, Duration),
) -> Vec<(LeaseWaiter<'a, V>, Step<V>)> {
    let (mut asks, mut asking, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    for mut waiter in due {
        waiter.seat.lead.ticket = waiter.queue.ticket();
        // Since the route was chosen, an invalidation may have failed here: what L2 has may be old.
        if inner.liveness.is_unsent(waiter.seat.lead.key.as_bytes()) {
            answered.push((waiter, Step::Done(Grant::LoadUncached)));
            continue;
        }
        let ask = Acquire { token: inner.liveness.node.next_token(), ttl, accept: waiter.accept };
        asks.push((waiter.seat.lead.key.clone(), ask));
        asking.push(waiter);
    }
    let (asked, began) = (inner.liveness.node.clock.now(), Instant::now());
    let answers = l2.region.acquire_many(&asks).await;
    kept.took(began.elapsed());
    let mut granted = Vec::new();
    answered.extend(asking.into_iter().zip(answers).map(|(waiter, answer)| {
        let LedKey { lead, aim, .. } = &waiter.seat;
        let step = lease::answered(inner, l2, lead, aim, waiter.held.as_ref(), asked, answer);
        if let Step::Done(Grant::Lease(lease)) = &step
            && !inner.policy.faults.is(Mutant::LeasesKeptFromLoad)
        {
            granted.push((lead.key.clone(), *lease));
        }
        (waiter, step)
    }));
    kept.add(granted, began);
    answered
}

/// Lands a key, or says on what grounds it is loaded.
fn settle<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    waiter: LeaseWaiter<'_, V>,
    grant: Grant<V>,
) -> Option<Claimed<V>> {
    let LeaseWaiter { seat, held, queue, .. } = waiter;
    drop(queue);
    let (outcome, entry) = match grant {
        Grant::Lease(lease) => return Some(Claimed { seat, claim: Claim::Lease(lease) }),
        Grant::LoadUncached => return Some(Claimed { seat, claim: Claim::Nothing }),
        Grant::NoRoom(seq) => return Some(Claimed { seat, claim: Claim::NoRoom(seq) }),
        Grant::Found(entry) => {
            seat.lead.flight().found_by(AnsweredBy::L2);
            (Ok(entry.value.clone()), Some(entry))
        }
        Grant::Backoff(entry) => {
            seat.lead.flight().found_by(AnsweredBy::Backoff);
            (Ok(entry.value.clone()), Some(entry))
        }
        Grant::Failed => (Err(run::failed_elsewhere(inner)), None),
        Grant::Unreachable(error) => match decide_in_outage(inner, seat.lead.key.as_bytes(), held, error) {
            OutageDecision::Serve(entry) if !seat.lead.suffices(&entry) => {
                return Some(Claimed { seat, claim: Claim::Alone });
            }
            OutageDecision::Load(_) => return Some(Claimed { seat, claim: Claim::Alone }),
            OutageDecision::Serve(entry) => {
                seat.lead.flight().found_by(AnsweredBy::Unverified);
                seat.lead.flight().came_from(entry.seq, &entry.tags);
                (Ok(entry.value), None)
            }
            OutageDecision::Fail(error) => (Err(error), None),
        },
    };
    land(seat, outcome, entry);
    None
}

/// Waits until some of those who wait are due to ask again, and gives those. Lands what wake-ups bring.
async fn wait<'a, V: Send + Sync + 'static>(
    inner: &'a Arc<Inner<V>>,
    l2: &L2<V>,
    waiting: &mut Vec<LeaseWaiter<'a, V>>,
    notify: &Notify,
    give_up: Instant,
) -> Vec<LeaseWaiter<'a, V>> {
    let next = waiting.iter().map(|waiter| waiter.due_at).min().unwrap_or(give_up).min(give_up);
    tokio::select! {
        biased;
        () = notify.notified() => sleep(BURST).await,
        () = sleep_until(next) => {}
    }
    let now = Instant::now();
    let (mut due, mut disappointed) = (Vec::new(), Vec::new());
    for mut waiter in std::mem::take(waiting) {
        let woken = waiter.queue.woken();
        let LedKey { lead, aim, .. } = &waiter.seat;
        let brought = woken.as_ref().and_then(Option::as_ref);
        match brought.and_then(|stored| lease::brought(l2, lead, aim, stored)) {
            Some(entry) => drop(settle(inner, waiter, Grant::Found(entry))),
            None if waiter.queue.is_disappointed() && makes_do(inner, lead, aim) => {
                disappointed.push(waiter);
            }
            None if woken.is_some() || waiter.due_at <= now || give_up <= now => due.push(waiter),
            None => waiting.push(waiter),
        }
    }
    due.extend(or_failed(inner, disappointed).await);
    due
}

/// Loads elsewhere have ended, and nothing came along: it was too large for that, or they failed. Gives back
/// those that a change has left without a value to make do with.
async fn or_failed<'a, V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    mut disappointed: Vec<LeaseWaiter<'a, V>>,
) -> Vec<LeaseWaiter<'a, V>> {
    for LeaseWaiter { seat, .. } in &mut disappointed {
        seat.lead.ticket = inner.local.ticket(&seat.lead.key);
    }
    let led: Vec<&LedKey<V>> = disappointed.iter().map(|waiter| &waiter.seat).collect();
    let read = read_seats(inner, &led, None).await;
    let mut left = Vec::new();
    for (waiter, fetched) in disappointed.into_iter().zip(read) {
        let LedKey { lead, aim, .. } = &waiter.seat;
        match fetched {
            Fetched::Found(entry, _) if aim.is_answered_by(&entry) => {
                drop(settle(inner, waiter, Grant::Found(entry)));
            }
            _ if settles(inner, lead, aim) => drop(settle(inner, waiter, Grant::Failed)),
            _ => left.push(waiter),
        }
    }
    left
}

/// A key whose lease is asked for.
struct LeaseWaiter<'a, V: 'static> {
    seat: LedKey<V>,
    accept: Accept,
    held: Option<Entry<V>>,
    queue: Queue<'a, V>,
    due_at: Instant,
}

/// The same, each key with its place among those asked for.
pub(crate) fn refresh_found_behind<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    refresh: &[(usize, Key, Token)],
    plan: &Arc<PlanMany<V>>,
) {
    let mut led = Vec::new();
    for &(place, ref key, token) in refresh {
        let aim = plan.aim(Reuse::Newer(token), Origin::Behind);
        let approach = aim.approach(wait::patience(inner, &plan.options));
        if let Entered::Lead(lead) = enter(&inner.local, key, None, approach) {
            led.push(LedKey { place, aim, lead });
        }
    }
    if !led.is_empty() {
        let (at_work, plan) = (Arc::clone(inner), Arc::clone(plan));
        // Boxed: this leads in turn, and a future cannot hold itself.
        let leading: BoxFuture<'static, ()> =
            Box::pin(trace::here(async move { lead_many(&at_work, led, None, &plan).await }));
        inner.lifecycle.tasks.spawn(leading);
    }
}
