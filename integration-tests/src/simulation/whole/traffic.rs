//! The callers of a run.

use std::rc::Rc;
use std::time::Duration;

use async_cache::{ErrorKind, Result, Stamp, Traced};
use fastrand::Rng;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use super::World;
use super::book::{At, Landed, Scope};
use super::breach::Promise;
use super::database::Database;
use super::judge::Asked;
use super::plan::Trouble;
use crate::surface::{Call, Kind, Options, Outcome, Range, Verb, perform};

/// Starts all callers.
pub(super) fn start(world: &Rc<World>) -> Vec<JoinHandle<()>> {
    let mut rng = Rng::with_seed(world.plan.seed ^ 0xac7);
    let mut actors = Vec::new();
    for slot in 0..world.slots.len() {
        for _ in 0..world.plan.callers {
            actors.push(spawn_local(caller(Rc::clone(world), slot, Rng::with_seed(rng.u64(..)))));
        }
    }
    actors.push(spawn_local(writer(Rc::clone(world), Rng::with_seed(rng.u64(..)))));
    actors.push(spawn_local(crowd(Rc::clone(world), Rng::with_seed(rng.u64(..)))));
    if world.plan.bulk > 0 {
        actors.push(spawn_local(bulk(Rc::clone(world), Rng::with_seed(rng.u64(..)))));
    }
    actors
}

async fn pause(rng: &mut Rng, limit: u64) {
    sleep(Duration::from_millis(rng.u64(..=limit))).await;
}

impl World {
    fn draw(&self, rng: &mut Rng, wanted: impl Fn(Verb) -> bool) -> Call {
        let plan = &self.plan;
        let range = Range { keys: plan.keys, tiers: plan.common_tiers(), own_options: plan.own_options };
        self.calls.set(self.calls.get() + 1);
        Call::draw(self.calls.get(), range, &plan.defaults, rng, wanted)
    }

    fn ends(&self) -> Instant {
        Instant::now() + self.plan.traffic
    }
}

fn asks(verb: Verb) -> bool {
    matches!(verb.kind(), Kind::Looks | Kind::Loads | Kind::Reloads)
}

async fn caller(world: Rc<World>, slot: usize, mut rng: Rng) {
    let end = world.ends();
    while Instant::now() < end {
        let call = world.draw(&mut rng, asks);
        if rng.u8(..15) == 0 {
            // A caller that is cancelled.
            let patience = Duration::from_millis(rng.u64(..20));
            let node = world.slots[slot].borrow().node;
            world.book.pages().nodes[node].stale.1 += call.keys.len() as u64;
            let _ = timeout(patience, ask(&world, slot, call)).await;
        } else {
            ask(&world, slot, call).await;
        }
        pause(&mut rng, world.plan.think).await;
    }
}

/// Makes many calls of one key at once, on any node, with one method or several.
async fn crowd(world: Rc<World>, mut rng: Rng) {
    let end = world.ends();
    while Instant::now() < end {
        pause(&mut rng, 300).await;
        let key = rng.u64(..world.plan.keys);
        let only = (rng.u8(..3) == 0).then(|| world.draw(&mut rng, asks).verb);
        let mut calls = Vec::new();
        for _ in 0..rng.usize(2..8) {
            let mut call = world.draw(&mut rng, |verb| only.map_or(asks(verb), |only| verb == only));
            call.keys[0] = key;
            let (world, slot) = (Rc::clone(&world), rng.usize(..world.slots.len()));
            calls.push(spawn_local(async move { ask(&world, slot, call).await }));
        }
        for call in calls {
            call.await.expect("a call does not panic");
        }
    }
}

/// Makes batches of very many keys, on one node or on two at once.
async fn bulk(world: Rc<World>, mut rng: Rng) {
    let end = world.ends();
    let plan = &world.plan;
    while Instant::now() < end {
        pause(&mut rng, 300).await;
        let mut calls = Vec::new();
        for _ in 0..rng.usize(1..=2) {
            let mut call = world.draw(&mut rng, |verb| verb == Verb::GetManyOrLoad);
            call.keys = (plan.keys..plan.keys + plan.bulk).collect();
            (call.options, call.effective, call.insists) = (Options::default(), plan.defaults.clone(), false);
            let (world, slot) = (Rc::clone(&world), rng.usize(..world.slots.len()));
            calls.push(spawn_local(async move { ask(&world, slot, call).await }));
        }
        for call in calls {
            call.await.expect("a call does not panic");
        }
    }
}

