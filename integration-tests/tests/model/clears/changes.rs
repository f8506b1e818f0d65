//! Clears and invalidations of tags: from the commit of the caller to the answer, or to the answer of the
//! retry.

use super::fleet::{Change, Fleet, Kind, Progress};
use super::server::{Message, Tag};
use super::{Mutant, PARTITIONS, Scene};

impl Fleet {
    /// The caller's commit, then `invalidate::invalidate_all` or `invalidate_tags` up to the first command.
    pub(super) fn commit(&mut self, n: usize, kind: Kind, scene: &Scene) -> Option<()> {
        let c = self.changes.iter().position(Option::is_none)?;
        self.row += 1;
        if kind == Kind::Clear {
            (0..PARTITIONS).for_each(|p| self.move_generation(n, p, scene.mutant));
        }
        let sent = |p| if p < scene.partitions { Progress::Sent } else { Progress::Answered };
        let progress = std::array::from_fn(sent);
        self.changes[c] = Some(Change { node: n as u8, version: self.row, kind, progress, retried: false });
        Some(())
    }

    /// `clear.lua`, one partition after the other; `tag.lua`, in any order.
    pub(super) fn change_executed(&mut self, c: usize, p: usize, mutant: Mutant) -> Option<()> {
        let Change { version, kind, progress, .. } = self.changes[c]?;
        let first_there = progress[..p].iter().all(|progress| *progress == Progress::Answered);
        let (seq, message) = match kind {
            Kind::Clear if !first_there => return None,
            Kind::Clear if p > 0 && mutant == Mutant::ClearOfOnePartition => (self.servers[p].seq, None),
            Kind::Clear => {
                let seq = self.servers[p].clear();
                (seq, Some(Message::Cleared(seq)))
            }
            Kind::Tag => {
                let seq = self.servers[p].invalidate_tag(Tag::Ours, mutant);
                (seq, Some(Message::TagInvalidated(Tag::Ours, seq)))
            }
        };
        if let Some(message) = message {
            self.publish(p, message)?;
        }
        self.executed[p] = self.executed[p].max(version);
        self.stamps[p][usize::from(version)] = seq;
        self.changes[c].as_mut()?.progress[p] = Progress::Executed(seq);
        Some(())
    }

    /// `Partition::cleared`, `tags_changed`; after the last answer the change returns.
    pub(super) fn change_answered(&mut self, c: usize, p: usize, mutant: Mutant) -> Option<()> {
        let change = self.changes[c]?;
        let (Progress::Executed(seq), n) = (change.progress[p], usize::from(change.node)) else {
            return None;
        };
        match change.kind {
            Kind::Clear if mutant == Mutant::NothingClearedAfterReply => {}
            Kind::Clear => self.cleared(n, p, seq, mutant),
            Kind::Tag if mutant == Mutant::NoTagNotedAfterReply => {}
            Kind::Tag => self.nodes[n].sides[p].tags.raise(Tag::Ours, seq, mutant),
        }
        let change = self.changes[c].as_mut()?;
        change.progress[p] = Progress::Answered;
        // `Unsent::landed`, or `Landed::note`.
        self.nodes[n].sides[p].pending &= !change.retried;
        if change.is_answered() {
            self.promised = self.promised.max(change.version);
            self.nodes[n].own = self.nodes[n].own.max(change.version);
        }
        Some(())
    }

    /// `intent::keep`, `Unsent::add_tags`: of some partitions no answer came in time, whether the change was executed
    /// or not. The retry is on its way to them.
    pub(super) fn change_failed(&mut self, c: usize, scene: &Scene) -> Option<()> {
        let change = self.changes[c].as_mut().filter(|change| change.may_fail())?;
        change.retried = true;
        let has_landed = |progress: &Progress| match progress {
            Progress::Answered => true,
            Progress::Executed(_) => scene.mutant == Mutant::ExecutedCountsAsLanded,
            Progress::Sent => false,
        };
        let missing = change.progress.map(|progress| !has_landed(&progress));
        for (progress, missing) in change.progress.iter_mut().zip(missing) {
            if missing {
                *progress = Progress::Sent;
            }
        }
        let (n, version) = (usize::from(change.node), change.version);
        self.nodes[n].own = self.nodes[n].own.max(version);
        for p in (0..scene.partitions).filter(|p| missing[*p]) {
            self.nodes[n].sides[p].pending = scene.mutant != Mutant::PendingTagsUnknown;
            self.move_generation(n, p, scene.mutant);
            if let Some(held) = &mut self.nodes[n].sides[p].entry {
                held.marked = true;
            }
        }
        Some(())
    }

    /// Another tag is invalidated.
    pub(super) fn other_tag(&mut self, p: usize, mutant: Mutant) -> Option<()> {
        let seq = self.servers[p].invalidate_tag(Tag::Other, mutant);
        self.publish(p, Message::TagInvalidated(Tag::Other, seq))
    }
}
