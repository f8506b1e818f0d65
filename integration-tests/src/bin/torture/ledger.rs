//! The state that all processes share: a file of words that each process maps.
//!
//! It contains the database (a committed version for each key), the invalidations that have returned, and every
//! count. A count or a record is in the file at once, so it survives the kill of its process.
//!
//! Times are `CLOCK_MONOTONIC` in nanoseconds. On Linux this is one clock for all processes, and it continues
//! while a process is stopped.

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

/// The number of keys that are changed all the time.
pub(crate) const KEYS: usize = 256;
/// The number of keys after them that are never changed, so that their values expire.
pub(crate) const LIVES: usize = 64;
/// The first key of drawn calls and storms. The row for everything and the rows of the tags follow these keys.
pub(crate) const DRAWN_AT: usize = KEYS + LIVES;
pub(crate) const DRAWN: usize = 48;
pub(crate) const STORMS_AT: usize = DRAWN_AT + DRAWN;
pub(crate) const STORMS: usize = 8;
pub(crate) const MARKS_AT: usize = STORMS_AT + STORMS;
pub(crate) const MARKS: usize = 1 + integration_tests::surface::options::TAGS.len();
pub(crate) const ALL_KEYS: usize = MARKS_AT + MARKS;
/// The maximum number of cache handles.
pub(crate) const HANDLES: usize = 32;
/// The width of one step in the distribution of staleness, and the number of steps. The last step takes all
/// higher values.
pub(crate) const STEP_NS: u64 = 50_000;
pub(crate) const STEPS: usize = 1 << 17;
/// The number of notes that are kept for each key.
const NOTES: usize = 96;
const NOTE_WORDS: usize = 4;
const HISTORY_WORDS: usize = 1 + NOTES * NOTE_WORDS;

/// The number of words of a handle. It is larger than the number of counts.
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

/// The present time, on the clock that all processes share.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// A pause of this length may explain a late wake-up. The other constant is the interval of the check.
pub(crate) const STALL_NS: u64 = 25_000_000;
/// Two pauses of this length in a row may end a serving lease, which four heartbeats renew.
pub(crate) const PAUSE_NS: u64 = 250_000_000;
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Notes each pause in which the tasks of this process did not run. A wake-up that is late in such a moment is
/// no evidence, whatever its cause.
pub(crate) async fn look_for_stalls(ledger: impl Deref<Target = Ledger> + Send + 'static) {
    loop {
        let before = now();
        tokio::time::sleep(LOOK_EVERY).await;
        let at = now();
        if at - before > STALL_NS {
            ledger.stalled();
        }
        if at - before > PAUSE_NS {
            ledger.global(Global::PausedAt).fetch_max(at, Ordering::Relaxed);
        }
    }
}

/// The words for the whole run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Global {
    /// 1 while there is a fault, or the system has not recovered yet.
    Fault,
    /// The number of stale reads.
    Stale,
    /// The highest staleness.
    Worst,
    /// The time at which a process last found a pause of itself or of the connection to the server.
    StalledAt,
    /// The number of fault epochs that have begun.
    Epochs,
    /// The time at which the last fault epoch ended.
    QuietSince,
    /// 1 when the traffic must end.
    Resting,
    /// The counts of broken promises, by kind; and the age of the oldest answer past its life, in nanoseconds
    /// beyond its life.
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
    /// The number of values of drawn keys that were made.
    Origins,
    /// The time in which a server with older data may answer plain reads without any sign of its age.
    DeceivesSince,
    DeceivesUntil,
    /// For each namespace the partitions that the present fault does not concern, one bit for each. They are 0 while
    /// that is not judged.
    Unharmed0,
    Unharmed1,
    Unharmed2,
    /// The number of partitions that were suspended by a fault of other servers.
    Spread,
    /// The time at which a process last found a pause in which a lease may have ended.
    PausedAt,
    /// The number of hits that a verifier has proved to be stale, and the time of the first, since `Began`.
    Proved,
    FirstProof,
    /// The time at which the nodes were started.
    Began,
}

impl Global {
    /// The words of unharmed partitions, by namespace.
    pub(crate) const UNHARMED: [Self; 3] = [Self::Unharmed0, Self::Unharmed1, Self::Unharmed2];
}

