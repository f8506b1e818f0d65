//! The database of the drawn keys, as loaders read it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_cache::testing::No;
use fastrand::Rng;
use integration_tests::surface::options::TAGS;
use integration_tests::surface::{Ask, Brought, Call, Kind, Options, Source, Verb, What as Brings, Written};
use tokio::time::sleep;

use super::facts::{Fact, Known, NO_MARK};
use super::{marks, place};
use crate::ledger::{Count, Global, Ledger, MARKS, MARKS_AT, now};
use crate::mutant::{Mutants, Planted};
use crate::need::{self, Answers, Begun};
use crate::node::Handle;
use crate::promise::What;

/// A planned panic. It is not a fault of the library.
#[derive(Debug)]
pub(crate) struct Planned;

/// If a load begins within this time before the `wait_timeout` of its caller, the timeout may be its cause.
const IMPATIENT: Duration = Duration::from_millis(30);

/// The shortest `wait_timeout` that is drawn. On the node of such a call a longer load counts as a failed load.
const SHORTEST_WAIT_NS: u64 = 200_000_000;

/// The time from the end of a loader that leaves a key out to the end of its flight, which other callers may join until
/// then. Nothing waits in between, but the thread may lose its processor.
const LANDS_WITHIN_MS: u64 = 5;

/// The effects of a load without a result are over after this time.
pub(super) const AFTERMATH_NS: u64 = 700_000_000;

/// The row of a tag's invalidations in the ledger. The rows of tags follow the row of everything.
pub(super) fn place_of(tag: &str) -> usize {
    MARKS_AT + 1 + TAGS.iter().position(|known| *known == tag).expect("a tag that is drawn")
}

pub(super) fn some_tags(turn: usize) -> Vec<String> {
    let mut tags: Vec<String> = TAGS.iter().map(|tag| (*tag).to_owned()).collect();
    tags.rotate_left(turn % TAGS.len());
    tags.truncate(1 + turn / TAGS.len() % 2);
    tags
}

/// The marks that concern a value with these tags, out of the marks at the beginning of its load.
fn marks_of(known: [u64; MARKS], tags: &[String]) -> [u64; MARKS] {
    let concerns = |at: usize| at == 0 || tags.iter().any(|tag| place_of(tag) == MARKS_AT + at);
    std::array::from_fn(|at| if concerns(at) { known[at] } else { NO_MARK })
}

/// The rows, as the loaders of one call read them.
#[derive(Debug, Clone)]
pub(super) struct Database {
    ledger: &'static Ledger,
    handle: usize,
    /// The time at which the call began.
    called: u64,
    seed: u64,
    mutant: Option<Planted>,
    /// The values that the inserts of the call store. They are known to be stored when the inserts have
    /// returned.
    stored: Arc<Mutex<Vec<(u64, Fact)>>>,
}

impl Database {
    pub(super) fn of(handle: &Handle, called: u64) -> Self {
        let all = [
            Planted::DrawnMangled,
            Planted::DrawnAgeTold,
            Planted::DrawnAbsenceOld,
            Planted::DrawnAbsenceUntold,
        ];
        let mutant = all.into_iter().find(|planted| handle.args.mutant.has(*planted));
        let (ledger, handle, seed) = (handle.ledger, handle.index, handle.args.seed);
        Self { ledger, handle, called, seed, mutant, stored: Arc::default() }
    }

