//! Calls that are drawn from every public method and every option, on their own keys.
//!
//! The draws are those of the simulation (`integration_tests::surface`). So a new method or option is in this
//! checker at once. Each process draws the defaults of its cache, so that the values of one key are stored with
//! many options. Each value contains the options with which it is stored.

mod facts;
mod judge;
mod source;
pub(crate) mod storm;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_cache::{Error, ErrorKind, TieredCache};
use fastrand::Rng;
use integration_tests::surface::{Call, Kind, Options, Outcome, Range, Tiers, Verb, Written, perform};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{sleep, timeout};

pub(crate) use facts::{FACT_WORDS, Facts};
use judge::Asked;
use source::Database;
pub(crate) use source::Planned;

use crate::ledger::{Count, DRAWN, DRAWN_AT, MARKS, MARKS_AT, now};
use crate::node::{DRAWN_NAMESPACE, Handle};
use crate::promise::{Promise, What};
use crate::read::{count_error, in_time};
use crate::write::Seqs;

/// A cache of drawn values.
pub(crate) type Drawn = TieredCache<u64, Written>;

/// The mean pause between two calls of a task, and between two changes, if a handle makes `READS_PER_S` other
/// reads per second. With fewer reads the pauses are longer in proportion.
const PAUSE_S: f64 = 0.006;
const CHANGES_S: f64 = 0.05;
const READS_PER_S: f64 = 12_000.0;
/// One of this many keys is inserted into, by one handle. All handles invalidate the other keys.
const INSERTED: u64 = 4;
/// After this time a change whose caller was cancelled has ended or is being retried. It takes a few commands
/// of at most 0.5 s each.
const LONGEST_CHANGE: Duration = Duration::from_secs(3);
/// After this time a lookup whose caller was cancelled has ended. It waits for at most 3 s and loads for at
/// most 2 s.
const LONGEST_CALL_NS: u64 = 6_000_000_000;

/// The state of a handle for this traffic.
#[derive(Debug)]
pub(crate) struct Desk {
    pub cache: Drawn,
    /// The defaults of its cache.
    pub defaults: Options,
    inserting: Arc<tokio::sync::Mutex<()>>,
    calls: AtomicU64,
}

impl Desk {
    pub(crate) fn new(cache: Drawn, defaults: Options) -> Self {
        Self { cache, defaults, inserting: Arc::default(), calls: AtomicU64::new(0) }
    }

    fn draw(&self, rng: &mut Rng, wanted: impl Fn(Verb) -> bool) -> Call {
        let range = Range { keys: DRAWN as u64, tiers: Tiers::Both, own_options: 40 };
        let id = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut call = Call::draw(id, range, &self.defaults, rng, wanted);
        // All callers ask for a few common keys.
        if rng.bool() {
            call.keys.iter_mut().for_each(|key| *key %= 8);
        }
        call
    }
}

/// The place of a drawn key in the ledger.
pub(crate) fn place(key: u64) -> usize {
    DRAWN_AT + (key as usize) % DRAWN
}

fn asks(verb: Verb) -> bool {
    matches!(verb.kind(), Kind::Looks | Kind::Loads | Kind::Reloads)
}

async fn pause(handle: &Handle, rng: &mut Rng, mean_s: f64) {
    let longer = (READS_PER_S / f64::from(handle.args.reads_per_s)).clamp(1.0, 4.0);
    sleep(Duration::from_secs_f64(-(1.0 - rng.f64()).ln() * mean_s * longer)).await;
}

/// Makes calls until the traffic ends.
pub(crate) async fn calls(handle: Arc<Handle>, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    while !handle.rests() {
        pause(&handle, &mut rng, PAUSE_S).await;
        let call = handle.desk.draw(&mut rng, asks);
        match rng.u8(..20) {
            // A caller that is cancelled.
            0 => drop(timeout(Duration::from_millis(rng.u64(..20)), ask(&handle, call)).await),
            1 => crowd(&handle, call, &mut rng).await,
            _ => ask(&handle, call).await,
        }
    }
}

/// Makes many calls of one key at once, with one method or several.
async fn crowd(handle: &Arc<Handle>, first: Call, rng: &mut Rng) {
    let (key, only) = (first.keys[0], rng.bool().then_some(first.verb));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..rng.usize(2..8) {
        let mut call = handle.desk.draw(rng, |verb| only.map_or(asks(verb), |only| verb == only));
        call.keys[0] = key;
        let handle = Arc::clone(handle);
        tasks.spawn(async move { ask(&handle, call).await });
    }
    while tasks.join_next().await.is_some() {}
}

