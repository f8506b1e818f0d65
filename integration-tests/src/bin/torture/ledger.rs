//! What all processes know in common: a file of words, mapped by each of them.
//!
//! It holds the database (a committed version per key), what is known of invalidations that have
//! returned, and every count. A count or a record is there as soon as it is made: a process that
//! is killed takes none with it.
//!
//! Times are `CLOCK_MONOTONIC` in nanoseconds, which on Linux is one clock for all processes and
//! goes on while a process is stopped.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use nix::time::{ClockId, clock_gettime};

use crate::drawn::{FACT_WORDS, Facts};
use crate::promise::What;
use crate::row::{ROW_WORDS, Row};

/// Keys that are changed all the time.
pub(crate) const KEYS: usize = 256;
/// Keys after them, which are left alone, so that they live out their time.
pub(crate) const LIVES: usize = 64;
/// Keys of drawn calls, and of storms; then what stands for everything and for each tag of the drawn keys.
pub(crate) const DRAWN_AT: usize = KEYS + LIVES;
pub(crate) const DRAWN: usize = 48;
pub(crate) const STORMS_AT: usize = DRAWN_AT + DRAWN;
pub(crate) const STORMS: usize = 8;
pub(crate) const MARKS_AT: usize = STORMS_AT + STORMS;
pub(crate) const MARKS: usize = 1 + integration_tests::surface::options::TAGS.len();
pub(crate) const ALL_KEYS: usize = MARKS_AT + MARKS;
/// Most cache handles.
pub(crate) const HANDLES: usize = 32;
/// Width of one step in the distribution of staleness, and their number; the last takes the rest.
pub(crate) const STEP_NS: u64 = 50_000;
pub(crate) const STEPS: usize = 1 << 17;
/// What is remembered of each key.
const NOTES: usize = 96;
const NOTE_WORDS: usize = 4;
const HISTORY_WORDS: usize = 1 + NOTES * NOTE_WORDS;

/// Words of a handle: more than there are counts.
const HANDLE_WORDS: usize = 64;

const GLOBALS: usize = 64;
const HANDLES_AT: usize = GLOBALS;
const STALENESS_AT: usize = HANDLES_AT + HANDLES * HANDLE_WORDS;
const ROWS_AT: usize = STALENESS_AT + STEPS;
const LOADING_AT: usize = ROWS_AT + ALL_KEYS * ROW_WORDS;
const AHEAD_AT: usize = LOADING_AT + HANDLES * ALL_KEYS;
const HISTORY_AT: usize = AHEAD_AT + HANDLES * ALL_KEYS;
const FACTS_AT: usize = HISTORY_AT + ALL_KEYS * HISTORY_WORDS;
const WORDS: usize = FACTS_AT + DRAWN * FACT_WORDS;

/// Now, on the clock that all processes share.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// A pause that may explain a late wake-up, and how often is looked for one.
pub(crate) const STALL_NS: u64 = 25_000_000;
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Notes whenever the tasks of this process were kept from running: a wake-up that is late then
/// says nothing, wherever it was on its way.
pub(crate) async fn look_for_stalls(ledger: impl Deref<Target = Ledger> + Send + 'static) {
    loop {
        let before = now();
        tokio::time::sleep(LOOK_EVERY).await;
        let at = now();
        if at - before > STALL_NS {
            ledger.stalled();
        }
    }
}

/// Words about the run as a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Global {
    /// 1 while something is being done to the system, or it has not recovered yet.
    Fault,
    /// Stale reads found.
    Stale,
    /// The worst staleness.
    Worst,
    /// When a process last found that it, or the way to the server and back, had been kept from running.
    StalledAt,
    /// Fault epochs begun.
    Epochs,
    /// When the last fault epoch ended.
    QuietSince,
    /// 1 when the traffic is to end.
    Resting,
    /// Broken promises, by kind; the oldest answer past its life, in nanoseconds beyond it.
    Aged,
    WorstAge,
    ExcessLoads,
    Hung,
    Costly,
    Mangled,
    Grown,
    Intruders,
    Stormy,
    Uncalm,
    /// Values of drawn keys made so far.
    Origins,
    /// From when until when a server with an older memory may answer plain reads, and nobody can know.
    DeceivesSince,
    DeceivesUntil,
}

