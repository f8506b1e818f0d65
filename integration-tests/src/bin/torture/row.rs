//! The state of one key: its committed version, and the times of its invalidations. The judgement of a read.
//!
//! A version is *due* to a read if an invalidation that covers it had returned `bound` before the read began. A
//! read is stale if its version is lower than the highest version that is due.
//!
//! The judgement never accuses wrongly: the time of a return is read *after* the return, and the start of a
//! read *before* the read. And it misses almost nothing: a process writes an invalidation that has returned
//! into the row before it does anything else. A record that is overwritten is kept in a highest version and a
//! latest time. If that leaves a doubt about a read, the read is counted as unjudged.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// The number of invalidations of a key that are kept one by one.
const RING: usize = 64;
const SLOT: usize = 3;
const HEAD: usize = 16;
pub(crate) const ROW_WORDS: usize = HEAD + RING * SLOT;

/// The time of a record that is being written.
const UNSETTLED: u64 = 0;

/// The reason why a version is owed to a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// An invalidation that returned before the read, by the bound or more.
    Bound,
    /// An invalidation that returned before the read on the same node.
    SameNode,
    /// The stamp of the read.
    Stamp,
    /// The read is a refresh, so it must load.
    Refresh,
}

impl Claim {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Bound => "by the bound",
            Self::SameNode => "on the same node",
            Self::Stamp => "by its stamp",
            Self::Refresh => "being a refresh",
        }
    }
}

/// A read that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    pub version: u64,
    /// The time at which it began.
    pub started: u64,
    pub bound_ns: u64,
    /// The version that is owed at any time.
    pub owed: u64,
    pub owed_by: Claim,
}

/// The judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No later version had been invalidated before the read began.
    Current,
    /// A later version had been invalidated this many nanoseconds before. That was allowed.
    Old(u64),
    /// A later version was owed.
    Stale { owed: u64, claim: Claim, age_ns: u64 },
    /// The records do not reach back far enough.
    Unjudged,
}