/// Makes a call, and judges its outcome.
async fn ask(handle: &Handle, call: Call) {
    let stamp = handle.ledger.row(place(call.keys[0])).newest_stamp().filter(|_| call.insists);
    let insisted = stamp.map(|(_, seq)| handle.stamp_at(DRAWN_NAMESPACE, place(call.keys[0]), seq));
    let asked = Asked::begin(handle, &call, stamp.map(|(version, _)| version));
    let source = Database::of(handle, asked.started);
    let made = perform(&handle.desk.cache, &source, &call, insisted.as_ref());
    let mut ahead = Ahead::of(handle, &call);
    let outcome = in_time(handle, place(call.keys[0]), call.verb.method().1, made).await;
    ahead.lasts_ns = 0;
    drop(ahead);
    let Some(outcome) = outcome else { return };
    match outcome {
        Outcome::Traced(key, Ok(found)) => {
            asked.judge_trace(key, &found);
            asked.judge(key, found.value.as_deref());
        }
        Outcome::Traced(_, Err(error)) => failed(handle, &call, &error),
        Outcome::Answers(answers) => {
            for (key, answer) in answers {
                match answer {
                    Ok(answer) => asked.judge(key, answer.as_deref()),
                    Err(error) => failed(handle, &call, &error),
                }
            }
        }
        Outcome::Warmed(counts, errors) => {
            let (all, of) = (counts.iter().sum::<usize>() + errors.len(), call.distinct().len());
            // A shutdown may end the warming early.
            if all != of && !handle.leaves() {
                let what = format!(
                    "handle {}: warming {of} keys came to {counts:?} and {} errors",
                    handle.index,
                    errors.len()
                );
                handle.ledger.accuse(Promise::Values, Some(place(call.keys[0])), what);
            }
            errors.iter().for_each(|(_, error)| failed(handle, &call, error));
        }
        Outcome::Contains(Err(error)) | Outcome::Changed(Err(error)) | Outcome::Updated(Err(error)) => {
            failed(handle, &call, &error);
        }
        Outcome::Contains(Ok(_)) | Outcome::Changed(Ok(_)) | Outcome::Updated(Ok(())) => {}
    }
}

/// A call with `refresh_ahead`. In this process any value that it finds or loads may be loaded again at any
/// time.
struct Ahead<'a> {
    handle: &'a Handle,
    keys: Vec<u64>,
    /// How long it may run without its caller.
    lasts_ns: u64,
}

impl<'a> Ahead<'a> {
    fn of(handle: &'a Handle, call: &Call) -> Self {
        let is = call.effective.refresh_ahead.is_some();
        let ahead =
            Self { handle, keys: if is { call.distinct() } else { Vec::new() }, lasts_ns: LONGEST_CALL_NS };
        ahead.note(0);
        ahead
    }

    fn note(&self, lasts_ns: u64) {
        let Self { handle, keys, .. } = self;
        let until = now() + lasts_ns;
        for key in keys {
            handle.ledger.ahead(handle.index, place(*key)).fetch_max(until, Ordering::AcqRel);
        }
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        self.note(self.lasts_ns);
    }
}

fn failed(handle: &Handle, call: &Call, error: &Error) {
    match error.kind() {
        ErrorKind::LoaderPanicked => handle.ledger.add(handle.index, Count::ErrorLoader, 1),
        ErrorKind::Overloaded if call.verb.is_loaders() && call.gathering.max_pending.is_some() => {}
        _ => count_error(handle, error),
    }
}

/// Makes changes until the traffic ends.
pub(crate) async fn changes(handle: Arc<Handle>, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    while !handle.rests() {
        pause(&handle, &mut rng, CHANGES_S).await;
        // Changes that void everything are drawn less often.
        let rare = rng.u8(..12) > 0;
        let call = handle.desk.draw(&mut rng, |verb| match verb.kind() {
            Kind::Stores => !handle.newborn(),
            Kind::Forgets | Kind::Expires => !(rare && is_wide(verb)),
            _ => false,
        });
        let goes_away = rng.u8(..25) == 0;
        let patience = goes_away.then(|| Duration::from_millis(rng.u64(..5)));
        change(&handle, call, (patience, rng.usize(..))).await;
    }
}

fn is_wide(verb: Verb) -> bool {
    matches!(verb, Verb::InvalidateAll | Verb::LoaderClearAll) || verb.is_about_tags()
}

/// The rows of the ledger that a change concerns.
fn scope(call: &Call) -> Vec<usize> {
    match call.verb {
        Verb::InvalidateAll | Verb::LoaderClearAll => vec![MARKS_AT],
        Verb::InvalidateTag | Verb::ExpireTag => {
            call.effective.tags.first().map(|tag| source::place_of(tag)).into_iter().collect()
        }
        Verb::InvalidateTags | Verb::ExpireTags => {
            call.effective.tags.iter().map(|tag| source::place_of(tag)).collect()
        }
        _ if call.verb.takes_many() => call.distinct().into_iter().map(place).collect(),
        _ => vec![place(call.keys[0])],
    }
}