/// Counts of a cache handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// Reads that ended with a value, or with the answer that there is none.
    Reads,
    /// Reads of values begun within ten bounds of an invalidation.
    AtRisk,
    /// Reads whose version was older than an invalidation that had returned before they began.
    Old,
    /// Reads of which the history no longer tells.
    Unjudged,
    /// Reads with a stamp.
    Stamped,
    Loads,
    /// Calls in which a change of one key returned; each key of a batch or clear counts.
    Invalidations,
    Undecided,
    LateWakes,
    /// Waits that may have been late, in moments that excuse it.
    UnjudgedWaits,
    Waits,
    Panics,
    Starts,
    L1Hits,
    /// Reads whose age, and whose bytes, were judged.
    Aged,
    Compared,
    /// Answers past their ttl, within what they may be kept for.
    StaleAnswers,
    /// Loads that were judged, and that would be too many but for a moment that excuses it.
    JudgedLoads,
    UnjudgedLoads,
    /// Looks after storms that found everything as promised.
    Storms,
    /// Calls of a node without rights, or of another build, that were refused.
    Refused,
    Flushes,
    /// Shutdowns, and changes they said were left.
    Shutdowns,
    LeftPending,
    /// Gauges at rest.
    Rested,
    Tasks,
    InFlight,
    Entries,
    RssBytes,
    /// Nanoseconds watched and suspended, in quiet times and in all.
    QuietNs,
    QuietSuspendedNs,
    TotalNs,
    SuspendedNs,
    /// Gauges: whether L1 serves, and when that was seen.
    Serving,
    SeenAt,
    /// Gauge: invalidations being retried.
    Pending,
    ErrorBackend,
    ErrorTimeout,
    ErrorLoader,
    ErrorOther,
}

impl Count {
    pub(crate) const ERRORS: [(Self, &str); 4] = [
        (Self::ErrorBackend, "backend"),
        (Self::ErrorTimeout, "timeout"),
        (Self::ErrorLoader, "loader"),
        (Self::ErrorOther, "other"),
    ];
}

/// The mapped file.
#[derive(Debug)]
pub(crate) struct Ledger {
    map: MmapRaw,
    path: PathBuf,
}