/// The counts of a cache handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// Reads that ended with a value, or with an absence.
    Reads,
    /// Reads of values that began within ten bounds of an invalidation.
    AtRisk,
    /// Reads whose version was older than an invalidation that had returned before they began.
    Old,
    /// Reads that the history no longer covers.
    Unjudged,
    /// Reads with a stamp.
    Stamped,
    Loads,
    /// Returned changes, counted once for each key. Each key of a batch or clear counts.
    Invalidations,
    Undecided,
    LateWakes,
    /// Waits that may have been late, in moments with an excuse.
    UnjudgedWaits,
    Waits,
    Panics,
    Starts,
    L1Hits,
    /// Reads whose age was judged, and reads whose bytes were judged.
    Aged,
    Compared,
    /// Answers past their ttl that were allowed as stale ones.
    StaleAnswers,
    /// Loads that were judged, and excess loads in a moment with an excuse.
    JudgedLoads,
    UnjudgedLoads,
    /// Checks after storms that found what is promised.
    Storms,
    /// Refused calls of a node without rights or of another build.
    Refused,
    Flushes,
    /// Shutdowns, and the pending changes that they reported.
    Shutdowns,
    LeftPending,
    /// Hits that a verifier has checked, that it could not check, and that it suspects to be stale.
    Verified,
    Unverified,
    Suspected,
    /// Gauges after the end of the traffic.
    Rested,
    Tasks,
    InFlight,
    Entries,
    RssBytes,
    /// The time that L1 was watched and suspended, in quiet times and in all, in nanoseconds.
    QuietNs,
    QuietSuspendedNs,
    TotalNs,
    SuspendedNs,
    /// The same for partitions that a fault did not concern, added up over them.
    UnharmedNs,
    UnharmedSuspendedNs,
    /// Gauges: whether L1 serves, and the time of the observation.
    Serving,
    SeenAt,
    /// Gauge: the number of invalidations that are being retried.
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

    /// Maps a file that another process has made.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::map(&File::options().read(true).write(true).open(path)?, path)
    }

    fn map(file: &File, path: &Path) -> io::Result<Self> {
        let map = MmapOptions::new().len(WORDS * 8).map_raw(file)?;
        Ok(Self { map, path: path.to_owned() })
    }

    /// The file for broken promises.
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

    /// The sum of a count over all handles.
    pub(crate) fn total(&self, count: Count) -> u64 {
        (0..HANDLES).map(|handle| self.count(handle, count).load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn row(&self, key: usize) -> Row<'_> {
        let at = ROWS_AT + (key % ALL_KEYS) * ROW_WORDS;
        Row::new(&self.words()[at..at + ROW_WORDS])
    }

    /// Notes that a process or the connection paused. This is not a fault of the caches.
    pub(crate) fn stalled(&self) {
        self.global(Global::StalledAt).fetch_max(now(), Ordering::Relaxed);
    }

    /// Notes that there is no fault any more.
    pub(crate) fn ends_fault(&self) {
        self.global(Global::QuietSince).store(now(), Ordering::SeqCst);
        self.global(Global::Fault).store(0, Ordering::SeqCst);
    }

    /// The number of the last fault epoch. It is `None` during an epoch.
    pub(crate) fn quiet(&self) -> Option<u64> {
        let epoch = self.global(Global::Epochs).load(Ordering::SeqCst);
        (self.global(Global::Fault).load(Ordering::SeqCst) == 0).then_some(epoch)
    }

    /// The number of loads of a key that are under way on a handle.
    pub(crate) fn loading(&self, handle: usize, key: usize) -> &AtomicU64 {
        &self.words()[LOADING_AT + (handle % HANDLES) * ALL_KEYS + key % ALL_KEYS]
    }

    /// The time at which a call with `refresh_ahead` last asked a handle for a key.
    pub(crate) fn ahead(&self, handle: usize, key: usize) -> &AtomicU64 {
        &self.words()[AHEAD_AT + (handle % HANDLES) * ALL_KEYS + key % ALL_KEYS]
    }

    /// The number of loads of a key that are under way.
    pub(crate) fn loads_of(&self, key: usize) -> u64 {
        (0..HANDLES).map(|handle| self.loading(handle, key).load(Ordering::Acquire)).sum()
    }

    /// The facts about a drawn key.
    pub(crate) fn facts(&self, key: usize) -> Facts<'_> {
        let at = FACTS_AT + (key - DRAWN_AT) % DRAWN * FACT_WORDS;
        Facts { words: &self.words()[at..at + FACT_WORDS] }
    }

    /// Notes an action on a key.
    pub(crate) fn note(&self, key: usize, handle: usize, what: What, version: u64) {
        let words = &self.words()[HISTORY_AT + (key % ALL_KEYS) * HISTORY_WORDS..][..HISTORY_WORDS];
        let at = words[0].fetch_add(1, Ordering::Relaxed) as usize % NOTES;
        let note = [now(), handle as u64, what.number(), version];
        for (word, value) in words[1 + at * NOTE_WORDS..].iter().zip(note) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// The actions on a key, in order. A note that is being overwritten may be a mix of two.
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

    /// Notes the age of an answer.
    pub(crate) fn note_age(&self, age_ns: u64) {
        let step = ((age_ns / STEP_NS) as usize).min(STEPS - 1);
        self.words()[STALENESS_AT + step].fetch_add(1, Ordering::Relaxed);
        self.global(Global::Worst).fetch_max(age_ns, Ordering::Relaxed);
    }

    /// The number of answers in each step of age.
    pub(crate) fn ages(&self) -> impl Iterator<Item = u64> {
        self.words()[STALENESS_AT..STALENESS_AT + STEPS].iter().map(|count| count.load(Ordering::Relaxed))
    }
}