/// Replaces the keys of a change by keys that only this handle inserts into, or that no handle inserts into.
fn keep_apart(handle: &Handle, call: &mut Call) {
    let (fleet, index) = (handle.args.fleet as u64, handle.index as u64);
    let groups = DRAWN as u64 / INSERTED;
    for key in &mut call.keys {
        *key = match call.verb.kind() {
            Kind::Stores => (*key / INSERTED / fleet * fleet + index) % groups * INSERTED,
            _ if *key % INSERTED == 0 => *key + 1,
            _ => *key,
        };
    }
    if call.verb.kind() == Kind::Stores {
        // The last group may belong to another handle.
        call.keys.retain(|key| key / INSERTED % fleet == index);
    }
}

/// Commits a version, then makes the change. `turn` selects the tags.
async fn change(handle: &Arc<Handle>, mut call: Call, (patience, turn): (Option<Duration>, usize)) {
    if call.verb.is_about_tags() {
        call.effective.tags = source::some_tags(turn);
    }
    keep_apart(handle, &mut call);
    let (false, true) = (call.keys.is_empty(), handle.index < handle.args.fleet) else { return };
    let stores = call.verb.kind() == Kind::Stores;
    // If two inserts of one key race, the server decides their order, not the database. So they take turns.
    let alone = if stores { Some(Arc::clone(&handle.desk.inserting).lock_owned().await) } else { None };
    let rows = scope(&call);
    touch(handle, &rows);
    // An expired value remains a fallback, so after an expiry no read owes a version. The expiry is made without a
    // commit. The simulation judges expiries.
    let commits = call.verb.kind() != Kind::Expires;
    let committed = rows.iter().filter(|_| commits);
    let changed: Vec<(usize, u64)> = committed.map(|row| (*row, commit(handle, *row))).collect();
    let source = Database::of(handle, now());
    let made = perform(&handle.desk.cache, &source, &call, None);
    if let Some(patience) = patience.filter(|_| commits) {
        match timeout(patience, made).await {
            Ok(outcome) => ended(handle, &changed, &source, outcome),
            Err(_) => drop(tokio::spawn(dropped(Arc::clone(handle), changed, alone))),
        }
        return;
    }
    let Some(outcome) = in_time(handle, rows[0], call.verb.method().1, made).await else { return };
    ended(handle, &changed, &source, outcome);
    touch(handle, &rows);
}

fn commit(handle: &Handle, row: usize) -> u64 {
    let version = handle.ledger.row(row).committed().fetch_add(1, Ordering::SeqCst) + 1;
    handle.ledger.note(row, handle.index, What::Commits, version);
    version
}

/// Notes that the change may cause more loads of these rows.
fn touch(handle: &Handle, rows: &[usize]) {
    match rows.iter().any(|row| *row >= MARKS_AT) {
        true => (DRAWN_AT..DRAWN_AT + DRAWN).for_each(|row| handle.touch(row)),
        false => rows.iter().for_each(|row| handle.touch(*row)),
    }
}

fn ended(handle: &Handle, changed: &[(usize, u64)], source: &Database, outcome: Outcome) {
    if matches!(outcome, Outcome::Changed(Ok(_)) | Outcome::Updated(Ok(()))) {
        source.inserted();
    }
    let outcome = match outcome {
        Outcome::Changed(outcome) => outcome.map(|stamp| Seqs::of(&stamp)),
        Outcome::Updated(outcome) => outcome.map(|()| Seqs::default()),
        other => unreachable!("a change came to {other:?}"),
    };
    let rows: Vec<usize> = changed.iter().map(|(row, _)| *row).collect();
    handle.change_ended(changed, outcome);
    touch(handle, &rows);
}

/// Follows a change whose caller was cancelled. It has been executed, or is being retried.
async fn dropped(handle: Arc<Handle>, changed: Vec<(usize, u64)>, alone: Option<OwnedMutexGuard<()>>) {
    for (row, version) in &changed {
        handle.ledger.note(*row, handle.index, What::Dropped, *version);
    }
    sleep(LONGEST_CHANGE).await;
    let rows: Vec<usize> = changed.iter().map(|(row, _)| *row).collect();
    touch(&handle, &rows);
    match handle.desk.cache.stats().pending_invalidations {
        0 => handle.change_ended(&changed, Ok(Seqs::default())),
        _ => {
            for (row, version) in changed {
                handle.undecided[row].fetch_max(version, Ordering::AcqRel);
                handle.ledger.note(row, handle.index, What::Fails, version);
            }
            handle.ledger.add(handle.index, Count::Undecided, rows.len() as u64);
        }
    }
    drop(alone);
}

/// The latest versions of everything and of each tag, as a load finds them when it begins.
fn marks(ledger: &crate::ledger::Ledger) -> [u64; MARKS] {
    std::array::from_fn(|at| ledger.row(MARKS_AT + at).committed().load(Ordering::SeqCst))
}
