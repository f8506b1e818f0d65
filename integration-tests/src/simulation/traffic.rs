//! Readers and writers.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_cache::testing::No;
use async_cache::{ErrorKind, Result, Stamp};
use fastrand::Rng;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use super::history::{Event, Landed, Violation};
use super::{Outage, Row, Trouble, World};

/// Versions have this many bits; the key is above.
const VERSION_BITS: u32 = 40;

fn value(key: usize, version: u64) -> u64 {
    ((key as u64) << VERSION_BITS) | version
}

/// Starts everyone.
pub(super) fn start(world: &Rc<World>) -> Vec<JoinHandle<()>> {
    let mut rng = Rng::with_seed(world.plan.seed ^ 0xac7);
    let mut actors = Vec::new();
    for node in 0..world.plan.nodes {
        for _ in 0..world.plan.readers {
            actors.push(spawn_local(reader(Rc::clone(world), node, Rng::with_seed(rng.u64(..)))));
        }
    }
    for _ in 0..world.plan.writers {
        actors.push(spawn_local(writer(Rc::clone(world), Rng::with_seed(rng.u64(..)))));
    }
    actors
}

async fn reader(world: Rc<World>, node: usize, mut rng: Rng) {
    let end = Instant::now() + world.plan.traffic;
    while Instant::now() < end {
        let key = rng.usize(..world.plan.keys);
        match rng.u8(..20) {
            0..=1 => lookup(&world, node, key).await,
            2 => lookup_all(&world, node).await,
            3..=4 => after_stamp(&world, node, key, &mut rng).await,
            5 => refresh(&world, node, key, &mut rng).await,
            6 => {
                // A caller that goes away.
                let patience = Duration::from_millis(rng.u64(..20));
                let _ = timeout(patience, load(&world, node, key, &mut rng)).await;
            }
            _ => load(&world, node, key, &mut rng).await,
        }
        pause(&mut rng, world.plan.think).await;
    }
}

async fn pause(rng: &mut Rng, limit: u64) {
    let span = rng.u64(..=limit);
    if span > 0 {
        sleep(Duration::from_millis(span)).await;
    }
}

/// A query of the database: reads the row, then takes its time, or fails.
fn query(
    world: &World,
    key: usize,
    rng: &mut Rng,
) -> impl Future<Output = Result<u64, No>> + Send + 'static + use<> {
    let rows: Arc<Vec<Row>> = Arc::clone(&world.rows);
    let usual = rng.u64(..=world.plan.load);
    let (before, after) = (
        rng.u64(..=world.plan.load / 4),
        if rng.u8(..30) < world.plan.long { usual + rng.u64(..1_200) } else { usual },
    );
    let fails = rng.u8(..40) == 0;
    async move {
        let row: &Row = &rows[key];
        row.loads.fetch_add(1, Ordering::SeqCst);
        if before > 0 {
            sleep(Duration::from_millis(before)).await;
        }
        let version = row.version.load(Ordering::SeqCst);
        if after > 0 {
            sleep(Duration::from_millis(after)).await;
        }
        if fails {
            row.extra.fetch_add(1, Ordering::SeqCst);
            return Err(No(0));
        }
        Ok(value(key, version))
    }
}

async fn load(world: &World, node: usize, key: usize, rng: &mut Rng) {
    let begun = Begun::now(world, node, key, "get_or_load");
    let query = query(world, key, rng);
    let outcome = world.nodes[node].get_or_load(&(key as u64), || query).await;
    begun.ended(world, outcome.map(|value| Some(*value)), 0);
}

async fn lookup(world: &World, node: usize, key: usize) {
    let begun = Begun::now(world, node, key, "get");
    let outcome = world.nodes[node].get(&(key as u64)).await;
    begun.ended(world, outcome.map(|found| found.map(|value| *value)), 0);
}

