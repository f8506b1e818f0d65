//! Leads many flights: first reads the tiers, then asks for the leases, in rounds.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, sleep_until};

use crate::backend::{Accept, Acquire, Token};
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::lead::{Entered, enter};
use crate::lookup::lease::{self, makes_do, settles};
use crate::lookup::load::release;
use crate::lookup::loader::within_load;
use crate::lookup::many::keep::{self, Kept, PART};
use crate::lookup::many::load::{Claimed, spawn};
use crate::lookup::many::plan::{LedKey, PlanMany};
use crate::lookup::progress::{self, Progress, Seen};
use crate::lookup::queue::Queue;
use crate::lookup::step::{Action, Learnt, Reply, Woken};
use crate::lookup::wait;
use crate::observe::{Stage, trace};
use crate::remote::l2::L2;
use crate::remote::read::Fetched;
use crate::sync::Notify;

/// Wake-ups come in bursts, when a batch of another node has ended. Wake-ups within this time are handled by
/// one command and, if necessary, by one load.
const BURST: Duration = Duration::from_millis(1);

/// A key that no tier has answered for yet, the progress of its lookup, and its next action.
struct Open<V: 'static> {
    led: LedKey<V>,
    progress: Progress<V>,
    action: Action,
}

/// Ends the flights that a tier answers, and hands the rest to a task of its own. From there on no cancelled
/// caller stops them.
pub(crate) async fn lead_many<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    led: Vec<LedKey<V>>,
    min_stamp: Option<&Stamp>,
    plan: &Arc<PlanMany<V>>,
) {
    let limit = wait::patience_with(inner, &plan.options, led.len());
    led.iter().for_each(|led| led.lead.goes_on(limit));
    let mut refresh = Vec::new();
    let open = find_many(inner, led, min_stamp, &mut refresh).await;
    refresh_found_behind(inner, &refresh, plan);
    if !open.is_empty() {
        let seeking: BoxFuture<'static, ()> = Box::pin(seek(Arc::clone(inner), open, Arc::clone(plan)));
        // The task runs inside the loads of the caller, so that a loader that waits for itself gets an error.
        inner.lifecycle.tasks.spawn(trace::here(within_load(inner.local.liveness.node.id, [], seeking)));
    }
}

/// Probes L1 and reads L2 for all keys. A key that L2 has and that is to be refreshed in the background is
/// added to `refresh`.
async fn find_many<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    led: Vec<LedKey<V>>,
    min_stamp: Option<&Stamp>,
    refresh: &mut Vec<(usize, Key, Token)>,
) -> Vec<Open<V>> {
    let (mut open, mut unread) = (Vec::new(), Vec::new());
    for led in led {
        // One command reads all keys, so skipping the read would save nothing.
        let mut progress = Progress::begin(inner, &led.lead.request, false, false);
        let seen = progress::in_l1(inner, &led.lead);
        let action = progress.learn(inner, &led.lead, seen);
        let next = Open { led, progress, action };
        if action == Action::ReadL2 { unread.push(next) } else { open.extend(or_landed(inner, next)) }
    }
    let asked = inner.local.now();
    let keys: Vec<&LedKey<V>> = unread.iter().map(|open| &open.led).collect();
    let read = read_all(inner, &keys, min_stamp).await;
    for (Open { led, mut progress, .. }, fetched) in unread.into_iter().zip(read) {
        let seen = progress::read(inner, &led.lead, asked, fetched);
        let action = progress.learn(inner, &led.lead, seen);
        if let (Action::Answer(by), Some(entry)) = (action, progress.answer())
            && progress::refreshes(inner, &led.lead.request, entry, by)
        {
            refresh.push((led.place, led.lead.key().clone(), entry.token));
        }
        open.extend(or_landed(inner, Open { led, progress, action }));
    }
    open
}

/// The key if its lookup goes on. `None` if its flight has ended.
fn or_landed<V: Send + Sync + 'static>(inner: &Inner<V>, open: Open<V>) -> Option<Open<V>> {
    if let Action::Acquire(_) | Action::Load(_) = open.action {
        return Some(open);
    }
    let Open { led, progress, action } = open;
    drop(progress.end(inner, led.lead, action));
    None
}

