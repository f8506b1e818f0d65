//! The readers and writers of a run.

mod writer;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_cache::testing::No;
use async_cache::{ErrorKind, Loaded, Result};
use fastrand::Rng;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use super::history::{Event, Owed, Violation};
use super::plan::{class_of, class_tag, group_tag};
use super::{OutagePolicy, Row, Running, Trouble, World};

/// The number of bits for the version. The key is in the higher bits.
const VERSION_BITS: u32 = 40;

fn value(key: usize, version: u64) -> u64 {
    ((key as u64) << VERSION_BITS) | version
}

/// Starts all readers and writers.
pub(super) fn start(world: &Rc<World>) -> Vec<JoinHandle<()>> {
    let mut rng = Rng::with_seed(world.plan.seed ^ 0xac7);
    let mut actors = Vec::new();
    for node in 0..world.plan.nodes {
        for _ in 0..world.plan.readers {
            actors.push(spawn_local(reader(Rc::clone(world), node, Rng::with_seed(rng.u64(..)))));
        }
    }
    for _ in 0..world.plan.writers {
        actors.push(spawn_local(writer::writer(Rc::clone(world), Rng::with_seed(rng.u64(..)))));
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
            7..=9 => load_all(&world, node, &mut rng).await,
            10..=13 if world.plan.absences => load_optional(&world, node, key, &mut rng).await,
            6 => {
                // A caller that is cancelled.
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

/// The behavior of one query.
#[derive(Debug, Clone, Copy)]
struct Manner {
    before: u64,
    after: u64,
    fails: bool,
}

impl Manner {
    fn draw(world: &World, rng: &mut Rng) -> Self {
        let usual = rng.u64(..=world.plan.load);
        let (before, after) = (
            rng.u64(..=world.plan.load / 4),
            if rng.u8(..30) < world.plan.long { usual + rng.u64(..1_200) } else { usual },
        );
        Self { before, after, fails: rng.u8(..40) < world.plan.failing }
    }

    /// Reads the versions of rows, then waits, or fails.
    async fn read(self, rows: &[Row], keys: &[usize]) -> Result<Vec<u64>, No> {
        let _running = Running::begin(rows, keys);
        if self.before > 0 {
            sleep(Duration::from_millis(self.before)).await;
        }
        let versions = keys.iter().map(|key| rows[*key].version.load(Ordering::SeqCst)).collect();
        if self.after > 0 {
            sleep(Duration::from_millis(self.after)).await;
        }
        if self.fails {
            for key in keys {
                rows[*key].extra.fetch_add(1, Ordering::SeqCst);
            }
            return Err(No(0));
        }
        Ok(versions)
    }
}

/// The result of a loader for a row. The loader chooses the tags.
fn loaded(tagged: bool, key: usize, version: u64) -> Loaded<u64> {
    let loaded = Loaded::new(value(key, version));
    match tagged {
        true => loaded.tag(group_tag(key)).tag(class_tag(class_of(version))),
        false => loaded,
    }
}

/// The tags that a call sets for the values that it loads.
fn tags_of_call(world: &World, keys: impl Iterator<Item = usize>) -> Vec<String> {
    if world.plan.tags { keys.map(group_tag).collect() } else { Vec::new() }
}

/// A query of the database: it reads the row, then waits, or fails.
fn query(
    world: &World,
    key: usize,
    rng: &mut Rng,
) -> impl Future<Output = Result<Loaded<u64>, No>> + Send + 'static + use<> {
    let rows: Arc<Vec<Row>> = Arc::clone(&world.rows);
    let (manner, tagged) = (Manner::draw(world, rng), world.plan.tags);
    async move {
        let versions = manner.read(&rows, &[key]).await?;
        Ok(loaded(tagged, key, versions[0]))
    }
}

async fn load(world: &World, node: usize, key: usize, rng: &mut Rng) {
    let begun = Begun::now(world, node, key, "get_or_load");
    let query = query(world, key, rng);
    let outcome = world.nodes[node].get_or_load(&(key as u64), || query).await;
    begun.ended(world, outcome.map(|value| Some(*value)), Owed::default());
}

/// A lookup that accepts an absence.
async fn load_optional(world: &World, node: usize, key: usize, rng: &mut Rng) {
    let begun = Begun::now(world, node, key, "get_or_load_optional");
    let (manner, plan, rows) = (Manner::draw(world, rng), world.plan, Arc::clone(&world.rows));
    let query = async move {
        let version = manner.read(&rows, &[key]).await?[0];
        Ok::<_, No>((!plan.is_absent(key, version)).then(|| loaded(plan.tags, key, version)))
    };
    let name = key as u64;
    let asked = world.nodes[node].get_or_load_optional(&name, || query);
    let outcome = asked.tags(tags_of_call(world, std::iter::once(key))).await;
    begun.ended_optional(world, outcome.map(|found| found.map(|value| *value)));
}

async fn load_all(world: &World, node: usize, rng: &mut Rng) {
    let keys: Vec<u64> = (0..world.plan.keys as u64).collect();
    let begun: Vec<Begun> =
        (0..world.plan.keys).map(|key| Begun::now(world, node, key, "get_many_or_load")).collect();
    let (manner, plan, rows) = (Manner::draw(world, rng), world.plan, Arc::clone(&world.rows));
    let batch = move |missing: Vec<u64>| async move {
        let missing: Vec<usize> = missing.into_iter().map(|key| key as usize).collect();
        let versions = manner.read(&rows, &missing).await?;
        let row = |(key, version): (usize, u64)| {
            let found = (!plan.is_absent(key, version)).then(|| loaded(plan.tags, key, version));
            (key as u64, found)
        };
        Ok::<HashMap<u64, Option<Loaded<u64>>>, No>(missing.into_iter().zip(versions).map(row).collect())
    };
    let asked = world.nodes[node].get_many_or_load(&keys, batch);
    let outcome = asked.tags(tags_of_call(world, 0..world.plan.keys)).await;
    for (at, begun) in begun.into_iter().enumerate() {
        begun.ended_optional(world, outcome.clone().map(|found| found[at].as_deref().copied()));
    }
}

async fn lookup(world: &World, node: usize, key: usize) {
    let begun = Begun::now(world, node, key, "get");
    let outcome = world.nodes[node].get(&(key as u64)).await;
    begun.ended(world, outcome.map(|found| found.map(|value| *value)), Owed::default());
}

async fn lookup_all(world: &World, node: usize) {
    let keys: Vec<u64> = (0..world.plan.keys as u64).collect();
    let begun: Vec<Begun> =
        (0..world.plan.keys).map(|key| Begun::now(world, node, key, "get_many")).collect();
    let outcome = world.nodes[node].get_many(&keys).await;
    for (at, begun) in begun.into_iter().enumerate() {
        begun.ended(world, outcome.clone().map(|found| found[at].as_deref().copied()), Owed::default());
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
    begun.ended(world, outcome, Owed::version(version));
}

async fn refresh(world: &World, node: usize, key: usize, rng: &mut Rng) {
    let committed = world.version(key);
    let begun = Begun::now(world, node, key, "refresh");
    let query = query(world, key, rng);
    world.rows[key].extra.fetch_add(1, Ordering::SeqCst);
    let outcome = world.nodes[node].refresh(&(key as u64), || query).await;
    // The load of the call begins after the call, so it must see this version.
    begun.ended(world, outcome.map(|value| Some(*value)), Owed::version(committed));
}

/// The version that a node returns after all faults. It is `None` if the lookup fails.
pub(super) async fn read_settled(world: &World, node: usize, key: usize) -> Option<u64> {
    let (version, name) = (world.version(key), key as u64);
    let load = move || async move { Ok::<_, No>(value(key, version)) };
    let asked = timeout(Duration::from_secs(60), world.nodes[node].get_or_load(&name, load));
    let Ok(outcome) = asked.await else {
        world.history.borrow_mut().violated(Violation::Hangs("a lookup after all faults"));
        return None;
    };
    let version = *outcome.ok()? & ((1 << VERSION_BITS) - 1);
    let read = Event::Read { what: "settled", key, begun: 0, version: Some(version), owed: Owed::default() };
    world.history.borrow_mut().note(node, &read);
    Some(version)
}

/// The maximum time, without faults, from the end of a load to the end of a lookup that waited for it. A fill,
/// a wake-up, and a request with its answer take at most 30 ms each. A lookup that is not woken asks again
/// after at most 313 ms.
const LATE: Duration = Duration::from_millis(120);

/// A lookup under way.
struct Begun {
    what: &'static str,
    node: usize,
    key: usize,
    /// The versions that it owes: always, and while the bound is not suspended.
    owed: (Owed, Owed),
    at: Instant,
    unverified: u64,
}

impl Begun {
    fn now(world: &World, node: usize, key: usize, what: &'static str) -> Self {
        let mut history = world.history.borrow_mut();
        let begun = history.moment();
        let owed = history.owed(node, key, begun);
        Self { what, node, key, owed, at: Instant::now(), unverified: world.unverified(node) }
    }

    /// Checks the answer. `insisted` is the version that the caller required. An answer without a value says
    /// nothing.
    fn ended(self, world: &World, outcome: Result<Option<u64>>, insisted: Owed) {
        self.judge(world, outcome, insisted);
    }

    /// Checks the answer for a caller that accepts an absence.
    fn ended_optional(self, world: &World, outcome: Result<Option<u64>>) {
        let Self { node, what, key, .. } = self;
        let gone = matches!(outcome, Ok(None));
        let owed = self.judge(world, outcome, Owed::default());
        let mut versions = owed.any..=world.version(key);
        if gone && !versions.any(|version| world.plan.is_absent(key, version)) {
            let mut history = world.history.borrow_mut();
            let at_ms = history.ms(Instant::now());
            history.violated(Violation::Vanished { node, what, key, owed: owed.any, at_ms });
        }
    }

    /// The time since the end of the load that a lookup of one key has waited for, if that time is too long.
    fn is_late(&self, world: &World) -> Option<Duration> {
        let row = &world.rows[self.key];
        let is_judged = world.plan.trouble == Trouble::None && self.what != "get_many_or_load";
        if !is_judged || row.running.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let ended = row.ended.lock().filter(|ended| *ended > self.at)?;
        Some(ended.elapsed()).filter(|late| *late > LATE)
    }

    fn judge(self, world: &World, outcome: Result<Option<u64>>, insisted: Owed) -> Owed {
        if let Some(late) = self.is_late(world) {
            let (node, key, late_ms) = (self.node, self.key, late.as_millis() as u64);
            world.history.borrow_mut().violated(Violation::LateWake { node, key, late_ms });
        }
        let Self { what, node, key, at, owed: (always, bounded), unverified } = self;
        // With this policy the bound does not hold for an answer that the node reports as unverified.
        let excused = world.plan.outage == OutagePolicy::ServeL1 && world.unverified(node) != unverified;
        let owed = always.and(insisted).and(if excused { Owed::default() } else { bounded });
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
                return owed;
            }
        };
        let version = found.map(|value| value & ((1 << VERSION_BITS) - 1));
        history.note(node, &Event::Read { what, key, begun, version, owed });
        let Some(version) = version else { return owed };
        if found != Some(value(key, version)) || version > world.version(key) || version == 0 {
            history.violated(Violation::Invented { key, value: found.unwrap_or_default() });
        }
        if !owed.is_met_by(version) {
            let at_ms = history.ms(Instant::now());
            history.violated(Violation::Stale { node, what, key, version, owed, at_ms });
        }
        owed
    }
}