async fn lookup_all(world: &World, node: usize) {
    let keys: Vec<u64> = (0..world.plan.keys as u64).collect();
    let begun: Vec<Begun> =
        (0..world.plan.keys).map(|key| Begun::now(world, node, key, "get_many")).collect();
    let outcome = world.nodes[node].get_many(&keys).await;
    for (at, begun) in begun.into_iter().enumerate() {
        begun.ended(world, outcome.clone().map(|found| found[at].as_deref().copied()), 0);
    }
}

async fn after_stamp(world: &World, node: usize, key: usize, rng: &mut Rng) {
    let Some((stamp, version)) = world.stamps.borrow()[key].clone() else { return };
    let (begun, name) = (Begun::now(world, node, key, "at_least"), key as u64);
    let outcome = if rng.bool() {
        let query = query(world, key, rng);
        let asked = world.nodes[node].get_or_load(&name, || query);
        asked.at_least(&stamp).await.map(|value| Some(*value))
    } else {
        let asked = world.nodes[node].get(&name).at_least(&stamp);
        asked.await.map(|found| found.map(|value| *value))
    };
    begun.ended(world, outcome, version);
}

async fn refresh(world: &World, node: usize, key: usize, rng: &mut Rng) {
    let committed = world.version(key);
    let begun = Begun::now(world, node, key, "refresh");
    let query = query(world, key, rng);
    world.rows[key].extra.fetch_add(1, Ordering::SeqCst);
    let outcome = world.nodes[node].refresh(&(key as u64), || query).await;
    // Its load begins after it is asked for.
    begun.ended(world, outcome.map(|value| Some(*value)), committed);
}

/// What a node reads when everything has come to rest; `None` if it cannot.
pub(super) async fn read_settled(world: &World, node: usize, key: usize) -> Option<u64> {
    let (version, name) = (world.version(key), key as u64);
    let load = move || async move { Ok::<_, No>(value(key, version)) };
    let asked = timeout(Duration::from_secs(60), world.nodes[node].get_or_load(&name, load));
    let Ok(outcome) = asked.await else {
        world.history.borrow_mut().violated(Violation::Hangs("a lookup after all faults"));
        return None;
    };
    let version = *outcome.ok()? & ((1 << VERSION_BITS) - 1);
    let read = Event::Read { what: "settled", key, begun: 0, version: Some(version), owed: 0 };
    world.history.borrow_mut().note(node, &read);
    Some(version)
}

/// A lookup under way.
struct Begun {
    what: &'static str,
    node: usize,
    key: usize,
    owed: u64,
    at: Instant,
    outages: u64,
    reachable: bool,
}

/// A number that changes when a node does not get an answer from L2, or answers for want of one.
fn outages(world: &World, node: usize) -> u64 {
    let stats = world.nodes[node].stats();
    stats.stale_served + stats.l2_errors
}

impl Begun {
    fn now(world: &World, node: usize, key: usize, what: &'static str) -> Self {
        let mut history = world.history.borrow_mut();
        let begun = history.moment();
        let owed = history.owed(node, key, begun);
        let (outages, reachable) = (outages(world, node), world.links[node].is_reachable());
        Self { what, node, key, owed, at: Instant::now(), outages, reachable }
    }

    /// Checks the answer; `insisted` is the version the caller insisted on.
    fn ended(self, world: &World, outcome: Result<Option<u64>>, insisted: u64) {
        let Self { what, node, key, at, .. } = self;
        let owed = self.owed.max(insisted);
        let mut history = world.history.borrow_mut();
        let begun = history.ms(at);
        let found = match outcome {
            Ok(found) => found,
            Err(error) => {
                let why = format!("{:?}", error.kind());
                let calm = world.plan.trouble == Trouble::None && error.kind() != ErrorKind::Loader;
                history.note(node, &Event::Failed { what, key, why: why.clone() });
                if calm {
                    history.violated(Violation::FailedInCalm(error.to_string()));
                }
                return;
            }
        };
        let version = found.map(|value| value & ((1 << VERSION_BITS) - 1));
        history.note(node, &Event::Read { what, key, begun, version, owed });
        let Some(version) = version else { return };
        if found != Some(value(key, version)) || version > world.version(key) || version == 0 {
            history.violated(Violation::Invented { key, value: found.unwrap_or_default() });
        }
        // With this policy an outage suspends the bound.
        let outage = !self.reachable || outages(world, node) != self.outages;
        let excused = world.plan.outage == Outage::ServeL1 && outage && insisted == 0;
        if version < owed && !excused {
            let at_ms = history.ms(Instant::now());
            history.violated(Violation::Stale { node, what, key, version, owed, at_ms });
        }
    }
}