/// Makes a call, and judges its outcome.
async fn ask(world: &World, slot: usize, call: Call) {
    let (cache, node, unverified) = {
        let mut slot = world.slots[slot].borrow_mut();
        (slot.cache.clone(), slot.node, slot.unverified())
    };
    let stamp = world.stamps.borrow()[call.keys[0] as usize].clone().filter(|_| call.insists);
    let begun = world.book.pages().call_begins(node, &call);
    let since = Instant::now();
    let source = Database { book: world.book.clone(), node };
    let made = perform(&cache, &source, &call, stamp.as_ref().map(|(stamp, _)| stamp));
    let Ok(outcome) = timeout(world.plan.longest_call(), made).await else {
        let what =
            format!("call {} ({:?}) has not ended after {:?}", call.id, call.verb, world.plan.longest_call());
        return world.book.pages().breach(Promise::Liveness, Some(call.keys[0]), what);
    };
    judge_time(world, &call, since);
    let unverified = {
        let mut slot = world.slots[slot].borrow_mut();
        slot.node != node || slot.unverified() != unverified
    };
    let stamp = stamp.map(|(_, change)| change);
    let mut asked = Asked { call: &call, node, begun, stamp, told: Vec::new(), unverified, traced: None };
    let mut pages = world.book.pages();
    match outcome {
        Outcome::Traced(key, Ok(Traced { value, source, age })) => {
            asked.traced = Some((source, age));
            pages.judge(&mut asked, key, value.as_deref());
        }
        Outcome::Traced(key, Err(error)) => pages.judge_error(&asked, key, &error),
        Outcome::Answers(answers) => {
            for (key, answer) in answers {
                match answer {
                    Ok(answer) => pages.judge(&mut asked, key, answer.as_deref()),
                    Err(error) => pages.judge_error(&asked, key, &error),
                }
            }
        }
        Outcome::Warmed(counts, failed) => {
            pages.nodes[node].stale.1 += call.keys.len() as u64;
            let all: usize = counts.iter().sum::<usize>() + failed.len();
            if all != call.distinct().len() && pages.nodes[node].ended_ms.is_none() {
                let what = format!(
                    "warming {} keys came to {counts:?} and {} failures",
                    call.distinct().len(),
                    failed.len()
                );
                pages.breach(Promise::Stats, Some(call.keys[0]), what);
            }
            failed.iter().for_each(|(key, error)| pages.judge_error(&asked, *key, error));
        }
        Outcome::Contains(Err(error)) => pages.judge_error(&asked, call.keys[0], &error),
        Outcome::Contains(Ok(true)) => pages.judge_presence(&asked, call.keys[0]),
        Outcome::Contains(Ok(false)) | Outcome::Changed(_) | Outcome::Updated(_) => {}
    }
}

/// Judges whether a lookup has kept its own limits. Without faults, commands take almost no time.
fn judge_time(world: &World, call: &Call, since: Instant) {
    let (took, limit) = (since.elapsed(), world.plan.limit_of(call));
    let bulk = call.keys[0] >= world.plan.keys;
    if took > limit && !bulk && world.plan.trouble != Trouble::Everything {
        let what =
            format!("call {} ({:?}) took {took:?}, and its own limits allow {limit:?}", call.id, call.verb);
        world.book.pages().breach(Promise::Liveness, Some(call.keys[0]), what);
    }
}

async fn writer(world: Rc<World>, mut rng: Rng) {
    let end = world.ends();
    while Instant::now() < end {
        pause(&mut rng, world.plan.rest).await;
        let slot = rng.usize(..world.slots.len());
        let inserts = world.plan.inserts;
        let call = world.draw(&mut rng, |verb| match verb.kind() {
            Kind::Stores => inserts,
            Kind::Forgets | Kind::Expires => true,
            _ => false,
        });
        let goes_away = rng.u8(..10) == 0;
        let patience = goes_away.then(|| Duration::from_millis(rng.u64(..10)));
        change(&world, slot, call, patience).await;
    }
}

fn scope_of(call: &Call) -> Scope {
    let tags = &call.effective.tags;
    match call.verb {
        Verb::InvalidateAll | Verb::LoaderClearAll => Scope::Everything,
        Verb::InvalidateTag | Verb::ExpireTag => {
            Scope::Tags(vec![tags.first().cloned().unwrap_or_else(|| "none".to_owned())])
        }
        Verb::InvalidateTags | Verb::ExpireTags => Scope::Tags(tags.clone()),
        Verb::InvalidateMany | Verb::InvalidateEncoded | Verb::InsertMany | Verb::ExpireMany => {
            Scope::Keys(call.distinct())
        }
        _ => Scope::Keys(vec![call.keys[0]]),
    }
}

