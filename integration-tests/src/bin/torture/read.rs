//! The reads of a node.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_cache::testing::No;
use async_cache::{Error, ErrorKind, Loaded, Stamp};
use fastrand::Rng;
use tokio::time::{Instant, sleep, timeout};

use crate::ledger::{Count, Detail, Global, KEYS, Ledger, now};
use crate::node::{Handle, NAMESPACE, WAKE_NS};
use crate::row::{Answered, Claim, Verdict};
use crate::write::tag_of;

/// Half of the reads go to so many keys.
const HOT: usize = 16;
/// A call that takes longer hangs: every wait in it has a shorter limit.
const HUNG: Duration = Duration::from_secs(20);
/// Time between two bursts of reads, and most reads in one.
const TICK: Duration = Duration::from_millis(2);
const BURST: u64 = 512;

/// Within this time a pause of a process or of the way to the server has been noted.
const SETTLED: Duration = Duration::from_millis(500);

/// Counts of one task, added to the ledger after each burst.
#[derive(Debug, Default)]
struct Tally {
    reads: u64,
    at_risk: u64,
    stamped: u64,
}

/// How a key is read.
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

/// Reads at a rate, for ever. What a stop of the process or a slow load held up is made up for,
/// two seconds' worth at most.
pub(crate) async fn reads(handle: Arc<Handle>, seed: u64, per_s: f64) {
    let mut rng = Rng::with_seed(seed);
    let begun = Instant::now();
    let mut done = 0;
    loop {
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
    match draw_verb(rng) {
        Verb::GetOrLoad => {
            let load = Load::draw(handle, key, rng);
            let call = Call::begin(handle, key, (owed, owed_by));
            let outcome = timeout(HUNG, cache.get_or_load(&id, move || load.run())).await;
            call.end(tally, outcome.map(|answer| answer.map(|version| Some(*version))));
        }
        Verb::Get => {
            let call = Call::begin(handle, key, (owed, owed_by));
            let outcome = timeout(HUNG, cache.get(&id)).await;
            call.end(tally, outcome.map(|answer| answer.map(|version| version.map(|version| *version))));
        }
        Verb::AtLeast => {
            let Some((version, seq)) = handle.ledger.row(key).newest_stamp() else { return };
            if version >= owed {
                (owed, owed_by) = (version, Claim::Stamp);
            }
            let stamp = stamp_at(seq);
            let load = Load::draw(handle, key, rng);
            tally.stamped += 1;
            let call = Call::begin(handle, key, (owed, owed_by));
            let outcome = timeout(HUNG, cache.get_or_load(&id, move || load.run()).at_least(&stamp)).await;
            call.end(tally, outcome.map(|answer| answer.map(|version| Some(*version))));
        }
        Verb::Refresh => {
            owed = handle.ledger.row(key).committed().load(Ordering::SeqCst);
            let load = Load::draw(handle, key, rng);
            let call = Call::begin(handle, key, (owed, Claim::Refresh));
            let outcome = timeout(HUNG, cache.refresh(&id, move || load.run())).await;
            call.end(tally, outcome.map(|answer| answer.map(|version| Some(*version))));
        }
        Verb::GetMany => many(handle, rng, tally).await,
    }
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
    match timeout(HUNG, async { handle.cache.get_many(&keys).await }).await {
        Ok(Ok(answers)) => {
            for (call, answer) in calls.into_iter().zip(answers) {
                call.end(tally, Ok(Ok(answer.map(|version| *version))));
            }
        }
        Ok(Err(error)) => count_error(handle, &error),
        Err(_) => handle.ledger.add(handle.index, Count::Hung, 1),
    }
}

/// The point in the namespace's history with this number.
fn stamp_at(seq: u64) -> Stamp {
    format!("{NAMESPACE}@0:{seq}").parse().expect("a stamp")
}

pub(crate) fn count_error(handle: &Handle, error: &Error) {
    let count = match error.kind() {
        ErrorKind::Backend => Count::ErrorBackend,
        ErrorKind::Timeout => Count::ErrorTimeout,
        ErrorKind::Loader => Count::ErrorLoader,
        _ => {
            eprintln!("torture: unexpected: {error:?}");
            Count::ErrorOther
        }
    };
    handle.ledger.add(handle.index, count, 1);
}

/// A query of the database: it reads the version, and takes its time to bring it back, so that the
/// answer is often old when it arrives.
struct Load {
    ledger: &'static Ledger,
    handle: usize,
    key: usize,
    takes: Duration,
    fails: bool,
}

impl Load {
    fn draw(handle: &Handle, key: usize, rng: &mut Rng) -> Self {
        let takes = match rng.u32(..1000) {
            0..2 => Duration::from_millis(rng.u64(1000..2500)),
            2..20 => Duration::from_millis(rng.u64(20..150)),
            20..500 => Duration::from_millis(rng.u64(1..5)),
            _ => Duration::ZERO,
        };
        Self { ledger: handle.ledger, handle: handle.index, key, takes, fails: rng.u32(..500) == 0 }
    }

    async fn run(self) -> Result<Loaded<u64>, No> {
        self.ledger.add(self.handle, Count::Loads, 1);
        let _running = Running::begin(&self);
        let row = self.ledger.row(self.key);
        let version = row.committed().load(Ordering::SeqCst);
        if !self.takes.is_zero() {
            sleep(self.takes).await;
        }
        if self.fails {
            return Err(No(0));
        }
        Ok(Loaded::new(version).tag(tag_of(self.key)))
    }
}

/// A load under way, until it ends in whatever way.
struct Running {
    ledger: &'static Ledger,
    handle: usize,
    key: usize,
}

impl Running {
    fn begin(load: &Load) -> Self {
        let Load { ledger, handle, key, .. } = *load;
        ledger.loading(handle, key).fetch_add(1, Ordering::AcqRel);
        Self { ledger, handle, key }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let row = self.ledger.row(self.key);
        row.filled_by().store(self.handle as u64, Ordering::Release);
        row.filled_at().fetch_max(now(), Ordering::AcqRel);
        self.ledger.loading(self.handle, self.key).fetch_sub(1, Ordering::AcqRel);
    }
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
    /// What is owed has been read before; the clock is read last.
    fn begin(handle: &'a Handle, key: usize, (owed, owed_by): (u64, Claim)) -> Self {
        let quiet = handle.ledger.quiet();
        Self { handle, key, owed, owed_by, started: now(), quiet }
    }

    fn end(
        self,
        tally: &mut Tally,
        outcome: Result<Result<Option<u64>, Error>, tokio::time::error::Elapsed>,
    ) {
        let Self { handle, key, .. } = self;
        let version = match outcome {
            Err(_) => return handle.ledger.add(handle.index, Count::Hung, 1),
            Ok(Err(error)) => return count_error(handle, &error),
            Ok(Ok(version)) => version,
        };
        tally.reads += 1;
        // That a key is in no tier says nothing of any version.
        let Some(version) = version else { return };
        let row = handle.ledger.row(key);
        tally.at_risk += u64::from(row.at_risk(self.started, 10 * handle.bound_ns));
        self.look_for_late_wake();
        let (owed, owed_by) = (self.owed, self.owed_by);
        let read = Answered { version, started: self.started, bound_ns: handle.bound_ns, owed, owed_by };
        match row.judge(&read) {
            Verdict::Current => {}
            Verdict::Unjudged => handle.ledger.add(handle.index, Count::Unjudged, 1),
            Verdict::Old(age_ns) => {
                handle.ledger.add(handle.index, Count::Old, 1);
                handle.ledger.note_age(age_ns);
            }
            Verdict::Stale { owed, claim, age_ns } => {
                handle.ledger.add(handle.index, Count::Stale, 1);
                handle.ledger.note_age(age_ns);
                handle.ledger.accuse(Detail {
                    key: key as u64,
                    got: version,
                    owed,
                    handle: handle.index as u64,
                    claim: claim as u64,
                    started: self.started,
                    age_ns,
                });
            }
        }
    }

    /// A wait that went on long after the load it was for had ended, though nothing was done to the
    /// system, and everything ran.
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
        if ledger.is_loading(key) {
            // It may have waited for that one.
            return ledger.add(index, Count::UnjudgedWaits, 1);
        }
        tokio::spawn(async move {
            // What keeps everything from running is noted when it is over.
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