/// The words of one key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Row<'a> {
    pub(crate) fn new(words: &'a [AtomicU64]) -> Self {
        Self { words }
    }

    /// The database: the committed version.
    pub(crate) fn committed(&self) -> &'a AtomicU64 {
        &self.words[0]
    }

    /// The highest version whose invalidation has returned.
    fn top(&self) -> &'a AtomicU64 {
        &self.words[1]
    }

    /// The time at which the last invalidation returned.
    fn last_at(&self) -> &'a AtomicU64 {
        &self.words[2]
    }

    fn next(&self) -> &'a AtomicU64 {
        &self.words[3]
    }

    /// The highest version and the latest time of the records that were overwritten.
    fn past(&self) -> (&'a AtomicU64, &'a AtomicU64) {
        (&self.words[4], &self.words[5])
    }

    /// The time at which the last load of the key ended, with any result.
    pub(crate) fn filled_at(&self) -> &'a AtomicU64 {
        &self.words[6]
    }

    /// The handle of that load.
    pub(crate) fn filled_by(&self) -> &'a AtomicU64 {
        &self.words[7]
    }

    /// The start of the last load with a value, and the time until which that value lives.
    pub(crate) fn lives(&self) -> (&'a AtomicU64, &'a AtomicU64) {
        (&self.words[8], &self.words[9])
    }

    /// The time at which a change or refresh of the key last began or ended.
    pub(crate) fn touched_at(&self) -> &'a AtomicU64 {
        &self.words[10]
    }

    /// The time at which the last load of the key began.
    pub(crate) fn load_began(&self) -> &'a AtomicU64 {
        &self.words[11]
    }

    /// The time at which a load of the key last ended without a value, or after so long that a caller may have
    /// given up waiting.
    pub(crate) fn failed_at(&self) -> &'a AtomicU64 {
        &self.words[14]
    }

    /// For a key of storms: the outcomes of each storm, and the number of its loads.
    pub(crate) fn storm(&self) -> [&'a AtomicU64; 2] {
        [&self.words[12], &self.words[13]]
    }

    /// The words of a record: time, version and stamp.
    fn slot(&self, index: usize) -> [&'a AtomicU64; SLOT] {
        let at = HEAD + (index % RING) * SLOT;
        [&self.words[at], &self.words[at + 1], &self.words[at + 2]]
    }

    /// Notes that an invalidation covering `version` has returned at `now`, with the number of its stamp (0 for
    /// none).
    ///
    /// `top` is written first, because a judgement reads the records only if `top` is above its version. A
    /// record that is overwritten is in `past` before it leaves the ring.
    pub(crate) fn returned(&self, version: u64, now: u64, stamp: u64) {
        self.top().fetch_max(version, Ordering::AcqRel);
        self.last_at().fetch_max(now, Ordering::AcqRel);
        let index = self.next().fetch_add(1, Ordering::AcqRel) as usize;
        let [at, slot_version, slot_stamp] = self.slot(index);
        let old_at = at.load(Ordering::Acquire);
        if old_at != UNSETTLED {
            let (past_version, past_at) = self.past();
            past_at.fetch_max(old_at, Ordering::AcqRel);
            past_version.fetch_max(slot_version.load(Ordering::Acquire), Ordering::AcqRel);
        }
        at.store(UNSETTLED, Ordering::Release);
        fence(Ordering::SeqCst);
        slot_version.store(version, Ordering::Release);
        slot_stamp.store(stamp, Ordering::Release);
        at.store(now, Ordering::Release);
    }

    /// Reads a record. Returns `None` if it is being written.
    fn record(&self, index: usize) -> Option<(u64, u64, u64)> {
        let [at, version, stamp] = self.slot(index);
        let before = at.load(Ordering::Acquire);
        let record = (before, version.load(Ordering::Acquire), stamp.load(Ordering::Acquire));
        fence(Ordering::SeqCst);
        (before != UNSETTLED && at.load(Ordering::Acquire) == before).then_some(record)
    }

    /// The newest version with the stamp of its invalidation, if it has one.
    pub(crate) fn newest_stamp(&self) -> Option<(u64, u64)> {
        let next = self.next().load(Ordering::Acquire) as usize;
        let (_, version, stamp) = self.record(next.checked_sub(1)?)?;
        (stamp > 0).then_some((version, stamp))
    }

    /// Whether an invalidation returned less than `window_ns` before `started`, or after it.
    pub(crate) fn at_risk(&self, started: u64, window_ns: u64) -> bool {
        let last = self.last_at().load(Ordering::Acquire);
        last > 0 && last.saturating_add(window_ns) > started
    }

    /// Judges a read.
    pub(crate) fn judge(&self, read: &Answered) -> Verdict {
        let stale = |owed, claim, age_ns| Verdict::Stale { owed, claim, age_ns };
        if read.version >= self.top().load(Ordering::Acquire) && read.version >= read.owed {
            return Verdict::Current;
        }
        let mut due = 0;
        let mut succeeded_at = u64::MAX;
        for (at, version, _) in (0..RING).filter_map(|index| self.record(index)) {
            if version > read.version {
                succeeded_at = succeeded_at.min(at);
                if at.saturating_add(read.bound_ns) <= read.started {
                    due = due.max(version);
                }
            }
        }
        // This is read after the ring, so that it contains the records that were overwritten in between.
        let (past_version, past_at) = self.past();
        let (past_version, past_at) = (past_version.load(Ordering::Acquire), past_at.load(Ordering::Acquire));
        let mut doubt = false;
        if past_version > read.version {
            succeeded_at = succeeded_at.min(past_at);
            if past_at.saturating_add(read.bound_ns) <= read.started {
                due = due.max(past_version);
            } else {
                doubt = true;
            }
        }
        let age_ns = read.started.saturating_sub(succeeded_at);
        match () {
            () if read.version < read.owed => stale(read.owed, read.owed_by, age_ns),
            () if read.version < due => stale(due, Claim::Bound, age_ns),
            () if doubt => Verdict::Unjudged,
            () if age_ns == 0 => Verdict::Current,
            () => Verdict::Old(age_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: u64 = 1_000;

    fn words() -> Vec<AtomicU64> {
        (0..ROW_WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    fn read(version: u64, started: u64) -> Answered {
        Answered { version, started, bound_ns: BOUND, owed: 0, owed_by: Claim::SameNode }
    }

    #[test]
    fn what_returned_the_bound_before_is_due() {
        let words = words();
        let row = Row::new(&words);
        row.returned(2, 10_000, 7);
        row.returned(3, 10_500, 8);
        assert_eq!(row.judge(&read(3, 20_000)), Verdict::Current);
        assert_eq!(row.judge(&read(1, 10_000)), Verdict::Current, "it began as the first returned");
        assert_eq!(row.judge(&read(1, 10_999)), Verdict::Old(999));
        let stale = |owed, age_ns| Verdict::Stale { owed, claim: Claim::Bound, age_ns };
        assert_eq!(row.judge(&read(1, 11_000)), stale(2, 1_000));
        assert_eq!(row.judge(&read(2, 11_000)), Verdict::Old(500));
        assert_eq!(row.judge(&read(1, 11_500)), stale(3, 1_500));
        assert_eq!(row.judge(&read(2, 11_500)), stale(3, 1_000));
        assert_eq!(row.newest_stamp(), Some((3, 8)));
        assert!(row.at_risk(20_499, 10_000) && !row.at_risk(20_500, 10_000));
    }

    #[test]
    fn a_claim_without_a_bound_is_due_at_once() {
        let words = words();
        let row = Row::new(&words);
        row.returned(2, 10_000, 0);
        let owed = Answered { owed: 2, owed_by: Claim::Stamp, ..read(1, 10_001) };
        assert_eq!(row.judge(&owed), Verdict::Stale { owed: 2, claim: Claim::Stamp, age_ns: 1 });
        // A version may be owed that the row does not contain, as after an invalidation that failed.
        let owed = Answered { owed: 5, owed_by: Claim::SameNode, ..read(4, 10_001) };
        assert!(matches!(row.judge(&owed), Verdict::Stale { owed: 5, .. }));
        assert_eq!(row.newest_stamp(), None);
    }

    #[test]
    fn what_left_the_ring_still_counts_or_leaves_a_doubt() {
        let words = words();
        let row = Row::new(&words);
        for version in 2..=(RING as u64 + 11) {
            row.returned(version, 10_000 + version, 1);
        }
        // Versions up to 11 are not in the ring any more. The latest of them has the time 10,011.
        assert_eq!(row.judge(&read(1, 11_010)), Verdict::Unjudged);
        assert!(matches!(row.judge(&read(1, 11_011)), Verdict::Stale { owed: 11, .. }));
        assert!(matches!(row.judge(&read(11, 11_011)), Verdict::Old(999)));
    }
}