/// Commits a version, then makes the change.
async fn change(world: &World, slot: usize, mut call: Call, patience: Option<Duration>) {
    if call.verb.is_about_tags() {
        call.effective.tags.extend(["chosen", "call"].map(str::to_owned));
        let turn = call.id as usize % call.effective.tags.len();
        call.effective.tags.rotate_left(turn);
    }
    let (cache, node) = {
        let slot = world.slots[slot].borrow();
        (slot.cache.clone(), slot.node)
    };
    let mut locks = Vec::new();
    for key in call.distinct() {
        locks.push(world.locks[key as usize].lock().await);
    }
    let (id, begun) = {
        let mut pages = world.book.pages();
        call.distinct().iter().for_each(|key| pages.versions[*key as usize] += 1);
        let begun = pages.call_begins(node, &call);
        (pages.change_begins(node, scope_of(&call), call.verb.kind() == Kind::Expires), begun)
    };
    let source = Database { book: world.book.clone(), node };
    let made = perform(&cache, &source, &call, None);
    if let Some(patience) = patience {
        // The first poll begins the change, and it is completed even if its caller is cancelled. Inserts of the
        // key wait until then.
        let Ok(outcome) = timeout(patience, made).await else {
            return dropped(world, slot, &call, (id, begun)).await;
        };
        return came_to(world, node, &call, (id, begun), outcome);
    }
    let Ok(outcome) = timeout(world.plan.longest_call(), made).await else {
        let what = format!("change {} ({:?}) has not ended", call.id, call.verb);
        return world.book.pages().breach(Promise::Liveness, Some(call.keys[0]), what);
    };
    came_to(world, node, &call, (id, begun), outcome);
}

/// Follows a change whose caller was cancelled. After its own deadlines it has been executed or is being
/// retried.
async fn dropped(world: &World, slot: usize, call: &Call, (id, begun): (usize, At)) {
    let node = world.book.pages().changes[id].node;
    world.book.pages().note(node, None, format!("change {id} is dropped by its caller"));
    sleep(world.plan.longest_change()).await;
    let there = {
        let slot = world.slots[slot].borrow();
        slot.node == node && slot.cache.stats().pending_invalidations == 0
    };
    let mut pages = world.book.pages();
    let landed = if there && pages.nodes[node].ended_ms.is_none() { Landed::Surely } else { Landed::Perhaps };
    pages.change_ends(id, landed);
    if landed == Landed::Surely {
        // The inserted value may be stored. If the insert failed, it was invalidated.
        let unsure = Options { refresh_ahead: Some(1.0), ..call.effective.clone() };
        pages.inserts_ended(begun, node, &unsure);
    }
}

fn came_to(world: &World, node: usize, call: &Call, (id, begun): (usize, At), outcome: Outcome) {
    match outcome {
        Outcome::Changed(outcome) => ended(world, node, call, (id, begun), outcome.map(Some)),
        Outcome::Updated(outcome) => ended(world, node, call, (id, begun), outcome.map(|()| None)),
        _ => unreachable!("a change comes to a change"),
    }
}

fn ended(world: &World, node: usize, call: &Call, (id, begun): (usize, At), outcome: Result<Option<Stamp>>) {
    let mut pages = world.book.pages();
    let landed = match &outcome {
        Ok(_) => Landed::Surely,
        Err(error) if error.kind() == ErrorKind::Shutdown => Landed::Untold,
        Err(_) => Landed::Perhaps,
    };
    pages.change_ends(id, landed);
    let scope = pages.changes[id].scope.clone();
    pages.note(node, None, format!("call {} has changed {scope:?}: {landed:?}", call.id));
    match outcome {
        Ok(stamp) => {
            pages.inserts_ended(begun, node, &call.effective);
            let mut stamps = world.stamps.borrow_mut();
            for key in 0..world.plan.keys {
                let concerned = match &scope {
                    Scope::Keys(keys) => keys.contains(&key),
                    Scope::Everything => true,
                    Scope::Tags(_) => false,
                };
                if let Some(stamp) = stamp.as_ref().filter(|_| concerned) {
                    stamps[key as usize] = Some((stamp.clone(), id));
                }
            }
        }
        Err(error) => {
            let ending = pages.nodes[node].ended_ms.is_some();
            if world.plan.trouble != Trouble::Everything && !ending {
                pages.breach(
                    Promise::Calm,
                    Some(call.keys[0]),
                    format!("change {} failed: {error}", call.id),
                );
            }
        }
    }
}