    /// Notes that the inserts of the call have returned. Their values are newer than every change that had been
    /// made by then.
    pub(super) fn inserted(&self) {
        let known = marks(self.ledger);
        for (key, fact) in self.stored.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let carried = |at: usize| if fact.marks[at] == NO_MARK { NO_MARK } else { known[at] };
            let fact = Fact { marks: std::array::from_fn(carried), ..fact };
            self.ledger.facts(place(key)).note(&fact);
        }
    }

    fn value(&self, (key, version): (u64, u64), life: (u64, u64)) -> Written {
        let origin = self.ledger.global(Global::Origins).fetch_add(1, Ordering::Relaxed) + 1;
        let size = [0, 10, 100, 1_000, 5_000, 12_000, 100, 20_000][(key % 8) as usize];
        Written::new((key, version), origin, now() / 1_000_000, life, size)
    }

    fn brought(&self, ask: &Ask, manner: &Manner, running: &mut Running) -> Brought {
        let kept = manner.choice.over(&ask.call.effective);
        let (key, version) = (running.key, running.version);
        let confirmed = ask.previous.as_ref().filter(|previous| {
            manner.end == End::Unchanged && (previous.key, previous.version) == (key, version)
        });
        let absent = is_absent(key, version);
        let fate = match confirmed {
            Some(_) => Fate::Confirmed,
            None if ask.call.verb == Verb::LoadEach && fastrand::u8(..20) == 0 => Fate::Refused,
            None if absent && !ask.call.verb.takes_absence() => Fate::Failed,
            None if absent && ask.call.verb.takes_many() && manner.leaves_out => Fate::LeftOut,
            None if absent => Fate::Absent,
            None if manner.end == End::BringsUncached => Fate::Uncached,
            None => Fate::Value,
        };
        running.ends(fate, &kept);
        let life = kept.life_ms();
        let known = marks_of(running.marks, &kept.tags);
        let at = now() / 1_000_000;
        let fact = |known_as, origin, (fresh, whole)| Fact {
            known: known_as,
            origin,
            version,
            until_ms: (at + fresh, at + whole),
            marks: known,
        };
        let facts = self.ledger.facts(place(key));
        let what = match fate {
            Fate::Confirmed => {
                let previous = confirmed.map_or(0, |previous| previous.origin);
                facts.note(&fact(Known::Confirmed, previous, life));
                Brings::Unchanged
            }
            Fate::LeftOut => Brings::LeftOut,
            Fate::Absent => {
                // A loader chooses options for values only. An absence is stored with the options of the call.
                let asked = &ask.call.effective;
                let negative = asked.negative_ttl.unwrap_or(Duration::from_secs(30)).as_millis() as u64;
                let whole = negative + asked.stale_for.unwrap_or_default().as_millis() as u64;
                let known = match self.mutant {
                    Some(Planted::DrawnAbsenceOld) => [0; MARKS],
                    _ => running.marks,
                };
                let fact =
                    Fact { marks: marks_of(known, &asked.tags), ..fact(Known::Absent, 0, (negative, whole)) };
                if self.mutant != Some(Planted::DrawnAbsenceUntold) {
                    facts.note(&fact);
                }
                Brings::Absent
            }
            // The caller gets an error, and nothing is stored.
            Fate::Failed => Brings::Absent,
            Fate::Refused => Brings::Refused,
            Fate::Value | Fate::Uncached => {
                let mut value = self.value((key, version), life);
                value.marks = known.to_vec();
                self.plant(&mut value);
                Brings::Value(value)
            }
        };
        Brought { key, what, choice: manner.choice.clone(), cached: fate != Fate::Uncached }
    }

    fn plant(&self, value: &mut Written) {
        match self.mutant {
            Some(Planted::DrawnMangled) if value.made_ms.is_multiple_of(8) => {
                value.body.pop();
                value.body.push(b'#');
            }
            Some(Planted::DrawnAgeTold) if value.made_ms.is_multiple_of(8) => {
                value.fresh_ms /= 100;
                value.kept_ms = value.fresh_ms;
                value.made_ms = value.made_ms.saturating_sub(4_000);
            }
            _ => {}
        }
    }
}

fn is_absent(key: u64, version: u64) -> bool {
    key % 4 == 2 && version.is_multiple_of(3)
}

/// The way in which one run of a loader behaves.
struct Manner {
    before: Duration,
    after: Duration,
    end: End,
    choice: Options,
    /// Whether a batch leaves out keys without a row.
    leaves_out: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Brings,
    BringsUncached,
    Unchanged,
    Fails,
    Panics,
    Hangs,
}

