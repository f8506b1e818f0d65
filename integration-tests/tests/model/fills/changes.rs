//! The steps of a change, and of its retry.

use super::fleet::{Change, Fleet, Progress};
use super::mutant::Mutant;
use super::server::Value;
use super::{Fills, PUT_TOKEN};

impl Fills {
    pub(super) fn commit(&self, fleet: &mut Fleet, n: usize, put: bool) -> Option<()> {
        let c = fleet.changes.iter().position(|change| change.progress == Progress::Unused)?;
        let under_way = |change: &Change| {
            matches!(change.progress, Progress::Sent | Progress::Executed(_) | Progress::Published(_))
        };
        // Two writers that insert at the same time have no order that the cache could keep.
        if fleet.changes.iter().any(|change| under_way(change) && (put || change.put)) {
            return None;
        }
        fleet.row += 1;
        fleet.change_begins(n, self.mutant);
        let ticket = fleet.ticket(n);
        let version = fleet.row;
        fleet.changes[c] =
            Change { node: n as u8, version, put, progress: Progress::Sent, stuck: false, ticket };
        Some(())
    }

    pub(super) fn execute(&self, fleet: &mut Fleet, c: usize, put: bool) -> Option<u8> {
        let change = fleet.changes[c];
        let mut out = Vec::new();
        let put = put.then_some((change.version, PUT_TOKEN + c as u8));
        let seq = fleet.server.change(put, self.mutant, &mut out);
        fleet.publish(out)?;
        self.took_effect(fleet, change.version, seq);
        fleet.loads_allowed += 1;
        Some(seq)
    }

    /// From now on L2 owes this version.
    pub(super) fn took_effect(&self, fleet: &mut Fleet, version: u8, seq: u8) {
        fleet.executed = fleet.executed.max(version);
        let stamp = &mut fleet.stamps[usize::from(version)];
        if *stamp == 0 {
            *stamp = seq;
        }
    }

    pub(super) fn change_answered(&self, fleet: &mut Fleet, c: usize) -> Option<()> {
        let change = fleet.changes[c];
        let Progress::Executed(seq) = change.progress else { return None };
        let n = usize::from(change.node);
        fleet.nodes[n].returned(seq);
        if self.mutant != Mutant::NoSecondRemoval {
            fleet.changed(n, seq, self.mutant);
        }
        let value = Value { version: change.version, seq, token: PUT_TOKEN + c as u8 };
        let ticket = fleet.changes[c].ticket;
        if change.put && fleet.admissible(n, ticket, value, self.mutant) {
            fleet.store(n, value);
        }
        self.ended(fleet, c);
        fleet.promised = fleet.promised.max(change.version);
        fleet.changes[c].progress = Progress::Done;
        Some(())
    }

    /// The caller of a change gets the answer.
    pub(super) fn ended(&self, fleet: &mut Fleet, c: usize) {
        let change = fleet.changes[c];
        let own = &mut fleet.nodes[usize::from(change.node)].own;
        *own = (*own).max(change.version);
    }

    pub(super) fn change_failed(&self, fleet: &mut Fleet, c: usize) -> Option<()> {
        let change = fleet.changes[c];
        let stuck = match change.progress {
            Progress::Sent => true,
            Progress::Executed(_) => false,
            _ => return None,
        };
        let n = usize::from(change.node);
        fleet.nodes[n].pending = true;
        if self.mutant != Mutant::NoRemovalOnFailure {
            fleet.change_begins(n, self.mutant);
        }
        self.ended(fleet, c);
        fleet.changes[c].progress = Progress::Retrying;
        fleet.changes[c].stuck = stuck;
        Some(())
    }

    pub(super) fn late_change(&self, fleet: &mut Fleet, c: usize) -> Option<()> {
        let change = fleet.changes[c];
        if !change.stuck {
            return None;
        }
        // A late put is refused: `LATE`.
        if !change.put || self.mutant == Mutant::PutAtAnyTime {
            self.execute(fleet, c, change.put)?;
        }
        fleet.changes[c].stuck = false;
        Some(())
    }

    pub(super) fn retry_answered(&self, fleet: &mut Fleet, c: usize) -> Option<()> {
        let change = fleet.changes[c];
        let Progress::Retried(seq) = change.progress else { return None };
        let n = usize::from(change.node);
        fleet.nodes[n].returned(seq);
        fleet.changed(n, seq, self.mutant);
        fleet.changes[c].progress = Progress::Done;
        let retrying = |other: &Change| matches!(other.progress, Progress::Retrying | Progress::Retried(_));
        fleet.nodes[n].pending =
            fleet.changes.iter().any(|other| retrying(other) && usize::from(other.node) == n);
        fleet.promised = fleet.promised.max(change.version);
        Some(())
    }
}
