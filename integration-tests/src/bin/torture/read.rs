//! The reads of a node.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_cache::{Error, ErrorKind};
use fastrand::Rng;
use tokio::time::{Instant, sleep, timeout};

use crate::judge::{Allowed, Answer, by_itself};
use crate::ledger::{Count, Global, KEYS, now};
use crate::load::{Load, SETTLED};
use crate::node::{Handle, LIFE, NAMESPACE, WAKE_NS};
use crate::promise::Promise;
use crate::row::{Answered, Claim, Verdict};
use crate::value::Value;

/// Half of the reads use this many keys.
const HOT: usize = 16;
/// A call that takes longer hangs, because every wait in it has a shorter limit.
const HUNG: Duration = Duration::from_secs(20);
/// A fault that ended this long ago has no effect any more.
const CALM_NS: u64 = 1_500_000_000;
/// The time between two bursts of reads, and the maximum number of reads in one burst.
const TICK: Duration = Duration::from_millis(2);
const BURST: u64 = 512;

/// The counts of one task. They are added to the ledger after each burst.
#[derive(Debug, Default)]
struct Tally {
    reads: u64,
    at_risk: u64,
    stamped: u64,
}

/// The method of a read.
#[derive(Debug, Clone, Copy)]
enum Verb {
    GetOrLoad,
    Get,
    AtLeast,
    Refresh,
    GetMany,
}

fn draw_verb(rng: &mut Rng) -> Verb {
    match rng.u32(..10_000) {
        0..400 => Verb::AtLeast,
        400..900 => Verb::Get,
        900..910 => Verb::GetMany,
        910..912 => Verb::Refresh,
        _ => Verb::GetOrLoad,
    }
}

pub(crate) fn draw_key(rng: &mut Rng) -> usize {
    if rng.bool() { rng.usize(..HOT) } else { rng.usize(..KEYS) }
}

