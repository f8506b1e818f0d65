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
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use nix::time::{ClockId, clock_gettime};

use crate::row::{ROW_WORDS, Row};

/// Keys in use.
pub(crate) const KEYS: usize = 256;
/// Most cache handles.
pub(crate) const HANDLES: usize = 32;
/// Width of one step in the distribution of staleness, and their number; the last takes the rest.
pub(crate) const STEP_NS: u64 = 50_000;
pub(crate) const STEPS: usize = 1 << 17;
/// Stale reads of which the particulars are kept.
pub(crate) const DETAILS: usize = 64;

/// Words of a handle: more than there are counts.
const HANDLE_WORDS: usize = 64;
const DETAIL_WORDS: usize = 8;

const GLOBALS: usize = 64;
const HANDLES_AT: usize = GLOBALS;
const DETAILS_AT: usize = HANDLES_AT + HANDLES * HANDLE_WORDS;
const STALENESS_AT: usize = DETAILS_AT + DETAILS * DETAIL_WORDS;
const ROWS_AT: usize = STALENESS_AT + STEPS;
const LOADING_AT: usize = ROWS_AT + KEYS * ROW_WORDS;
const WORDS: usize = LOADING_AT + HANDLES * KEYS;

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
    Stale,
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
    Hung,
    Panics,
    Starts,
    L1Hits,
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

/// The particulars of a stale read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Detail {
    pub key: u64,
    pub got: u64,
    pub owed: u64,
    pub handle: u64,
    /// Number of a [`crate::row::Claim`].
    pub claim: u64,
    pub started: u64,
    pub age_ns: u64,
}

/// The mapped file.
#[derive(Debug)]
pub(crate) struct Ledger {
    map: MmapRaw,
}

impl Ledger {
    /// Makes the file.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        file.set_len((WORDS * 8) as u64)?;
        Self::map(&file)
    }

    /// Maps a file made by another process.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::map(&File::options().read(true).write(true).open(path)?)
    }

    fn map(file: &File) -> io::Result<Self> {
        let map = MmapOptions::new().len(WORDS * 8).map_raw(file)?;
        Ok(Self { map })
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
        let at = ROWS_AT + (key % KEYS) * ROW_WORDS;
        Row::new(&self.words()[at..at + ROW_WORDS])
    }

    /// Notes that something did not run as it should, other than the caches.
    pub(crate) fn stalled(&self) {
        self.global(Global::StalledAt).fetch_max(now(), Ordering::Relaxed);
    }

    /// The fault epoch that is over, or `None` in one.
    pub(crate) fn quiet(&self) -> Option<u64> {
        let epoch = self.global(Global::Epochs).load(Ordering::SeqCst);
        (self.global(Global::Fault).load(Ordering::SeqCst) == 0).then_some(epoch)
    }

    /// Loads of a key that are under way on a handle.
    pub(crate) fn loading(&self, handle: usize, key: usize) -> &AtomicU64 {
        &self.words()[LOADING_AT + (handle % HANDLES) * KEYS + key % KEYS]
    }

    /// Whether any load of a key is under way.
    pub(crate) fn is_loading(&self, key: usize) -> bool {
        (0..HANDLES).any(|handle| self.loading(handle, key).load(Ordering::Acquire) > 0)
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

    /// Notes a stale read; the particulars of the first few are kept.
    pub(crate) fn accuse(&self, detail: Detail) {
        let at = self.global(Global::Stale).fetch_add(1, Ordering::Relaxed) as usize;
        if at < DETAILS {
            let Detail { key, got, owed, handle, claim, started, age_ns } = detail;
            let words = &self.words()[DETAILS_AT + at * DETAIL_WORDS..][..DETAIL_WORDS];
            for (word, value) in words.iter().zip([key, got, owed, handle, claim, started, age_ns, 1]) {
                word.store(value, Ordering::Release);
            }
        }
    }

    /// The particulars kept.
    pub(crate) fn details(&self) -> Vec<Detail> {
        let words = &self.words()[DETAILS_AT..STALENESS_AT];
        let read = |chunk: &[AtomicU64]| {
            let at = |index: usize| chunk[index].load(Ordering::Acquire);
            (at(7) == 1).then(|| Detail {
                key: at(0),
                got: at(1),
                owed: at(2),
                handle: at(3),
                claim: at(4),
                started: at(5),
                age_ns: at(6),
            })
        };
        words.chunks_exact(DETAIL_WORDS).filter_map(read).collect()
    }
}