impl Ledger {
    /// Makes the file.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        file.set_len((WORDS * 8) as u64)?;
        Self::map(&file, path)
    }

    /// Maps a file made by another process.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::map(&File::options().read(true).write(true).open(path)?, path)
    }

    fn map(file: &File, path: &Path) -> io::Result<Self> {
        let map = MmapOptions::new().len(WORDS * 8).map_raw(file)?;
        Ok(Self { map, path: path.to_owned() })
    }

    /// Where broken promises are told.
    pub(crate) fn log(&self) -> PathBuf {
        self.path.with_extension("violations")
    }

    #[allow(unsafe_code, reason = "there is no safe way to share atomics between processes")]
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, readable and writable, WORDS * 8 bytes long (the
        // file was made that long and is never cut) and lives as long as `self`. Every bit pattern
        // is an `AtomicU64`, and all processes access it by such words only.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast::<AtomicU64>(), WORDS) }
    }

    pub(crate) fn global(&self, global: Global) -> &AtomicU64 {
        &self.words()[global as usize]
    }

    pub(crate) fn count(&self, handle: usize, count: Count) -> &AtomicU64 {
        &self.words()[HANDLES_AT + (handle % HANDLES) * HANDLE_WORDS + count as usize]
    }

    pub(crate) fn add(&self, handle: usize, count: Count, n: u64) {
        self.count(handle, count).fetch_add(n, Ordering::Relaxed);
    }

    /// A count over all handles.
    pub(crate) fn total(&self, count: Count) -> u64 {
        (0..HANDLES).map(|handle| self.count(handle, count).load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn row(&self, key: usize) -> Row<'_> {
        let at = ROWS_AT + (key % ALL_KEYS) * ROW_WORDS;
        Row::new(&self.words()[at..at + ROW_WORDS])
    }

    /// Notes that something did not run as it should, other than the caches.
    pub(crate) fn stalled(&self) {
        self.global(Global::StalledAt).fetch_max(now(), Ordering::Relaxed);
    }

    /// Nothing is being done to the system any more.
    pub(crate) fn ends_fault(&self) {
        self.global(Global::QuietSince).store(now(), Ordering::SeqCst);
        self.global(Global::Fault).store(0, Ordering::SeqCst);
    }

    /// The fault epoch that is over, or `None` in one.
    pub(crate) fn quiet(&self) -> Option<u64> {
        let epoch = self.global(Global::Epochs).load(Ordering::SeqCst);
        (self.global(Global::Fault).load(Ordering::SeqCst) == 0).then_some(epoch)
    }

    /// Loads of a key that are under way on a handle.
    pub(crate) fn loading(&self, handle: usize, key: usize) -> &AtomicU64 {
        &self.words()[LOADING_AT + (handle % HANDLES) * ALL_KEYS + key % ALL_KEYS]
    }

    /// When a handle was last asked for a key by a call that refreshes ahead.
    pub(crate) fn ahead(&self, handle: usize, key: usize) -> &AtomicU64 {
        &self.words()[AHEAD_AT + (handle % HANDLES) * ALL_KEYS + key % ALL_KEYS]
    }

    /// How many loads of a key are under way.
    pub(crate) fn loads_of(&self, key: usize) -> u64 {
        (0..HANDLES).map(|handle| self.loading(handle, key).load(Ordering::Acquire)).sum()
    }

    /// What is known of a drawn key beside its values.
    pub(crate) fn facts(&self, key: usize) -> Facts<'_> {
        let at = FACTS_AT + (key - DRAWN_AT) % DRAWN * FACT_WORDS;
        Facts { words: &self.words()[at..at + FACT_WORDS] }
    }

    /// Notes what was done with a key.
    pub(crate) fn note(&self, key: usize, handle: usize, what: What, version: u64) {
        let words = &self.words()[HISTORY_AT + (key % ALL_KEYS) * HISTORY_WORDS..][..HISTORY_WORDS];
        let at = words[0].fetch_add(1, Ordering::Relaxed) as usize % NOTES;
        let note = [now(), handle as u64, what.number(), version];
        for (word, value) in words[1 + at * NOTE_WORDS..].iter().zip(note) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// What was done with a key, in order. A note that is being overwritten may be a mix of two.
    pub(crate) fn history(&self, key: usize, at: u64) -> Vec<String> {
        let words = &self.words()[HISTORY_AT + (key % ALL_KEYS) * HISTORY_WORDS..][..HISTORY_WORDS];
        let read = |chunk: &[AtomicU64]| [0, 1, 2, 3].map(|index| chunk[index].load(Ordering::Relaxed));
        let mut notes: Vec<[u64; 4]> = words[1..].chunks_exact(NOTE_WORDS).map(read).collect();
        notes.retain(|note| note[0] > 0);
        notes.sort_unstable();
        let line = |same: &[[u64; 4]]| {
            let [when, handle, what, version] = same[0];
            let ms = at.saturating_sub(when) as f64 / 1e6;
            let times = if same.len() > 1 { format!(", {} times", same.len()) } else { String::new() };
            format!("{ms:.3} ms before, handle {handle}: {} {version}{times}", What::words(what))
        };
        notes.chunk_by(|one, next| one[1..] == next[1..]).map(line).collect()
    }

    /// Notes how old an answer was.
    pub(crate) fn note_age(&self, age_ns: u64) {
        let step = ((age_ns / STEP_NS) as usize).min(STEPS - 1);
        self.words()[STALENESS_AT + step].fetch_add(1, Ordering::Relaxed);
        self.global(Global::Worst).fetch_max(age_ns, Ordering::Relaxed);
    }

    /// How many answers were in each step of age.
    pub(crate) fn ages(&self) -> impl Iterator<Item = u64> {
        self.words()[STALENESS_AT..STALENESS_AT + STEPS].iter().map(|count| count.load(Ordering::Relaxed))
    }
}
