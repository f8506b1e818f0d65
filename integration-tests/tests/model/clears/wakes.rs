//! The wait for a load of another node, and the wake-up with its value.

use super::fleet::{Fleet, Verdict};
use super::node::{Debt, Flight, Promise, Step};
use super::server::{Message, Value};
use super::{Mutant, NODES};

impl Fleet {
    /// `Queue::ticket`: from now on a wake-up is judged by this ticket.
    pub(super) fn take_ticket(&mut self, f: usize) {
        let flight = &mut self.flights[f];
        let side = &self.nodes[usize::from(flight.node)].sides[usize::from(flight.partition)];
        let wake = &mut flight.wake;
        wake.timely = side.serving.filter(|_| side.applied >= wake.need);
        (wake.last_seq, wake.brought) = (side.last_seq, None);
    }

    /// Whether no more wake-ups with a value will come. Then a wait only repeats the request.
    pub(super) fn wakes_are_over(&self, n: usize, partition: usize) -> bool {
        let is_woken = |message: &Message| matches!(message, Message::Woken(_));
        let waits = |flight: &Flight| flight.is_of(n, partition) && flight.step == Step::Waiting;
        self.left.wakes == 0
            && !self.nodes[n].sides[partition].bus.iter().any(is_woken)
            && !self.flights.iter().any(waits)
    }

    /// The end of `fill.lua`: the waiters are removed.
    pub(super) fn wake(&mut self, p: usize, stored: Option<Value>) -> Option<()> {
        let waiting = std::mem::take(&mut self.servers[p].waiting);
        let Some(value) = stored.filter(|_| self.left.wakes > 0) else { return Some(()) };
        for n in (0..NODES).filter(|n| waiting[*n]) {
            self.nodes[n].sides[p].bus.try_push(Message::Woken(value)).ok()?;
            self.left.wakes = self.left.wakes.saturating_sub(1);
        }
        Some(())
    }

    /// `Stripes::wake`.
    pub(super) fn wake_arrived(&mut self, n: usize, partition: usize, value: Value) {
        let listens = |step| matches!(step, Step::Ask | Step::Waiting);
        for flight in self.flights_of(n, partition).filter(|flight| listens(flight.step)) {
            flight.wake.brought = Some(value);
        }
    }

    /// `lease::brought`. If the value does not answer, the next request follows.
    pub(super) fn woken(&mut self, f: usize, mutant: Mutant) -> Option<()> {
        let flight = self.flights[f];
        let (Step::Waiting, Some(value)) = (flight.step, flight.wake.brought) else { return None };
        let side = &self.nodes[usize::from(flight.node)].sides[usize::from(flight.partition)];
        let timely = match mutant {
            Mutant::LateWakesAnswer => Some(flight.wake.timely.unwrap_or_default()),
            _ => flight.wake.timely,
        };
        let recent = value.seq >= flight.wake.last_seq
            && (value.seq >= side.floor || mutant == Mutant::WakesIgnoreTheFloor)
            && self.verdict(f, value, mutant != Mutant::AnswersIgnoreTags) == Verdict::Valid;
        match timely.filter(|_| recent && !flight.reload) {
            Some(promised) => {
                // The value was sent before it was requested, so it owes what L1 owes.
                self.flights[f].debt = Debt(promised, Promise::Staleness).max(flight.wake.bound);
                self.land(f, value.version, value.seq, Some(value), mutant);
            }
            None => self.ask_again(f, None),
        }
        Some(())
    }
}
