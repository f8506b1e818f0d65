//! Judges the answer to a drawn call, by every promise about answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_cache::{Source, Traced};
use integration_tests::surface::{Answer, Call, Kind, Written};

use super::facts::{Fact, Known, NO_MARK};
use super::place;
use super::source::AFTERMATH_NS;
use crate::judge::STORED_WITHIN_NS;
use crate::ledger::{Count, Global, MARKS, MARKS_AT, now};
use crate::node::Handle;
use crate::promise::{Promise, What};
use crate::row::{Answered, Claim, Verdict};

const SLACK_MS: u64 = STORED_WITHIN_NS / 1_000_000;
/// A load without a result counts as a failure for this time: an `error_backoff` of 1 s, and the time in which
/// other nodes may still see the failure.
const FAILURE_NS: u64 = 1_000_000_000 + AFTERMATH_NS;

/// A call under way, and the versions that its answer must have.
pub(super) struct Asked<'a> {
    handle: &'a Handle,
    call: &'a Call,
    pub(super) started: u64,
    /// The version that each key must have, and the reason.
    owed: Vec<(u64, u64, Claim)>,
    /// The latest changes of everything and of each tag that returned on this node.
    marks: [u64; MARKS],
}

/// When a call accepts a value after its `ttl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stale {
    Never,
    /// If the load fails.
    OnError,
    AtOnce,
}

/// One way in which an answer may be right.
struct Grounds {
    until_ms: (u64, u64),
    marks: [u64; MARKS],
}

impl<'a> Asked<'a> {
    /// The owed versions are read first and the clock last. `stamped` is the version of the stamp, for the
    /// first key.
    pub(super) fn begin(handle: &'a Handle, call: &'a Call, stamped: Option<u64>) -> Self {
        let own = |row: usize| handle.own[row].load(Ordering::Acquire);
        let marks = std::array::from_fn(|at| own(MARKS_AT + at));
        let reloads = call.verb.kind() == Kind::Reloads;
        let owed = call.distinct().into_iter().map(|key| {
            let at = place(key);
            let all = [
                Some((own(at), Claim::SameNode)),
                stamped.filter(|_| key == call.keys[0]).map(|version| (version, Claim::Stamp)),
                reloads.then(|| (handle.ledger.row(at).committed().load(Ordering::SeqCst), Claim::Refresh)),
            ];
            let (version, claim) =
                all.into_iter().flatten().max_by_key(|(version, _)| *version).expect("the first");
            (key, version, claim)
        });
        let owed = owed.collect();
        for key in call.distinct() {
            handle.ledger.note(place(key), handle.index, What::Asks(call.verb), call.id);
        }
        if stamped.is_some() {
            handle.ledger.add(handle.index, Count::Stamped, 1);
        }
        Self { handle, call, started: now(), owed, marks }
    }

    /// When the call accepts a value after its `ttl`, within `stale_for`.
    fn takes_stale(&self) -> Stale {
        let options = &self.call.effective;
        match options.stale_while_revalidate == Some(true) || options.soft_timeout.is_some() {
            _ if self.call.verb.kind() != Kind::Loads => Stale::Never,
            true => Stale::AtOnce,
            false if options.stale_on_error != Some(false) => Stale::OnError,
            false => Stale::Never,
        }
    }

    /// Whether a load of the key ended without a value during the call or shortly before, or took so long that
    /// a caller may have given up waiting. It is also true if the call has waited for its own limit.
    fn source_failed(&self, key: u64) -> bool {
        let (ledger, at) = (self.handle.ledger, place(key));
        let failed_at = ledger.row(at).failed_at().load(Ordering::Acquire);
        let limit = self.call.effective.load_timeout.unwrap_or(Duration::from_secs(30)).as_nanos() as u64;
        ledger.loads_of(at) > 0 || failed_at + FAILURE_NS >= self.started || now() - self.started >= limit
    }

    /// Judges what the call was told of its answer.
    pub(super) fn judge_trace(&self, key: u64, found: &Traced<Answer>) {
        let Self { handle, call, .. } = *self;
        let age_ms = found.age.as_millis() as u64;
        // A value may be confirmed by a load, and then its age begins anew.
        let too_old = |value: &Arc<Written>| age_ms > value.age_ms(now() / 1_000_000) + SLACK_MS;
        let wrong = found.source == Source::L1 && call.skips_l1 || found.value.as_ref().is_some_and(too_old);
        if wrong {
            let Call { id, verb, .. } = call;
            let what = format!(
                "handle {} was told that key {key} (call {id}, {verb:?}) is from {:?} and {age_ms} ms old",
                handle.index, found.source
            );
            handle.ledger.accuse(Promise::Values, Some(place(key)), what);
        }
    }

