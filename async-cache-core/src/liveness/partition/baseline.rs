//! A new baseline becomes the node's knowledge of a partition.

use std::time::Duration;

use super::{Partition, Phase, lease_end};
use crate::backend::{Baseline as Read, Effect, Tick};
use crate::faults::mutant::Mutant;
use crate::faults::planted;
use crate::liveness::news::Baseline;
use crate::sync::Ordering;

impl Partition {
    /// Takes a baseline as the node's knowledge while it is subscribed. The command for it was sent at
    /// `sent`. Decides whether changes may have been missed before. The order matters:
    ///
    /// 1. the subscription is acknowledged; 2. the baseline is read; 3. the generation rises; 4. L1 serves.
    ///
    /// With 2 before 1, a change between the two would be neither in the baseline nor on the bus. With 4
    /// before 3, a get could find an entry whose invalidation was missed.
    ///
    /// Older entries may go on answering only if L1 has caught up with the baseline. It is not enough that
    /// the changes received so far have no gap:
    ///
    /// 1. changes 6 and 7 are executed; 2. change 6 is received, change 7 is delayed; 3. the baseline is
    ///    read: 7; 4. L1 serves for `max_staleness` from step 3 on, without change 7.
    pub(crate) fn baseline(&self, read: &Read, sent: Tick, max_staleness: Duration) -> Baseline {
        let state = read.state;
        let mut sync = self.sync.lock();
        let Phase::Syncing(heard) = sync.phase else { return Baseline::NotNow };
        let applied = self.applied();
        let same_run = sync.run == Some(state.run);
        let (missed_none, reached) = match heard {
            None => (state.seq == applied, state.seq),
            Some((first, last)) if first == applied + 1 && last >= state.seq => (true, last),
            Some((first, last)) if first <= state.seq + 1 => (false, last.max(state.seq)),
            Some(_) => {
                sync.phase = Phase::Syncing(None);
                return Baseline::Again;
            }
        };
        let unfenced =
            self.switch.is(Mutant::ReconnectWithoutFlush) || self.switch.is(Mutant::FlushBeforeSubscribed);
        let outcome =
            if missed_none && same_run || unfenced { Baseline::Continued } else { Baseline::Flushed };
        if planted!(ServeBeforeFlush) {
            self.extend(lease_end(sent, max_staleness));
        }
        if state.seq < applied && !unfenced {
            self.start_anew(read);
        } else if outcome == Baseline::Flushed {
            self.floor.fetch_max(state.floor, Ordering::AcqRel);
            self.tags.raise_floor(read.tag_floor);
            self.raise_tags(read);
            self.next_generation();
        }
        self.applied.store(reached, Ordering::Release);
        self.knows(reached.max(state.floor));
        sync.run = Some(state.run);
        sync.phase = Phase::Live;
        self.serving_until.store(lease_end(sent, max_staleness).0, Ordering::Release);
        self.proved_at.fetch_max(sent.0, Ordering::Relaxed);
        outcome
    }

    /// Forgets all numbers of this node. The backend was told the node's number, and answers with a lower
    /// one. So it cannot have given the node's numbers: a clock that was far ahead has been set back, or the
    /// numbers come from outside. They are all worthless.
    fn start_anew(&self, read: &Read) {
        self.void_all();
        self.floor.store(read.state.floor, Ordering::Release);
        self.reached.store(0, Ordering::Release);
        self.tags.start_anew(read.tag_floor);
        self.raise_tags(read);
        self.known.lower(self.index, read.state.seq);
    }

    fn raise_tags(&self, read: &Read) {
        for (tags, effect) in [(&read.tags, Effect::Void), (&read.expired_tags, Effect::Expire)] {
            tags.iter().for_each(|(tag, seq)| self.tags.raise_one(tag, *seq, effect));
        }
    }
}