/// Reads at a rate. Reads that a pause of the process or a slow load has delayed are made up for, but for at
/// most two seconds.
pub(crate) async fn reads(handle: Arc<Handle>, seed: u64, per_s: f64) {
    let mut rng = Rng::with_seed(seed);
    let begun = Instant::now();
    let mut done = 0;
    while !handle.rests() {
        let due = (begun.elapsed().as_secs_f64() * per_s) as u64;
        done = done.max(due.saturating_sub((2.0 * per_s) as u64));
        let mut tally = Tally::default();
        for _ in 0..(due - done.min(due)).min(BURST) {
            done += 1;
            one(&handle, &mut rng, &mut tally).await;
        }
        handle.ledger.add(handle.index, Count::Reads, tally.reads);
        handle.ledger.add(handle.index, Count::AtRisk, tally.at_risk);
        handle.ledger.add(handle.index, Count::Stamped, tally.stamped);
        if due.saturating_sub(done) < BURST {
            sleep(TICK).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

async fn one(handle: &Handle, rng: &mut Rng, tally: &mut Tally) {
    let key = draw_key(rng);
    let id = key as u64;
    let cache = &handle.cache;
    let (mut owed, mut owed_by) = (handle.own[key].load(Ordering::Acquire), Claim::SameNode);
    let draw = |rng: &mut Rng| Load::draw(handle, key, LIFE, rng);
    match draw_verb(rng) {
        Verb::GetOrLoad => {
            let load = draw(rng);
            let call = Call::begin(handle, key, (owed, owed_by));
            let request = async { cache.get_or_load(&id, move || load.run()).await.map(Some) };
            call.end(tally, in_time(handle, key, "get_or_load", request).await);
        }
        Verb::Get => {
            let call = Call::begin(handle, key, (owed, owed_by));
            call.end(tally, in_time(handle, key, "get", async { cache.get(&id).await }).await);
        }
        Verb::AtLeast => {
            let Some((version, seq)) = handle.ledger.row(key).newest_stamp() else { return };
            if version >= owed {
                (owed, owed_by) = (version, Claim::Stamp);
            }
            let (stamp, load) = (handle.stamp_at(NAMESPACE, key, seq), draw(rng));
            tally.stamped += 1;
            let call = Call::begin(handle, key, (owed, owed_by));
            let request =
                async { cache.get_or_load(&id, move || load.run()).at_least(&stamp).await.map(Some) };
            call.end(tally, in_time(handle, key, "get_or_load.at_least", request).await);
        }
        Verb::Refresh => {
            owed = handle.ledger.row(key).committed().load(Ordering::SeqCst);
            let load = draw(rng).anyhow();
            let call = Call::begin(handle, key, (owed, Claim::Refresh));
            let request = async { cache.refresh(&id, move || load.run()).await.map(Some) };
            call.end(tally, in_time(handle, key, "refresh", request).await);
        }
        Verb::GetMany => many(handle, rng, tally).await,
    }
}

/// Waits for a call, for as long as it may take. Returns `None` if it does not end.
pub(crate) async fn in_time<T>(
    handle: &Handle,
    key: usize,
    verb: &str,
    call: impl Future<Output = T>,
) -> Option<T> {
    let outcome = timeout(HUNG, call).await.ok();
    // A call that begins while the process is leaving may not end.
    if outcome.is_none() && !handle.leaves() {
        let what = format!("handle {}: {verb} of key {key} has not ended within {HUNG:?}", handle.index);
        handle.ledger.accuse(Promise::Liveness, Some(key), what);
    }
    outcome
}

async fn many(handle: &Handle, rng: &mut Rng, tally: &mut Tally) {
    let keys: Vec<u64> = (0..8).map(|_| draw_key(rng) as u64).collect();
    let calls: Vec<Call<'_>> = keys
        .iter()
        .map(|key| {
            let key = *key as usize;
            Call::begin(handle, key, (handle.own[key].load(Ordering::Acquire), Claim::SameNode))
        })
        .collect();
    let request = async { handle.cache.get_many(&keys).await };
    match in_time(handle, keys[0] as usize, "get_many", request).await {
        Some(Ok(answers)) => {
            for (call, answer) in calls.into_iter().zip(answers) {
                call.end(tally, Some(Ok(answer)));
            }
        }
        Some(Err(error)) => count_error(handle, &error),
        None => {}
    }
}

pub(crate) fn count_error(handle: &Handle, error: &Error) {
    let count = match error.kind() {
        ErrorKind::Backend => {
            look_for_a_reason(handle, error);
            Count::ErrorBackend
        }
        ErrorKind::Timeout => Count::ErrorTimeout,
        ErrorKind::Loader => Count::ErrorLoader,
        ErrorKind::Config if handle.args.guest.is_some() => Count::Refused,
        // The calls of a handle go on while it leaves.
        ErrorKind::Shutdown if handle.leaves() => return,
        _ => {
            eprintln!("torture: unexpected: {error:?}");
            Count::ErrorOther
        }
    };
    handle.ledger.add(handle.index, count, 1);
}

/// Judges an error of L2. Without faults and pauses, L2 must answer.
fn look_for_a_reason(handle: &Handle, error: &Error) {
    let (ledger, at, quiet) = (handle.ledger, now(), handle.ledger.quiet());
    let disturbed = move || {
        let since = |global| ledger.global(global).load(Ordering::Acquire).saturating_add(CALM_NS);
        quiet.is_none()
            || ledger.quiet() != quiet
            || since(Global::QuietSince) >= at
            || since(Global::StalledAt) >= at
    };
    if disturbed() || handle.args.guest.is_some() || handle.leaves() {
        return;
    }
    let what = format!("handle {}: {error}", handle.index);
    tokio::spawn(async move {
        // A pause of the machine is noted when it is over.
        sleep(SETTLED).await;
        if !disturbed() {
            ledger.accuse(Promise::Calm, None, what);
        }
    });
}

/// A read under way.
struct Call<'a> {
    handle: &'a Handle,
    key: usize,
    owed: u64,
    owed_by: Claim,
    started: u64,
    quiet: Option<u64>,
}

impl<'a> Call<'a> {
    /// The owed version has been read before, and the clock is read last.
    fn begin(handle: &'a Handle, key: usize, (owed, owed_by): (u64, Claim)) -> Self {
        let quiet = handle.ledger.quiet();
        Self { handle, key, owed, owed_by, started: now(), quiet }
    }

    fn end(self, tally: &mut Tally, outcome: Option<Result<Option<Arc<Value>>, Error>>) {
        let Self { handle, key, started, .. } = self;
        let value = match outcome {
            None => return,
            Some(Err(error)) => return count_error(handle, &error),
            Some(Ok(value)) => value,
        };
        tally.reads += 1;
        // A lookup without a loader may find no value. That says nothing about versions.
        let Some(value) = value else { return };
        tally.at_risk += u64::from(handle.ledger.row(key).at_risk(started, 10 * handle.bound_ns));
        self.look_for_late_wake();
        by_itself(handle, Answer { key, started, value: &value, allowed: Allowed::Fresh });
        handle.by_version(key, started, value.version, (self.owed, self.owed_by));
    }

    /// Looks for a wait that continued long after the end of its load, without faults and pauses.
    fn look_for_late_wake(&self) {
        let Self { handle, key, started, quiet, .. } = *self;
        let (ledger, index, ended) = (handle.ledger, handle.index, now());
        if ended - started < WAKE_NS || quiet.is_none() || quiet != ledger.quiet() {
            return;
        }
        let row = ledger.row(key);
        let (filled, by) = (row.filled_at().load(Ordering::Acquire), row.filled_by().load(Ordering::Acquire));
        if filled <= started || ended.saturating_sub(filled) <= WAKE_NS {
            return;
        }
        if ledger.loads_of(key) > 0 {
            // The call may have waited for that load.
            return ledger.add(index, Count::UnjudgedWaits, 1);
        }
        tokio::spawn(async move {
            // A pause of the machine is noted when it is over.
            sleep(SETTLED).await;
            if ledger.global(Global::StalledAt).load(Ordering::Relaxed) >= started {
                return ledger.add(index, Count::UnjudgedWaits, 1);
            }
            let ms = |ns| ns / 1_000_000;
            let (took, late) = (ms(ended - started), ms(ended - filled));
            eprintln!(
                "torture: handle {index}, key {key}: {took} ms, {late} ms after a load on handle {by}, at {ended}"
            );
            ledger.add(index, Count::LateWakes, 1);
        });
    }
}

impl Handle {
    /// Whether the node had no sign of the owed version. The server has gone back to older data in the same
    /// process, and only stamps and a heartbeat can show that. See `docs/staleness.md`, "Not promised".
    pub(crate) fn is_deceived(&self, started: u64, claim: Claim) -> bool {
        let global = |global| self.ledger.global(global).load(Ordering::SeqCst);
        let plain = matches!(claim, Claim::Bound | Claim::SameNode);
        plain && (global(Global::DeceivesSince)..global(Global::DeceivesUntil)).contains(&started)
    }

    /// Judges the version of an answer.
    pub(crate) fn by_version(&self, key: usize, started: u64, version: u64, (owed, owed_by): (u64, Claim)) {
        let (ledger, index) = (self.ledger, self.index);
        let read = Answered { version, started, bound_ns: self.bound_ns, owed, owed_by };
        match ledger.row(key).judge(&read) {
            Verdict::Current => {}
            Verdict::Unjudged => ledger.add(index, Count::Unjudged, 1),
            Verdict::Old(age_ns) => {
                ledger.add(index, Count::Old, 1);
                ledger.note_age(age_ns);
            }
            // The server has gone back to older data, and no plain read can notice that.
            Verdict::Stale { claim, .. } if self.is_deceived(started, claim) => {
                ledger.add(index, Count::Unjudged, 1);
            }
            Verdict::Stale { owed, claim, age_ns } => {
                ledger.note_age(age_ns);
                let what = format!(
                    "handle {index} read version {version} of key {key} where {owed} was owed ({}), whose \
                     successor's invalidation had returned {:.3} ms before",
                    claim.reason(),
                    age_ns as f64 / 1e6,
                );
                ledger.accuse(Promise::Staleness, Some(key), what);
            }
        }
    }
}