async fn writer(world: Rc<World>, mut rng: Rng) {
    let end = Instant::now() + world.plan.traffic;
    // One kind of run has inserts, the other has writers that do not wait for one another.
    let inserts = world.plan.seed.is_multiple_of(2);
    while Instant::now() < end {
        pause(&mut rng, world.plan.rest).await;
        let node = rng.usize(..world.plan.nodes);
        let key = rng.usize(..world.plan.keys);
        let _one_at_a_time = if inserts { Some(world.locks[key].lock().await) } else { None };
        let version = world.rows[key].version.fetch_add(1, Ordering::SeqCst) + 1;
        world.history.borrow_mut().note(node, &Event::Committed { key, version });
        pause(&mut rng, 5).await;
        match rng.u8(..10) {
            0 => change_all(&world, node).await,
            1 => change_many(&world, node).await,
            2..=4 if inserts => insert(&world, node, key, version).await,
            _ => invalidate(&world, node, key, version).await,
        }
    }
}

async fn invalidate(world: &World, node: usize, key: usize, version: u64) {
    let versions = vec![(key, version)];
    begin(world, node, "invalidate", &versions);
    let outcome = world.nodes[node].invalidate(&(key as u64)).await;
    end(world, node, "invalidate", versions, outcome);
}

async fn insert(world: &World, node: usize, key: usize, version: u64) {
    let versions = vec![(key, version)];
    begin(world, node, "insert", &versions);
    let outcome = world.nodes[node].insert(&(key as u64), value(key, version)).await;
    end(world, node, "insert", versions, outcome);
}

async fn change_many(world: &World, node: usize) {
    let versions: Vec<_> = (0..world.plan.keys).map(|key| (key, world.version(key))).collect();
    let keys: Vec<u64> = (0..world.plan.keys as u64).collect();
    begin(world, node, "invalidate_many", &versions);
    let outcome = world.nodes[node].invalidate_many(&keys).await;
    end(world, node, "invalidate_many", versions, outcome);
}

async fn change_all(world: &World, node: usize) {
    let versions: Vec<_> = (0..world.plan.keys).map(|key| (key, world.version(key))).collect();
    begin(world, node, "invalidate_all", &versions);
    let outcome = world.nodes[node].invalidate_all().await;
    end(world, node, "invalidate_all", versions, outcome);
}

fn begin(world: &World, node: usize, what: &'static str, versions: &[(usize, u64)]) {
    world.history.borrow_mut().note(node, &Event::Changing { what, versions: versions.to_vec() });
}

fn end(world: &World, node: usize, what: &'static str, versions: Vec<(usize, u64)>, outcome: Result<Stamp>) {
    let mut history = world.history.borrow_mut();
    match outcome {
        Ok(stamp) => {
            history.changed(node, &versions, Landed::Surely);
            for &(key, version) in &versions {
                let newest = &mut world.stamps.borrow_mut()[key];
                if newest.as_ref().is_none_or(|(_, newest)| *newest < version) {
                    *newest = Some((stamp.clone(), version));
                }
            }
            history.note(node, &Event::Changed { what, versions, stamp: stamp.to_string() });
        }
        Err(error) => {
            history.changed(node, &versions, Landed::Perhaps);
            history.note(node, &Event::Undecided { what });
            if world.plan.trouble == Trouble::None {
                history.violated(Violation::FailedInCalm(error.to_string()));
            }
        }
    }
}