/// Reads all keys from L2 together. It does not ask for keys with pending invalidations. They must be
/// skipped before the command. If they were checked after it, the retry could have succeeded in between.
async fn read_all<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    led: &[&LedKey<V>],
    min_stamp: Option<&Stamp>,
) -> Vec<Fetched<V>> {
    let mut read: Vec<Fetched<V>> = Vec::with_capacity(led.len());
    let (mut keys, mut asked) = (Vec::new(), Vec::new());
    for (at, led) in led.iter().enumerate() {
        read.push(match (&inner.remote, inner.local.liveness.refuse_unsent(led.lead.key().as_bytes())) {
            (Some(_), Some(error)) => Fetched::Unreachable(error),
            (Some(_), None) => {
                keys.push(led.lead.key().clone());
                asked.push(at);
                Fetched::Absent(Accept::Any)
            }
            (None, _) => Fetched::Absent(Accept::Any),
        });
    }
    let Some(l2) = inner.remote.as_ref().filter(|_| !keys.is_empty()) else { return read };
    for (at, found) in asked.into_iter().zip(l2.read_many(&keys, min_stamp).await) {
        let lead = &led[at].lead;
        read[at] = match found {
            Ok(stored) => l2.stored(lead.key(), stored.as_deref(), lead.ticket, &lead.request.options),
            Err(error) => Fetched::Unreachable(error),
        };
    }
    read
}

/// Brings every key to its end: a value from the fleet, or a load.
async fn seek<V: Send + Sync + 'static>(inner: Arc<Inner<V>>, open: Vec<Open<V>>, plan: Arc<PlanMany<V>>) {
    let notify = Arc::new(Notify::new());
    let kept = Kept::new(keep::lease_ttl(&inner, &plan.options, open.len()));
    let mut round = Round { due: Vec::new(), waiting: Vec::new(), claimed: Vec::new(), kept: &kept };
    let give_up = Instant::now() + plan.options.load.wait_timeout;
    for Open { led, progress, action } in open {
        let queue = Queue::join(&inner, &led.lead, &notify);
        round.perform(&inner, LeaseWaiter { led, progress, queue, due_at: Instant::now() }, action, give_up);
    }
    let seeking = seek_in_fleet(&inner, round, &notify, give_up, &plan);
    // If the cache is closed meanwhile, the flights that have not ended are abandoned.
    inner.lifecycle.closing.run_until_cancelled(seeking).await;
    // Then some leases may have been granted, and no load has taken them over.
    release(&inner, kept.into_leases(), keep::longest_ttl(&plan.options));
}

/// The keys of a batch, grouped by their next action.
struct Round<'a, V: 'static> {
    /// Their leases are asked for next.
    due: Vec<(LeaseWaiter<'a, V>, Accept)>,
    /// They wait for loads on other nodes.
    waiting: Vec<LeaseWaiter<'a, V>>,
    /// They are loaded on this node.
    claimed: Vec<Claimed<V>>,
    /// The leases of the claimed keys, until a load takes them over.
    kept: &'a Kept,
}

impl<'a, V: Send + Sync + 'static> Round<'a, V> {
    /// Performs the next action of a key, or puts the key into the group in which that is done for many keys
    /// together.
    fn perform(&mut self, inner: &Inner<V>, mut key: LeaseWaiter<'a, V>, action: Action, give_up: Instant) {
        match action {
            Action::Acquire(accept) => self.due.push((key, accept)),
            Action::Wait(lapses_in) => {
                key.due_at = Instant::now() + key.queue.pause(lapses_in, give_up);
                self.waiting.push(key);
            }
            Action::Load(basis) => self.claimed.push(Claimed { led: key.led, basis }),
            ended => drop(key.progress.end(inner, key.led.lead, ended)),
        }
    }
}