    pub(super) fn judge(&self, key: u64, answer: Option<&Written>) {
        let (handle, at) = (self.handle, place(key));
        handle.ledger.add(handle.index, Count::Reads, 1);
        match answer {
            Some(value) => {
                let risky = handle.ledger.row(at).at_risk(self.started, 10 * handle.bound_ns);
                handle.ledger.add(handle.index, Count::AtRisk, u64::from(risky));
                handle.ledger.note(at, handle.index, What::Reads, value.version);
                self.judge_value(key, value);
            }
            // A verb without a loader may find no value, or an absence.
            None if !self.call.verb.takes_absence() => {}
            None => self.judge_absence(key),
        }
    }

    fn judge_value(&self, key: u64, value: &Written) {
        let (handle, at) = (self.handle, place(key));
        handle.ledger.add(handle.index, Count::Compared, 1);
        if value.key != key || value.marks.len() != MARKS || !value.is_intact() {
            let what = format!(
                "handle {} asked for key {at}: the answer is of key {} and not as it was written",
                handle.index,
                place(value.key)
            );
            return handle.ledger.accuse(Promise::Values, Some(at), what);
        }
        let (_, owed, claim) =
            *self.owed.iter().find(|(of, ..)| *of == key).expect("a key that was asked for");
        handle.by_version(at, self.started, value.version, (owed, claim));
        let (facts, past) = handle.ledger.facts(at).read();
        let grounds = grounds(value, &facts);
        handle.ledger.add(handle.index, Count::Aged, 1);
        let takes_stale = self.takes_stale();
        let excused = match takes_stale {
            Stale::Never => false,
            Stale::OnError => self.source_failed(key),
            Stale::AtOnce => true,
        };
        let over = |ground: &Grounds| self.over_ms(ground, excused);
        let least = grounds.iter().map(over).min().unwrap_or(0);
        let stale = value.age_ms(self.started / 1_000_000) > value.fresh_ms;
        handle.ledger.add(handle.index, Count::StaleAnswers, u64::from(stale && least == 0));
        let remembered = past.values_ms + SLACK_MS < self.started / 1_000_000;
        let in_time = |ground: &&Grounds| over(ground) <= SLACK_MS;
        let void: Vec<_> = grounds.iter().filter(in_time).map(|ground| self.void(ground)).collect();
        // An insert has not returned yet, so it is unknown which changes came before it.
        let unknown = grounds[0].marks[0] == NO_MARK;
        match void.first() {
            Some(Some(change)) if void.iter().all(Option::is_some) => match remembered {
                true => self.accuse_stale(at, value, *change),
                // A fact that is no longer in the ring may have confirmed the value.
                false => handle.ledger.add(handle.index, Count::Unjudged, 1),
            },
            _ if least == 0 && unknown => handle.ledger.add(handle.index, Count::Unjudged, 1),
            _ if least == 0 => {}
            // Outside quiet times, other failures are unknown.
            _ if remembered && takes_stale == Stale::OnError => {
                self.accuse_aged(at, value, (least.min(SLACK_MS), excused));
            }
            _ if remembered => self.accuse_aged(at, value, (least, excused)),
            _ => handle.ledger.add(handle.index, Count::Unjudged, 1),
        }
    }

    /// The time by which the value was past its life when the call began.
    fn over_ms(&self, ground: &Grounds, takes_stale: bool) -> u64 {
        let until = if takes_stale { ground.until_ms.1 } else { ground.until_ms.0 };
        (self.started / 1_000_000).saturating_sub(until)
    }

    /// The invalidation of everything or of a tag that voids the value, and the time since it returned.
    fn void(&self, ground: &Grounds) -> Option<(usize, u64)> {
        let Self { handle, started, .. } = *self;
        let known = ground.marks.iter().enumerate().filter(|(_, mark)| **mark != NO_MARK);
        known.map(|(at, mark)| (MARKS_AT + at, at, *mark)).find_map(|(row, at, version)| {
            let (bound_ns, owed, owed_by) = (handle.bound_ns, self.marks[at], Claim::SameNode);
            let read = Answered { version, started, bound_ns, owed, owed_by };
            match handle.ledger.row(row).judge(&read) {
                Verdict::Stale { claim, age_ns, .. } if !handle.is_deceived(started, claim) => {
                    Some((row, age_ns))
                }
                _ => None,
            }
        })
    }

