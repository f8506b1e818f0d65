//! What is left when the traffic has ended and everything has expired.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::ledger::{Count, Global};
use crate::promise::Promise;
use crate::rig::Rig;

/// The longest life of a value, plus the same time for the slowest call.
const PATIENCE: Duration = Duration::from_secs(40);
/// The patience for a run with a mutant.
const MUTANT_PATIENCE: Duration = Duration::from_secs(10);
/// The number of control keys of a partition. They never expire.
const CONTROL_KEYS: u64 = 3;
/// The limit on the tasks of a process at rest, from its caches and from the checker, for each master. A leak of one
/// task per call shows as hundreds.
const TASKS: u64 = 72;
/// The limit on the memory of a process with at most two megabytes of values.
const RSS_BYTES: u64 = 400 << 20;

/// What is left.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Rest {
    /// Keys in Redis without an expiry, including control keys.
    pub lasting_redis_keys: u64,
    /// Loads and reads under way in the fleet.
    pub in_flight: u64,
    /// Handles with a flight, a waiter or a pending change.
    pub busy_handles: u64,
    /// The highest number of tasks of a process.
    pub most_tasks: u64,
    pub most_rss_mib: u64,
    /// Entries that L1 counts; they may have expired.
    pub l1_entries: u64,
    pub took_ms: u64,
    #[serde(skip)]
    control_keys: u64,
    #[serde(skip)]
    tasks: u64,
}

/// Ends the traffic, waits until nothing is left, and returns what is.
pub(crate) async fn comes(rig: &Rig) -> Rest {
    rig.ledger.global(Global::Resting).store(1, Ordering::SeqCst);
    let (begun, patience) = (Instant::now(), if rig.is_mutant() { MUTANT_PATIENCE } else { PATIENCE });
    let mut rest = Rest::default();
    // The ends of the last calls get a second to be noted.
    sleep(Duration::from_secs(1)).await;
    while begun.elapsed() < patience {
        rest = Rest { took_ms: begun.elapsed().as_millis() as u64, ..look(rig) };
        if rest.left().is_none() {
            return rest;
        }
        sleep(Duration::from_millis(100)).await;
    }
    if let Some(what) = rest.left() {
        rig.ledger.accuse(Promise::Growth, None, format!("{patience:?} after the traffic ended, {what}"));
    }
    rest
}

fn look(rig: &Rig) -> Rest {
    let read = |handle, count| rig.ledger.count(handle, count).load(Ordering::Acquire);
    let sum = |count| rig.handles().map(|handle| read(handle, count)).sum::<u64>();
    let most = |count| rig.handles().map(|handle| read(handle, count)).max().unwrap_or(0);
    Rest {
        lasting_redis_keys: lasting(rig).unwrap_or(u64::MAX),
        in_flight: sum(Count::InFlight),
        busy_handles: (rig.handles().count() as u64).saturating_sub(sum(Count::Rested)),
        most_tasks: most(Count::Tasks),
        most_rss_mib: most(Count::RssBytes) >> 20,
        l1_entries: sum(Count::Entries),
        took_ms: 0,
        control_keys: rig.partitions() * CONTROL_KEYS,
        tasks: rig.deployment.masters().len() as u64 * TASKS,
    }
}

/// The number of keys without an expiry on all masters.
fn lasting(rig: &Rig) -> Option<u64> {
    let count = |master: usize| {
        let mut connection = rig.server(master).connection().ok()?;
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection).ok()?;
        let mut lives = redis::Pipeline::new();
        for key in &keys {
            lives.cmd("PTTL").arg(key);
        }
        let lives: Vec<i64> = if keys.is_empty() { Vec::new() } else { lives.query(&mut connection).ok()? };
        Some(lives.into_iter().filter(|life| *life == -1).count() as u64)
    };
    let masters = rig.deployment.masters();
    tokio::task::block_in_place(|| masters.into_iter().map(count).sum())
}

impl Rest {
    /// Describes what should not be left.
    fn left(&self) -> Option<String> {
        let Self {
            lasting_redis_keys,
            in_flight,
            busy_handles,
            most_tasks,
            most_rss_mib,
            control_keys,
            tasks,
            ..
        } = *self;
        let wrong = lasting_redis_keys > control_keys
            || in_flight > 0
            || busy_handles > 0
            || most_tasks > tasks
            || most_rss_mib > RSS_BYTES >> 20;
        wrong.then(|| format!("there is left: {self:?}"))
    }
}