impl Manner {
    fn draw(rng: &mut Rng) -> Self {
        let ms = |rng: &mut Rng, limit| Duration::from_millis(rng.u64(..limit));
        let end = match rng.u32(..1000) {
            0..10 => End::BringsUncached,
            10..20 => End::Fails,
            20..23 => End::Panics,
            23..25 => End::Hangs,
            25..500 => End::Unchanged,
            _ => End::Brings,
        };
        let mut choice = Options::default();
        if rng.u8(..6) == 0 {
            choice.ttl = Some(Duration::from_millis([40, 500, 3_000][rng.usize(..3)]));
        }
        if rng.u8(..10) == 0 {
            choice.stale_for = Some(Duration::from_millis([100, 5_000][rng.usize(..2)]));
        }
        if rng.u8(..12) == 0 {
            choice.l1_ttl = Some(Duration::from_millis([20, 200][rng.usize(..2)]));
        }
        if rng.u8(..12) == 0 {
            choice.ttl_jitter = Some([0.1, 0.5][rng.usize(..2)]);
        }
        if rng.u8(..20) == 0 {
            choice.refresh_ahead = Some(1.0);
        }
        if rng.u8(..4) == 0 {
            choice.tags = vec!["chosen".to_owned()];
        }
        let after = match rng.u32(..100) {
            0..2 => ms(rng, 800),
            2..10 => ms(rng, 120),
            _ => ms(rng, 5),
        };
        Self { before: ms(rng, 2), after, end, choice, leaves_out: rng.bool() }
    }
}

impl Source for Database {
    fn run(&self, ask: Ask) -> impl Future<Output = Result<Vec<Brought>, No>> + Send + 'static {
        let own = self.clone();
        async move {
            let mut rng = Rng::with_seed(own.seed ^ ask.call.id << 16 ^ (own.handle as u64) << 48 ^ now());
            let manner = Manner::draw(&mut rng);
            let mut all: Vec<Running> = ask.keys.iter().map(|key| Running::begin(&own, &ask, *key)).collect();
            rest(manner.before).await;
            all.iter_mut().for_each(Running::reads);
            rest(manner.after).await;
            match manner.end {
                End::Fails => return Err(No(0)),
                End::Panics => std::panic::panic_any(Planned),
                End::Hangs => std::future::pending().await,
                End::Brings | End::BringsUncached | End::Unchanged => {}
            }
            Ok(all.iter_mut().map(|running| own.brought(&ask, &manner, running)).collect())
        }
    }

    fn to_store(&self, call: &Call, key: u64) -> Written {
        let version = self.ledger.row(place(key)).committed().load(Ordering::SeqCst);
        let mut value = self.value((key, version), call.effective.life_ms());
        value.marks = vec![NO_MARK; MARKS];
        let marks = marks_of([0; MARKS], &call.effective.tags);
        let fact = Fact { known: Known::Inserted, origin: value.origin, version, until_ms: (0, 0), marks };
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).push((key, fact));
        value
    }
}

async fn rest(span: Duration) {
    if !span.is_zero() {
        sleep(span).await;
    }
}

/// How a load of one key ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Value,
    Uncached,
    Confirmed,
    Absent,
    LeftOut,
    /// This key of a batch failed, and no other key did.
    Refused,
    Failed,
}

/// A load of one key under way. Its `Drop` notes the end, however it ends.
struct Running {
    ledger: &'static Ledger,
    handle: usize,
    key: u64,
    version: u64,
    marks: [u64; MARKS],
    reloads: bool,
    called: u64,
    began: u64,
    /// How it ended, and how long its value is sure to be stored, in milliseconds.
    ended: (Fate, u64),
}