async fn seek_in_fleet<'a, V: Send + Sync + 'static>(
    inner: &'a Arc<Inner<V>>,
    mut round: Round<'a, V>,
    notify: &Notify,
    give_up: Instant,
    plan: &Arc<PlanMany<V>>,
) {
    let kept = round.kept;
    while let Some(l2) = inner.remote.as_ref().filter(|_| !round.due.is_empty() || !round.waiting.is_empty())
    {
        let asking = ask_all(inner, l2, std::mem::take(&mut round.due), plan, kept);
        let replies = tokio::select! {
            biased;
            replies = asking => replies,
            never = keep::keep_alive(inner, kept) => match never {},
        };
        for (mut key, seen) in replies {
            let lead = &key.led.lead;
            let seen = key.queue.within_patience(seen, give_up, || settles(inner, lead));
            let action = key.progress.learn(inner, lead, seen);
            round.perform(inner, key, action, give_up);
        }
        if !round.due.is_empty() {
            continue;
        }
        // The keys with leases must not wait for the keys without. Another node may hold the missing leases,
        // and may wait for ours.
        spawn(inner, std::mem::take(&mut round.claimed), kept.hand_over(), plan);
        if !round.waiting.is_empty() {
            let waits = wait(inner, l2, &mut round, notify, give_up);
            trace::stage(&inner.observer.namespace, Stage::WaitForLease, waits).await;
        }
    }
    spawn(inner, round.claimed, kept.hand_over(), plan);
}

/// A key, and the meaning of the reply for its lease.
type Replied<'a, V> = (LeaseWaiter<'a, V>, Seen<V>);

/// Asks for the leases of all keys in parts. The leases of one part are renewed while the other parts are
/// asked for.
async fn ask_all<'a, V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    l2: &L2<V>,
    due: Vec<(LeaseWaiter<'a, V>, Accept)>,
    plan: &PlanMany<V>,
    kept: &Kept,
) -> Vec<Replied<'a, V>> {
    let keys: Vec<Key> = due.iter().map(|(key, _)| key.led.lead.key().clone()).collect();
    if let Err(error) = inner.local.liveness.learn_server_time(&*l2.region, &keys).await {
        let unreachable = |(key, _): (LeaseWaiter<'a, V>, Accept)| {
            let seen = lease::unreachable(inner, &key.led.lead, key.progress.held.as_ref(), error.clone());
            (key, seen)
        };
        return due.into_iter().map(unreachable).collect();
    }
    let part = if inner.policy.faults.is(Mutant::LeasesKeptFromLoad) { due.len() } else { PART };
    let limit = wait::patience_with(inner, &plan.options, due.len());
    let all = due.len();
    let mut replies = Vec::with_capacity(all);
    let mut due = due.into_iter();
    while due.len() > 0 {
        due.as_slice().iter().for_each(|(key, _)| key.led.lead.goes_on(limit));
        let ttl = kept.life(all);
        replies.extend(ask_part(inner, l2, due.by_ref().take(part.max(1)), kept, ttl).await);
    }
    replies
}

/// Asks for the leases of one part with one command.
async fn ask_part<'a, V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    l2: &L2<V>,
    due: impl Iterator<Item = (LeaseWaiter<'a, V>, Accept)>,
    kept: &Kept,
    ttl: Duration,
) -> Vec<Replied<'a, V>> {
    let (mut asks, mut asking, mut replies) = (Vec::new(), Vec::new(), Vec::new());
    for (mut key, accept) in due {
        key.led.lead.ticket = key.queue.ticket();
        // An invalidation of the key may have become pending after the decision to ask. Then L2 may hold an
        // old value.
        if inner.local.liveness.is_unsent(key.led.lead.key().as_bytes()) {
            replies.push((key, Seen::bare(Learnt::Lease(Reply::Unsent))));
            continue;
        }
        let ask = Acquire { token: inner.local.liveness.node.next_token(), ttl, accept };
        asks.push((key.led.lead.key().clone(), ask));
        asking.push(key);
    }
    let (asked, began) = (inner.local.now(), Instant::now());
    let answers = inner.observer.stage(Stage::Lease, l2.region.acquire(&asks)).await;
    kept.took(began.elapsed());
    let mut granted = Vec::new();
    replies.extend(asking.into_iter().zip(answers).map(|(key, answer)| {
        let lead = &key.led.lead;
        let seen = lease::reply(inner, lead, key.progress.held.as_ref(), asked, answer);
        if let Learnt::Lease(Reply::Granted(lease)) = seen.learnt
            && !inner.policy.faults.is(Mutant::LeasesKeptFromLoad)
        {
            granted.push((lead.key().clone(), lease));
        }
        (key, seen)
    }));
    kept.add(granted, began);
    replies
}

