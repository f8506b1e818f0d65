//! The steps of a lookup, from its probe to the end of its flight.

use super::fleet::{Fleet, Promise};
use super::mutant::Mutant;
use super::node::{Debt, Flight, Step};
use super::server::{Acquired, Value};
use super::{Fills, OLD_TOKEN};

impl Fills {
    pub(super) fn token(&self, flight: usize, node: usize) -> u8 {
        match self.mutant {
            Mutant::TokenSharedPerClient => OLD_TOKEN + node as u8,
            _ => flight as u8,
        }
    }

    pub(super) fn start(&self, fleet: &mut Fleet, n: usize, reload: bool, insist: bool) -> Option<()> {
        let f = fleet.flights.iter().position(|flight| flight.step == Step::Unused)?;
        let node = &fleet.nodes[n];
        let newest = usize::from(fleet.executed);
        let need = if insist { fleet.stamps[newest] } else { 0 };
        if insist && need <= node.applied {
            return None;
        }
        // A hit, or a lookup that joins.
        let joins = node.flight.is_some_and(|f| fleet.flights[usize::from(f)].joinable);
        if !reload && !insist && (fleet.hit(n, self.mutant).is_some() || (joins && node.serving.is_some())) {
            return None;
        }
        let held = node.entry.map(|held| held.value).filter(|_| !reload);
        // A refresh follows a commit, as an invalidation does.
        fleet.row += u8::from(reload);
        let node = &fleet.nodes[n];
        let stamp = if insist { fleet.executed } else { 0 };
        let ticket = fleet.ticket(n);
        let plain = node.serving.is_some() && node.applied >= need;
        fleet.flights[f] = Flight {
            node: n as u8,
            step: Step::Get { plain },
            reload,
            joinable: true,
            seq: node.applied,
            need,
            started: fleet.promised,
            debt: Debt { l2: fleet.executed, staleness: 0, own: node.own, stamp },
            ticket,
            held,
            woken: None,
        };
        if node.pending && self.mutant != Mutant::ReadPastPending {
            fleet.flights[f].step = Step::Loading(Err(true));
        } else if held.is_some() || reload {
            fleet.ask(f);
        }
        fleet.nodes[n].flight = Some(f as u8);
        Some(())
    }

    pub(super) fn get_executed(&self, fleet: &mut Fleet, f: usize) -> Option<()> {
        let Step::Get { plain } = fleet.flights[f].step else { return None };
        let floor = if plain { None } else { Some(fleet.server.state(self.mutant).2) };
        let (run, value) = (fleet.server.run, fleet.server.memory.value);
        fleet.flights[f].step = Step::Got { run, value, floor };
        Some(())
    }

    pub(super) fn got_answer(&self, fleet: &mut Fleet, f: usize) -> Option<()> {
        let flight = fleet.flights[f];
        let Step::Got { run, value, floor } = flight.step else { return None };
        let n = usize::from(flight.node);
        if self.mutant == Mutant::StampAfterReply {
            fleet.flights[f].ticket = fleet.ticket(n);
        }
        let floor = match floor {
            Some(floor) => floor,
            None => {
                fleet.nodes[n].doubt(run);
                if fleet.nodes[n].run != run && self.mutant != Mutant::TrustAnyRun {
                    fleet.flights[f].step = Step::Get { plain: false };
                    return Some(());
                }
                fleet.nodes[n].floor
            }
        };
        match value.filter(|value| value.seq >= floor) {
            Some(value) => fleet.land(f, value.version, Some(value), self.mutant),
            None => self.ask(fleet, f),
        }
        Some(())
    }

    /// One round of `lease::pursue`.
    pub(super) fn ask(&self, fleet: &mut Fleet, f: usize) {
        fleet.ask(f);
        let n = usize::from(fleet.flights[f].node);
        if fleet.nodes[n].pending && self.mutant != Mutant::ReadPastPending {
            fleet.flights[f].step = Step::Loading(Err(false));
        }
    }

    pub(super) fn acquire_executed(&self, fleet: &mut Fleet, f: usize) -> Option<()> {
        let flight = fleet.flights[f];
        let (Step::Ask, n) = (flight.step, flight.node) else { return None };
        let known = flight.held.map(|value| value.token);
        let token = self.token(f, usize::from(n));
        let acquired = fleet.server.acquire(n, token, known, flight.reload, self.mutant);
        if matches!(acquired, Acquired::Granted(_)) && !flight.reload {
            if fleet.loads_allowed == 0 {
                fleet.broken = Some(Promise::OneLoad);
            }
            fleet.loads_allowed = fleet.loads_allowed.saturating_sub(1);
        }
        fleet.flights[f].step = Step::Asked(acquired);
        Some(())
    }

    pub(super) fn acquire_answered(&self, fleet: &mut Fleet, f: usize) -> Option<()> {
        let flight = fleet.flights[f];
        let Step::Asked(acquired) = flight.step else { return None };
        if self.mutant == Mutant::StampAfterReply {
            fleet.flights[f].ticket = fleet.ticket(usize::from(flight.node));
        }
        match acquired {
            Acquired::Value(value) => fleet.land(f, value.version, Some(value), self.mutant),
            Acquired::Unchanged => fleet.land(f, flight.held?.version, flight.held, self.mutant),
            Acquired::Granted(lease) => {
                fleet.flights[f].seq = flight.seq.max(lease.seq);
                fleet.flights[f].step = Step::Loading(Ok(lease));
            }
            Acquired::Busy => fleet.flights[f].step = Step::Waiting,
        }
        Some(())
    }

    pub(super) fn woken(&self, fleet: &mut Fleet, f: usize) -> Option<()> {
        let flight = fleet.flights[f];
        let (Step::Waiting, Some(woken)) = (flight.step, flight.woken) else { return None };
        let trusted = self.mutant == Mutant::TrustLateWakes;
        let timely = flight.ticket.timely.is_some() || trusted;
        let answers = |value: &Value| value.seq >= flight.ticket.last_seq || trusted;
        match woken.filter(|_| timely && !flight.reload).filter(answers) {
            Some(value) => {
                // The value was sent before it was requested, so it owes what L1 owes.
                let debt = &mut fleet.flights[f].debt;
                debt.l2 = 0;
                debt.staleness = debt.staleness.max(flight.ticket.timely.unwrap_or(flight.started));
                fleet.land(f, value.version, Some(value), self.mutant);
            }
            None => self.ask(fleet, f),
        }
        Some(())
    }

    pub(super) fn fill_executed(&self, fleet: &mut Fleet, f: usize, answered: bool) -> Option<()> {
        let flight = fleet.flights[f];
        let Step::Loaded(lease, version) = flight.step else { return None };
        let lease = match lease {
            Ok(lease) => lease,
            Err(offered) => {
                let value = Value { version, seq: flight.ticket.reached, token: f as u8 };
                fleet.land(f, version, offered.then_some(value), self.mutant);
                return answered.then_some(());
            }
        };
        let mut out = Vec::new();
        let announce = flight.reload && self.mutant != Mutant::RefreshInSilence;
        let stored = fleet.server.fill(lease, version, announce, self.mutant, &mut out);
        fleet.publish(out)?;
        let value = |seq| Value { version, seq, token: lease.token };
        if let Some(seq) = stored.filter(|_| flight.reload) {
            self.took_effect(fleet, version, seq);
        }
        if answered {
            fleet.flights[f].step = Step::Filled(stored.map(value).ok_or(version));
        } else {
            fleet.land(f, version, Some(value(lease.seq)), self.mutant);
        }
        Some(())
    }
}
