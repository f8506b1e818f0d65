//! Facts about a key that no value contains: that the key is absent, that a value is still right, that a value
//! was inserted.
//!
//! The facts of a key are in a ring, like the invalidations of a row. A record that is overwritten is kept as
//! the latest time until which its value or its absence may answer. If that leaves a doubt about an answer, the
//! answer is counted as unjudged.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::ledger::MARKS;

const FACTS: usize = 256;
const SLOT: usize = 6 + MARKS;
const HEAD: usize = 3;
pub(crate) const FACT_WORDS: usize = HEAD + FACTS * SLOT;

/// The number of a record that is being written.
const UNSETTLED: u64 = 0;
/// The mark for a tag that the value does not have, and for an unknown mark.
pub(super) const NO_MARK: u64 = u64::MAX;

/// The kind of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// There is no row.
    Absent,
    /// A batch left the key out. Callers that asked before are told that the key is absent. No other caller is.
    LeftOut,
    /// A load has confirmed the value.
    Confirmed,
    /// The value was inserted, and the insert has returned.
    Inserted,
}

impl Known {
    fn numbered(number: u64) -> Self {
        [Self::Absent, Self::LeftOut, Self::Confirmed, Self::Inserted][number as usize % 4]
    }
}

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fact {
    pub known: Known,
    /// The number of the load or insert that made the value.
    pub origin: u64,
    pub version: u64,
    /// The time until which the value may answer, and until which it may answer as a fallback: on the clock of
    /// the ledger, in milliseconds.
    pub until_ms: (u64, u64),
    pub marks: [u64; MARKS],
}

/// The time until which values and absences without a record may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Past {
    pub values_ms: u64,
    pub absences_ms: u64,
}

/// The records of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) words: &'a [AtomicU64],
}

impl Facts<'_> {
    fn slot(&self, index: usize) -> &[AtomicU64] {
        &self.words[HEAD + (index % FACTS) * SLOT..][..SLOT]
    }

    /// Adds a record. It must be added before any caller can get the value or the absence.
    pub(super) fn note(&self, fact: &Fact) {
        let number = self.words[0].fetch_add(1, Ordering::AcqRel) + 1;
        let slot = self.slot(number as usize);
        if slot[0].load(Ordering::Acquire) != UNSETTLED {
            let until_ms = slot[4].load(Ordering::Acquire);
            match Known::numbered(slot[1].load(Ordering::Acquire)) {
                Known::Confirmed => self.words[1].fetch_max(until_ms, Ordering::AcqRel),
                Known::Absent | Known::LeftOut => self.words[2].fetch_max(until_ms, Ordering::AcqRel),
                // Without this record the marks of the value are unknown.
                Known::Inserted => 0,
            };
        }
        slot[0].store(UNSETTLED, Ordering::Release);
        fence(Ordering::SeqCst);
        let Fact { known, origin, version, until_ms, marks } = *fact;
        let words = [known as u64, origin, version, until_ms.1, until_ms.0].into_iter().chain(marks);
        slot[1..].iter().zip(words).for_each(|(word, value)| word.store(value, Ordering::Release));
        slot[0].store(number, Ordering::Release);
    }

    /// Returns the records, the latest last, and the time until which values and absences without a record may
    /// answer.
    pub(super) fn read(&self) -> (Vec<Fact>, Past) {
        let mut found: Vec<(u64, Fact)> = (0..FACTS).filter_map(|index| self.record(index)).collect();
        found.sort_unstable_by_key(|(number, _)| *number);
        // This is read after the ring, so that it contains the records that were overwritten in between.
        let [values_ms, absences_ms] = [1, 2].map(|word: usize| self.words[word].load(Ordering::Acquire));
        (found.into_iter().map(|(_, fact)| fact).collect(), Past { values_ms, absences_ms })
    }

    /// Reads a record. Returns `None` if it is being written.
    fn record(&self, index: usize) -> Option<(u64, Fact)> {
        let slot = self.slot(index);
        let number = slot[0].load(Ordering::Acquire);
        let words: [u64; SLOT] = std::array::from_fn(|at| slot[at].load(Ordering::Acquire));
        fence(Ordering::SeqCst);
        if number == UNSETTLED || slot[0].load(Ordering::Acquire) != number {
            return None;
        }
        let known = Known::numbered(words[1]);
        let marks = std::array::from_fn(|at| words[6 + at]);
        let fact = Fact { known, origin: words[2], version: words[3], until_ms: (words[5], words[4]), marks };
        Some((number, fact))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_out_is_kept_as_its_end() {
        let words: Vec<AtomicU64> = (0..FACT_WORDS).map(|_| AtomicU64::new(0)).collect();
        let facts = Facts { words: &words };
        let fact = |known, n: u64| Fact {
            known,
            origin: n,
            version: 2 * n,
            until_ms: (10 * n, 100 * n),
            marks: [n; MARKS],
        };
        let past = |values_ms, absences_ms| Past { values_ms, absences_ms };
        facts.note(&fact(Known::Confirmed, 1));
        facts.note(&fact(Known::Absent, 2));
        facts.note(&fact(Known::Inserted, 3));
        (4..=FACTS as u64).for_each(|n| facts.note(&fact(Known::Confirmed, n)));
        let (found, known) = facts.read();
        assert_eq!((found.len(), found[0], known), (FACTS, fact(Known::Confirmed, 1), past(0, 0)));
        facts.note(&fact(Known::Confirmed, 999));
        let (found, known) = facts.read();
        assert_eq!((found[0], found[FACTS - 1]), (fact(Known::Absent, 2), fact(Known::Confirmed, 999)));
        assert_eq!(known, past(100, 0), "a value is pushed out, and says nothing of absences");
        facts.note(&fact(Known::Confirmed, 998));
        facts.note(&fact(Known::Confirmed, 997));
        assert_eq!(facts.read().1, past(100, 200));
    }
}
