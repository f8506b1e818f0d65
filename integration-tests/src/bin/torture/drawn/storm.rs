//! Storms: every node asks for one key at the same moment, many times. Afterwards the checker looks at the
//! result.
//!
//! The keys are used for storms only, and their values live long. So the value of a storm is still stored
//! afterwards, and was loaded exactly as often as promised.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::sleep;

use crate::judge::{Allowed, Answer, by_itself};
use crate::ledger::{Count, Global, Ledger, STORMS, STORMS_AT, now};
use crate::lives::life_of;
use crate::load::Load;
use crate::node::Handle;
use crate::promise::{Promise, What};
use crate::read::{count_error, in_time};

/// The time from one storm to the next.
const PERIOD_NS: u64 = 1_500_000_000;
/// The times within a period: when the key is cleared, when the calls begin, and when the result is checked.
const BREAKS_NS: u64 = 150_000_000;
const OVER_NS: u64 = 1_000_000_000;
/// The number of calls of each node.
const CALLS: usize = 6;

/// What the nodes do in a storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// They load the key even if it is cached.
    Reloads,
    /// They load a key that has just been invalidated.
    Loads,
}

/// One storm. It is equal on all nodes.
#[derive(Debug, Clone, Copy)]
struct Storm {
    number: u64,
    begins: u64,
    key: usize,
    kind: Kind,
}

impl Storm {
    fn next(seed: u64) -> Self {
        let number = now() / PERIOD_NS + 1;
        let mut rng = Rng::with_seed(seed ^ number);
        let key = STORMS_AT + rng.usize(..STORMS);
        let kind = if rng.u8(..3) == 0 { Kind::Loads } else { Kind::Reloads };
        Self { number, begins: number * PERIOD_NS, key, kind }
    }
}

/// A counter that belongs to one storm.
fn count(word: &std::sync::atomic::AtomicU64, storm: u64) -> u64 {
    let add = |old: u64| Some(if old >> 16 == storm { old + 1 } else { storm << 16 | 1 });
    match word.fetch_update(Ordering::AcqRel, Ordering::Acquire, add) {
        Ok(old) if old >> 16 == storm => (old & 0xffff) + 1,
        _ => 1,
    }
}

fn counted(word: &std::sync::atomic::AtomicU64, storm: u64) -> u64 {
    let word = word.load(Ordering::Acquire);
    if word >> 16 == storm { word & 0xffff } else { 0 }
}

/// Notes a load of a storm's key.
pub(crate) fn loads(ledger: &Ledger, key: usize) {
    count(ledger.row(key).storm()[1], now() / PERIOD_NS);
}

async fn until(at: u64) {
    sleep(Duration::from_nanos(at.saturating_sub(now()))).await;
}

/// Takes part in every storm until the traffic ends.
pub(crate) async fn storms(handle: Arc<Handle>) {
    let mut rng = Rng::with_seed(handle.args.seed ^ handle.index as u64);
    while !handle.rests() {
        let storm = Storm::next(handle.args.seed);
        until(storm.begins).await;
        let quiet = handle.ledger.quiet();
        let fleet = handle.args.fleet as u64;
        if storm.kind == Kind::Loads && storm.number % fleet == handle.index as u64 {
            clear(&handle, storm.key).await;
        }
        until(storm.begins + BREAKS_NS).await;
        if breaks_out(&handle, storm, &mut rng).await {
            count(handle.ledger.row(storm.key).storm()[0], storm.number);
        }
        until(storm.begins + OVER_NS).await;
        if handle.index < handle.args.fleet && !handle.leaves() && quiet.is_some() {
            look_after(&handle, storm, quiet).await;
        }
    }
}

async fn clear(handle: &Handle, key: usize) {
    handle.touch(key);
    let version = handle.ledger.row(key).committed().fetch_add(1, Ordering::SeqCst) + 1;
    handle.ledger.note(key, handle.index, What::Commits, version);
    let id = key as u64;
    let outcome = in_time(handle, key, "invalidate", async { handle.lives.invalidate(&id).await }).await;
    handle.touch(key);
    match outcome {
        Some(Ok(_)) => {
            handle.ledger.row(key).returned(version, now(), 0);
            handle.ledger.note(key, handle.index, What::Returns, version);
        }
        Some(Err(error)) => count_error(handle, &error),
        None => {}
    }
}

/// Makes the calls. Returns whether every call was answered.
async fn breaks_out(handle: &Arc<Handle>, storm: Storm, rng: &mut Rng) -> bool {
    let Storm { key, kind, .. } = storm;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CALLS {
        let takes = Duration::from_millis(rng.u64(5..30));
        let load = Load::draw(handle, key, life_of(key), rng).takes(takes);
        let handle = Arc::clone(handle);
        tasks.spawn(async move {
            let (cache, id, started) = (&handle.lives, key as u64, now());
            let request = async {
                match kind {
                    Kind::Reloads => cache.refresh(&id, move || load.anyhow().run()).await,
                    Kind::Loads => cache.get_or_load(&id, move || load.run()).await,
                }
            };
            match in_time(&handle, key, "a call of a storm", request).await {
                Some(Ok(value)) => {
                    handle.ledger.add(handle.index, Count::Reads, 1);
                    by_itself(&handle, Answer { key, started, value: &value, allowed: Allowed::Fresh });
                    true
                }
                Some(Err(error)) => {
                    count_error(&handle, &error);
                    false
                }
                None => false,
            }
        });
    }
    tasks.join_all().await.into_iter().all(|answered| answered)
}

/// Checks that the value of a storm is stored, and was loaded as often as promised. The check needs a storm
/// without faults in which every call of every node was answered.
async fn look_after(handle: &Handle, storm: Storm, quiet: Option<u64>) {
    let Storm { key, kind, number, begins } = storm;
    let (ledger, fleet) = (handle.ledger, handle.args.fleet as u64);
    let [answered, loaded] = ledger.row(key).storm();
    let excused = || {
        let global = |global| ledger.global(global).load(Ordering::Acquire);
        ledger.quiet() != quiet
            || global(Global::QuietSince) >= begins
            || global(Global::StalledAt) >= begins
            || counted(answered, number) < fleet
    };
    let look = async { handle.lives.get(&(key as u64)).await };
    let Some(found) = in_time(handle, key, "a look after a storm", look).await else { return };
    let loads = counted(loaded, number);
    let wrong = match (found, kind) {
        (Err(error), _) => return count_error(handle, &error),
        (Ok(None), _) => {
            format!("{CALLS} calls of each node have loaded key {key} {loads} times, and nothing is there")
        }
        (Ok(Some(_)), Kind::Loads) if loads > 1 => {
            format!("{CALLS} calls of each node have loaded key {key} {loads} times, after one invalidation")
        }
        (Ok(Some(_)), _) => return ledger.add(handle.index, Count::Storms, 1),
    };
    // A pause of the machine is noted when it is over.
    until(begins + PERIOD_NS - PERIOD_NS / 10).await;
    match excused() {
        true => ledger.add(handle.index, Count::UnjudgedLoads, 1),
        false => ledger.accuse(Promise::Storms, Some(key), format!("handle {}: {wrong}", handle.index)),
    }
}