impl Running {
    fn begin(source: &Database, ask: &Ask, key: u64) -> Self {
        let Database { ledger, handle, called, .. } = *source;
        let (began, at) = (now(), place(key));
        let reloads = ask.call.verb.kind() == Kind::Reloads;
        ledger.add(handle, Count::Loads, 1);
        ledger.loading(handle, at).fetch_add(1, Ordering::AcqRel);
        let row = ledger.row(at);
        if reloads {
            row.touched_at().fetch_max(began, Ordering::AcqRel);
        } else {
            let patience = ask.call.effective.wait_timeout.unwrap_or(Duration::from_secs(30));
            let waited = Duration::from_nanos(began.saturating_sub(called)) + IMPATIENT;
            if waited < patience {
                let begun = Begun { handle, key: at, called, at: began };
                need::judge(ledger, begun, Answers::Stored);
            }
        }
        row.load_began().fetch_max(began, Ordering::AcqRel);
        let version = row.committed().load(Ordering::SeqCst);
        ledger.note(at, handle, if reloads { What::ReloadBegins } else { What::LoadBegins }, version);
        let marks = marks(ledger);
        Self { ledger, handle, key, version, marks, reloads, called, began, ended: (Fate::Failed, 0) }
    }

    /// Reads the database. The answer does not contain later changes.
    fn reads(&mut self) {
        self.version = self.ledger.row(place(self.key)).committed().load(Ordering::SeqCst);
    }

    fn ends(&mut self, fate: Fate, kept: &Options) {
        // A value with `refresh_ahead` may be loaded again at any time.
        let sure = if kept.refresh_ahead.is_some() { 0 } else { kept.least_fresh_ms() };
        self.ended = (fate, sure);
        if matches!(fate, Fate::Value | Fate::Confirmed) {
            let (fresh, _) = kept.life_ms();
            self.ledger.note(place(self.key), self.handle, What::LivesMs, fresh);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (ledger, at) = (self.ledger, place(self.key));
        let (row, end) = (ledger.row(at), now());
        let (fate, sure_ms) = self.ended;
        let what = match fate {
            Fate::Value | Fate::Uncached => What::LoadEnds,
            Fate::Confirmed => What::LoadConfirms,
            Fate::Absent | Fate::LeftOut => What::LoadFindsNothing,
            Fate::Refused | Fate::Failed => What::LoadFails,
        };
        ledger.note(at, self.handle, what, self.version);
        if fate == Fate::LeftOut {
            let until_ms = end / 1_000_000 + LANDS_WITHIN_MS;
            ledger.facts(at).note(&Fact {
                known: Known::LeftOut,
                origin: 0,
                version: self.version,
                until_ms: (until_ms, until_ms),
                marks: self.marks,
            });
        }
        let (since, until) = row.lives();
        // The value of a load that began during a change may not be stored.
        let undisturbed = row.touched_at().load(Ordering::Acquire) < self.called;
        match fate {
            Fate::Value | Fate::Confirmed if undisturbed => {
                since.store(self.began, Ordering::Release);
                until.store(end + sure_ms * 1_000_000, Ordering::Release);
            }
            Fate::Value | Fate::Confirmed => until.store(0, Ordering::Release),
            _ => {
                until.store(0, Ordering::Release);
                row.touched_at().fetch_max(end + AFTERMATH_NS, Ordering::AcqRel);
            }
        }
        if self.reloads {
            row.touched_at().fetch_max(end, Ordering::AcqRel);
        }
        // The fill of a load that a change has met may be refused. Another node cannot distinguish this from a
        // failure.
        let brings = matches!(fate, Fate::Value | Fate::Confirmed | Fate::Absent);
        if !(brings && undisturbed) || end - self.began >= SHORTEST_WAIT_NS {
            row.failed_at().fetch_max(end, Ordering::AcqRel);
        }
        row.filled_by().store(self.handle as u64, Ordering::Release);
        row.filled_at().fetch_max(end, Ordering::AcqRel);
        let less = |running: u64| Some(running.saturating_sub(1));
        let _ = ledger.loading(self.handle, at).fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }
}