/// Waits until some keys have a wake-up or must ask again, and goes on with those.
async fn wait<'a, V: Send + Sync + 'static>(
    inner: &'a Arc<Inner<V>>,
    l2: &L2<V>,
    round: &mut Round<'a, V>,
    notify: &Notify,
    give_up: Instant,
) {
    let next = round.waiting.iter().map(|key| key.due_at).min().unwrap_or(give_up).min(give_up);
    tokio::select! {
        biased;
        () = notify.notified() => sleep(BURST).await,
        () = sleep_until(next) => {}
    }
    let now = Instant::now();
    let (mut news, mut empty) = (Vec::new(), Vec::new());
    for mut key in std::mem::take(&mut round.waiting) {
        let woken = key.queue.woken();
        let lead = &key.led.lead;
        let brought = woken.as_ref().and_then(Option::as_ref);
        match brought.and_then(|stored| lease::brought(l2, lead, stored)) {
            Some(entry) => news.push((key, Seen::of(Learnt::Waited(Woken::Answers), entry))),
            None if key.queue.saw_empty_load() && makes_do(inner, lead) => empty.push(key),
            None if woken.is_some() || key.due_at <= now || give_up <= now => {
                news.push((key, Seen::bare(Learnt::Waited(Woken::Due))));
            }
            None => round.waiting.push(key),
        }
    }
    news.extend(after_empty_loads(inner, empty).await);
    for (mut key, seen) in news {
        let action = key.progress.learn(inner, &key.led.lead, seen);
        round.perform(inner, key, action, give_up);
    }
}

/// Reads L2 once more after loads on other nodes that have ended without a value, for lookups that may end with that.
async fn after_empty_loads<'a, V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    mut empty: Vec<LeaseWaiter<'a, V>>,
) -> Vec<Replied<'a, V>> {
    for LeaseWaiter { led, .. } in &mut empty {
        led.lead.ticket = inner.local.ticket(led.lead.key());
    }
    let led: Vec<&LedKey<V>> = empty.iter().map(|key| &key.led).collect();
    let read = read_all(inner, &led, None).await;
    let after = |(key, fetched): (LeaseWaiter<'a, V>, Fetched<V>)| {
        let seen = lease::after_empty_load(inner, &key.led.lead, fetched);
        (key, seen)
    };
    empty.into_iter().zip(read).map(after).collect()
}

/// A key that asks for its lease.
struct LeaseWaiter<'a, V: 'static> {
    led: LedKey<V>,
    progress: Progress<V>,
    queue: Queue<'a, V>,
    due_at: Instant,
}

/// Refreshes keys in the background that were found in a tier. Each key comes with its place among the
/// requested keys.
pub(crate) fn refresh_found_behind<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    refresh: &[(usize, Key, Token)],
    plan: &Arc<PlanMany<V>>,
) {
    let mut led = Vec::new();
    let limit = wait::patience(inner, &plan.options);
    for &(place, ref key, token) in refresh {
        let request = Arc::new(plan.request(key, None).behind(token));
        if let Entered::Lead(lead) = enter(&inner.local, &request, limit, false) {
            led.push(LedKey { place, lead });
        }
    }
    if !led.is_empty() {
        let (at_work, plan) = (Arc::clone(inner), Arc::clone(plan));
        // The future is boxed, because it can start itself again, and a future cannot contain itself.
        let leading: BoxFuture<'static, ()> =
            Box::pin(trace::here(async move { lead_many(&at_work, led, None, &plan).await }));
        inner.lifecycle.tasks.spawn(leading);
    }
}