    fn accuse_stale(&self, at: usize, value: &Written, (row, age_ns): (usize, u64)) {
        let what = format!(
            "handle {} read version {} of key {at} (call {}, {:?}), made {} ms before, though {} had been invalidated, \
             which had returned {:.3} ms before",
            self.handle.index,
            value.version,
            self.call.id,
            self.call.verb,
            value.age_ms(self.started / 1_000_000),
            if row == MARKS_AT { "everything".to_owned() } else { format!("its tag {}", row - MARKS_AT) },
            age_ns as f64 / 1e6,
        );
        self.handle.ledger.accuse(Promise::Staleness, Some(at), what);
    }

    fn accuse_aged(&self, at: usize, value: &Written, (over_ms, takes_stale): (u64, bool)) {
        self.handle.ledger.global(Global::WorstAge).fetch_max(over_ms * 1_000_000, Ordering::Relaxed);
        let what = format!(
            "handle {} read version {} of key {at} (call {}, {:?}), made {} ms before, whose life is {} ms, or {} as a \
             stale one{}: {over_ms} ms past it",
            self.handle.index,
            value.version,
            self.call.id,
            self.call.verb,
            value.age_ms(self.started / 1_000_000),
            value.fresh_ms,
            value.kept_ms,
            match self.takes_stale() {
                _ if takes_stale => "",
                Stale::OnError => ", which the call takes if a load fails, and none has",
                _ => ", which the call does not take",
            },
        );
        let (made, over) = (value.made_ms * 1_000_000, over_ms * 1_000_000);
        crate::judge::accuse_aged(self.handle.ledger, at, (made, over), what);
    }

    /// Judges an absence. It has a life, and a change voids it, like a value.
    fn judge_absence(&self, key: u64) {
        let (handle, at, started) = (self.handle, place(key), self.started / 1_000_000);
        let (_, owed, owed_by) =
            *self.owed.iter().find(|(of, ..)| *of == key).expect("a key that was asked for");
        let (facts, past) = handle.ledger.facts(at).read();
        let current = |fact: &Fact| {
            let (version, bound_ns) = (fact.version, handle.bound_ns);
            let read = Answered { version, started: self.started, bound_ns, owed, owed_by };
            let of_row = match handle.ledger.row(at).judge(&read) {
                Verdict::Stale { claim, .. } => handle.is_deceived(self.started, claim),
                _ => true,
            };
            let grounds = Grounds { until_ms: fact.until_ms, marks: fact.marks };
            // A key that a batch leaves out is not stored, and has no tags.
            of_row && (fact.known == Known::LeftOut || self.void(&grounds).is_none())
        };
        let lives = |fact: &&Fact| match fact.known {
            Known::LeftOut => fact.until_ms.0 >= started,
            Known::Absent => {
                let until = match self.takes_stale() {
                    Stale::Never => fact.until_ms.0,
                    Stale::OnError | Stale::AtOnce => fact.until_ms.1,
                };
                until + SLACK_MS >= started
            }
            Known::Confirmed | Known::Inserted => false,
        };
        handle.ledger.add(handle.index, Count::Aged, 1);
        if facts.iter().filter(lives).any(current) {
            return;
        }
        if past.absences_ms + SLACK_MS >= started {
            return handle.ledger.add(handle.index, Count::Unjudged, 1);
        }
        let (promise, why) = match facts.iter().any(|fact| lives(&fact)) {
            true => (Promise::Staleness, "only loads from before a change that it must reflect found so"),
            false => (Promise::Age, "no load found so lately"),
        };
        let Call { id, verb, .. } = self.call;
        let what =
            format!("handle {} found nothing for key {at} (call {id}, {verb:?}), and {why}", handle.index);
        handle.ledger.accuse(promise, Some(at), what);
    }
}

/// The grounds of a value: what the value contains, and later facts about it.
fn grounds(value: &Written, facts: &[Fact]) -> Vec<Grounds> {
    let until_ms = (value.made_ms + value.fresh_ms, value.made_ms + value.kept_ms);
    let about =
        |known: Known| facts.iter().filter(move |fact| fact.known == known && fact.origin == value.origin);
    let inserted = about(Known::Inserted).next().map(|fact| fact.marks);
    let told = std::array::from_fn(|at| value.marks[at]);
    let itself = Grounds { until_ms, marks: inserted.unwrap_or(told) };
    let later = about(Known::Confirmed).map(|fact| Grounds { until_ms: fact.until_ms, marks: fact.marks });
    std::iter::once(itself).chain(later).collect()
}
