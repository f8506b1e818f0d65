//! Judges every event of every instance, in order of time, by the promise.
//!
//! A read is stale if its version is lower than one whose invalidation had returned `max_staleness`
//! before the read began; on the instance that wrote, before it began at all.

mod lag;
mod ledger;
mod overlap;
#[cfg(test)]
mod tests;

use crate::clock::SECOND;
use crate::events::{Answer, Event, Purpose, Read};
use crate::figures::{Durations, Latencies};
use crate::messages::Tiers;
use crate::rush::Cold;
use lag::Lag;
use ledger::Ledger;
use overlap::Overlaps;

/// The bound that the caches are built with: the default.
pub(crate) const MAX_STALENESS: u64 = SECOND;
/// Stale reads kept as evidence.
const MAX_EVIDENCE: usize = 5;

/// What the referee has counted so far.
#[derive(Debug)]
pub(crate) struct Referee {
    instances: Vec<Seat>,
    /// Events whose order is not final: another instance may still have an earlier one.
    waiting: Vec<(u16, Event)>,
    ledger: Ledger,
    overlaps: Overlaps,
    pub(crate) lag: Lag,
    pub(crate) seen: Seen,
    pub(crate) cold: Cold,
}

/// Facts about one instance.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seat {
    complete_to: u64,
    pub(crate) requests: u64,
    /// Reads among these that their own query answered.
    pub(crate) loaded: u64,
    pub(crate) tiers: Tiers,
    /// Traffic by the source of its answer.
    pub(crate) answers: Answers,
    /// Durations of traffic since they were taken last.
    pub(crate) recent: Durations,
    /// The last time at which the shared tier could not be reached: the outage policy suspends the promise.
    cut_off_at: Option<u64>,
}

/// Requests by the source of their answer.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Answers {
    pub(crate) l1: u64,
    pub(crate) l2: u64,
    pub(crate) waited: u64,
    pub(crate) loaded: u64,
    pub(crate) stale: u64,
    pub(crate) failed: u64,
}

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) first: Option<u64>,
    pub(crate) last: u64,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) writes: u64,
    pub(crate) writes_failed: u64,
    pub(crate) queries: u64,
    pub(crate) most_concurrent: usize,
    /// Queries that began while another query for their row ran, without a write to it in between.
    pub(crate) duplicates: u64,
    pub(crate) latencies: Latencies,
    /// Reads of all purposes. All were judged.
    pub(crate) checked: u64,
    /// Reads of a product whose last invalidation was less than ten bounds ago.
    pub(crate) at_risk: u64,
    /// Reads that did not return the last version whose invalidation had returned, but were within the promise.
    pub(crate) behind: u64,
    /// The longest time since the invalidation of the oldest version that such a read missed.
    pub(crate) furthest_behind: u64,
    pub(crate) stale: u64,
    /// Older reads on an instance that could not reach the shared tier: the promise does not bind it then.
    pub(crate) unbound: u64,
    pub(crate) evidence: Vec<String>,
}

impl Referee {
    pub(crate) fn new(instances: u16, watched: u32) -> Self {
        Self {
            instances: vec![Seat::default(); usize::from(instances)],
            waiting: Vec::new(),
            ledger: Ledger::default(),
            overlaps: Overlaps::default(),
            lag: Lag::new(watched, instances),
            seen: Seen::default(),
            cold: Cold::default(),
        }
    }

    pub(crate) fn instances(&self) -> &[Seat] {
        &self.instances
    }

    /// The durations of an instance's traffic since the last call.
    pub(crate) fn take_recent(&mut self, instance: u16) -> Durations {
        std::mem::take(&mut self.instances[usize::from(instance)].recent)
    }

    /// Stops waiting for an instance that has reported nothing since then. Its events count again when it reports.
    pub(crate) fn dismiss_if_silent(&mut self, instance: u16, since: u64) {
        if self.instances[usize::from(instance)].complete_to < since {
            self.dismiss(instance);
        }
    }

    /// An instance is gone, and will report nothing more.
    pub(crate) fn dismiss(&mut self, instance: u16) {
        self.instances[usize::from(instance)].complete_to = u64::MAX;
        self.look_up_to(self.settled());
    }

    /// Takes a batch of one instance, and judges the events whose order is now final.
    pub(crate) fn take(&mut self, instance: u16, events: Vec<Event>, complete_to: u64, tiers: Tiers) {
        let seat = &mut self.instances[usize::from(instance)];
        seat.complete_to = complete_to;
        if tiers.l2_unreachable {
            seat.cut_off_at = Some(complete_to);
        }
        seat.tiers = tiers;
        self.waiting.extend(events.into_iter().map(|event| (instance, event)));
        self.look_up_to(self.settled());
    }

    /// The time up to which every change of every instance is known.
    pub(crate) fn settled(&self) -> u64 {
        self.instances.iter().map(|seat| seat.complete_to).min().unwrap_or_default()
    }

    /// Judges all remaining events, when no more will come.
    pub(crate) fn settle(&mut self) {
        self.look_up_to(u64::MAX);
    }

    fn look_up_to(&mut self, settled: u64) {
        let mut ready: Vec<_> = self.waiting.extract_if(.., |(_, event)| event.at() <= settled).collect();
        ready.sort_by_key(|(_, event)| event.at());
        for (instance, event) in ready {
            self.look_at(instance, event);
        }
        self.seen.duplicates += self.overlaps.judge(settled, &self.ledger);
    }

    /// Resets the counts before the traffic. The ledger stays.
    pub(crate) fn begin_traffic(&mut self) {
        self.seen = Seen::default();
        self.instances.iter_mut().for_each(|seat| (seat.requests, seat.loaded) = (0, 0));
    }

    fn look_at(&mut self, instance: u16, event: Event) {
        let at = event.at();
        match event {
            Event::Read(read) => self.read(instance, &read),
            Event::ReadFailed { purpose, .. } => {
                self.seen.failed += 1;
                let failed = &mut self.instances[usize::from(instance)].answers.failed;
                *failed += u64::from(purpose == Purpose::Traffic);
            }
            Event::QueryBegan { product, .. } => {
                self.seen.queries += 1;
                self.seen.most_concurrent = self.seen.most_concurrent.max(self.overlaps.began(product, at));
            }
            Event::QueryEnded { product, began, .. } => {
                self.overlaps.ended(product, began);
            }
            Event::Invalidated { product, version, began, .. } => {
                self.seen.writes += 1;
                self.ledger.invalidated(product, version, instance, (began, at));
                self.lag.invalidated(product, version, instance, at);
            }
            Event::WriteFailed { .. } => self.seen.writes_failed += 1,
        }
    }

    fn read(&mut self, instance: u16, read: &Read) {
        self.hold_against_the_promise(instance, read);
        self.lag.read(instance, read);
        if read.answer == Answer::Loaded {
            self.overlaps.led(read);
        }
        if read.purpose == Purpose::Lag {
            return;
        }
        let seen = &mut self.seen;
        seen.first = Some(seen.first.map_or(read.start, |first| first.min(read.start)));
        seen.last = seen.last.max(read.end);
        seen.requests += 1;
        let seat = &mut self.instances[usize::from(instance)];
        seat.requests += 1;
        seat.loaded += u64::from(read.answer == Answer::Loaded);
        let (latencies, answers) = (&mut seen.latencies, &mut seat.answers);
        let (histogram, count) = match read.answer {
            Answer::L1 => (&mut latencies.l1, &mut answers.l1),
            Answer::L2 => (&mut latencies.l2, &mut answers.l2),
            Answer::Loaded => (&mut latencies.loaded, &mut answers.loaded),
            Answer::Waited => (&mut latencies.waited, &mut answers.waited),
            Answer::Stale => (&mut latencies.stale, &mut answers.stale),
        };
        *count += 1;
        histogram.saturating_record(read.end - read.start);
        seat.recent.saturating_record(read.end - read.start);
    }

    fn hold_against_the_promise(&mut self, instance: u16, read: &Read) {
        let known = self.ledger.at(read.product, read.start, instance);
        let seen = &mut self.seen;
        seen.checked += 1;
        seen.at_risk += u64::from(known.last.is_some_and(|last| last + 10 * MAX_STALENESS > read.start));
        let cut_off = self.instances[usize::from(instance)].cut_off_at;
        if read.version < known.owed && cut_off.is_some_and(|at| read.start < at + MAX_STALENESS) {
            seen.unbound += 1;
        } else if read.version < known.owed {
            seen.stale += 1;
            if seen.evidence.len() < MAX_EVIDENCE {
                seen.evidence.push(format!(
                    "instance {instance} read version {} of product {} where it owed version {}",
                    read.version, read.product, known.owed
                ));
            }
        } else if let Some(missed) = known.first_above(read.version) {
            seen.behind += 1;
            seen.furthest_behind = seen.furthest_behind.max(read.start - missed);
        }
    }
}
