//! The cluster, the node, and a writer elsewhere. The functions have the names of those in the code.

use arrayvec::ArrayVec;

use super::node::{Flight, Message, Node, State, Step, Ticket};
use super::slot::{About, Acquired, Lock, Slot, Value, run_of};
use super::{Channels, Mutant};
use crate::phase::Phase;

/// Versions 0 (none) to 3.
const VERSIONS: usize = 4;
/// The token of what is stored or leased at the start.
const OLD_TOKEN: u8 = 9;

/// The events that may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub(super) moves: u8,
    pub(super) changes: u8,
    pub(super) gets: u8,
    pub(super) beats: u8,
    /// Serving leases that end because no echo arrives.
    pub(super) silences: u8,
}

/// The start of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// L2 has the value, and the node does not.
    Stored,
    /// The node has a copy of it.
    Held,
    /// The node loads it.
    Loading,
}

/// What must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Broken {
    L2,
    Staleness,
    Stamp,
    OneLoad,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) slot: Slot,
    pub(super) node: Node,
    channels: Channels,
    /// In an older cluster: messages on their way between the masters, and the one that they go to.
    pub(super) relayed: ArrayVec<(u8, Message), 2>,
    /// The version of the row, and the highest one whose invalidation has returned. It returns when it is executed.
    pub(super) row: u8,
    pub(super) promised: u8,
    /// The number of each version's invalidation.
    stamps: [u8; VERSIONS],
    /// Loads that have a reason: one for the cold key, each change and each move.
    loads_allowed: u8,
    pub(super) broken: Option<Broken>,
    /// A fill was refused.
    pub(super) refused: bool,
    pub(super) left: Budget,
}

impl World {
    pub(super) fn opening(opening: Opening, channels: Channels, left: Budget) -> Self {
        let value = Value { version: 1, seq: 1, token: OLD_TOKEN };
        let lease = Lock { token: OLD_TOKEN, seq: 1 };
        let mut node = Node::serving((opening == Opening::Held).then_some(value));
        let slot = match opening {
            Opening::Stored | Opening::Held => Slot::new(Some(value), None),
            Opening::Loading => {
                node.flights[0] = Flight { step: Step::Loading(lease), owed: 1, ..Flight::NONE };
                Slot::new(None, Some(lease))
            }
        };
        Self {
            slot,
            node,
            channels,
            relayed: ArrayVec::new(),
            row: 1,
            promised: 1,
            stamps: [0, 1, 0, 0],
            loads_allowed: 0,
            broken: None,
            refused: false,
            left,
        }
    }

    /// The master whose messages the node hears.
    fn heard_master(&self) -> Option<u8> {
        self.node.subscribed.then_some(self.node.seat)
    }

    fn publish(&mut self, master: u8, message: Message) -> Option<()> {
        if self.channels == Channels::Everywhere {
            // A message that does not fit is lost.
            let _ = self.relayed.try_push((1 - master, message));
        }
        self.deliver(master, message)
    }

    /// A master has a message for its subscribers.
    fn deliver(&mut self, master: u8, message: Message) -> Option<()> {
        if self.heard_master() == Some(master) {
            self.node.bus.try_push(message).ok()?;
        }
        Some(())
    }

    /// A master receives a message of the other one.
    pub(super) fn relayed(&mut self) -> Option<()> {
        let (master, message) = self.relayed.remove(0);
        self.deliver(master, message)
    }

    pub(super) fn given(&mut self) {
        self.slot.give();
        self.loads_allowed += 1;
    }

    /// The old master gives the slot up, and ends the subscriptions to its channels, unless it is older than Redis 7.0.
    pub(super) fn left(&mut self) -> Option<()> {
        let master = self.slot.leave();
        if self.channels == Channels::Everywhere {
            return Some(());
        }
        self.publish(master, Message::Unsubscribed)?;
        if self.heard_master() == Some(master) {
            self.node.subscribed = false;
        }
        Some(())
    }

    pub(super) fn subscribed(&mut self) {
        self.node.subscribed = true;
        self.node.bus.push(Message::Subscribed);
    }

    pub(super) fn change_executed(&mut self) -> Option<()> {
        let master = self.slot.executor(About::Everything)?;
        let seq = self.slot.invalidate();
        self.publish(master, Message::Invalidated(seq))?;
        self.stamps[usize::from(self.row)] = seq;
        self.loads_allowed += 1;
        self.promised = self.row;
        Some(())
    }

    pub(super) fn beat(&mut self, mutant: Mutant) -> Option<()> {
        let promised = self.promised;
        if mutant == Mutant::AnyMasterVouches
            && let Some(master) = self.heard_master().filter(|master| *master != self.slot.owner)
        {
            return self.publish(master, Message::Echo(self.node.applied, promised));
        }
        let master = self.slot.executor(About::State)?;
        let (_, seq, _) = self.slot.state();
        self.publish(master, Message::Echo(seq, promised))
    }

    pub(super) fn state_read(&mut self) -> Option<()> {
        self.slot.executor(About::State)?;
        let (run, seq, floor) = self.slot.state();
        self.node.state = Some(State { run, seq, floor, promised: self.promised });
        Some(())
    }

    pub(super) fn start(&mut self, mutant: Mutant) -> Option<()> {
        let f = self.node.flights.iter().position(|flight| flight.step == Step::None)?;
        // A hit is judged after every step.
        if self.hit(mutant).is_some() {
            return None;
        }
        let held = self.node.entry.map(|held| held.value);
        let step = match held {
            Some(_) => Step::Ask,
            None => Step::Get { plain: self.node.serving.is_some() },
        };
        self.node.flights[f] = Flight { step, ticket: Ticket::default(), owed: self.promised, held };
        Some(())
    }

    pub(super) fn get_executed(&mut self, f: usize) -> Option<()> {
        let Step::Get { plain } = self.node.flights[f].step else { return None };
        let master = self.slot.executor(if plain { About::Value } else { About::Everything })?;
        let floor = if plain { None } else { Some(self.slot.state().2) };
        self.node.flights[f].step = Step::Got { run: run_of(master), value: self.slot.value, floor };
        Some(())
    }

    /// Mutant: the master that the slot has left answers a read.
    pub(super) fn get_executed_by_old(&mut self, f: usize) -> Option<()> {
        let Step::Get { plain: true } = self.node.flights[f].step else { return None };
        let (run, value) = self.slot.copy()?;
        self.node.flights[f].step = Step::Got { run, value: Some(value), floor: None };
        Some(())
    }

    pub(super) fn got_answer(&mut self, f: usize) -> Option<()> {
        let Step::Got { run, value, floor } = self.node.flights[f].step else { return None };
        if floor.is_none() && !self.node.trusts(run) {
            self.node.flights[f].step = Step::Get { plain: false };
            return Some(());
        }
        let floor = floor.unwrap_or(self.node.floor);
        match value.filter(|value| value.seq >= floor) {
            Some(value) => self.land(f, value.version, Some(value)),
            None => self.ask(f),
        }
        Some(())
    }

    /// One round of `lease::pursue`, with a new ticket.
    pub(super) fn ask(&mut self, f: usize) {
        let flight = &mut self.node.flights[f];
        (flight.ticket, flight.step) = (Ticket::default(), Step::Ask);
    }

    pub(super) fn acquire_executed(&mut self, f: usize) -> Option<()> {
        self.slot.executor(About::Everything)?;
        let flight = self.node.flights[f];
        let acquired = self.slot.acquire(f as u8, flight.held.map(|value| value.token));
        if matches!(acquired, Acquired::Granted(_)) {
            match self.loads_allowed.checked_sub(1) {
                Some(rest) => self.loads_allowed = rest,
                None => self.broken = Some(Broken::OneLoad),
            }
        }
        self.node.flights[f].step = Step::Asked(acquired);
        Some(())
    }

    pub(super) fn acquire_answered(&mut self, f: usize) -> Option<()> {
        let flight = self.node.flights[f];
        let Step::Asked(acquired) = flight.step else { return None };
        match acquired {
            Acquired::Value(value) => self.land(f, value.version, Some(value)),
            Acquired::Unchanged => self.land(f, flight.held?.version, flight.held),
            Acquired::Granted(lease) => self.node.flights[f].step = Step::Loading(lease),
            Acquired::Busy => self.node.flights[f].step = Step::Waiting,
        }
        Some(())
    }

    pub(super) fn fill_executed(&mut self, f: usize, mutant: Mutant) -> Option<()> {
        let Step::Loaded(lease, version) = self.node.flights[f].step else { return None };
        self.slot.executor(About::Everything)?;
        let stored = self.slot.fill(lease, version, mutant);
        self.refused |= stored.is_none();
        self.node.flights[f].step = Step::Filled(stored.ok_or(version));
        Some(())
    }

    pub(super) fn fill_answered(&mut self, f: usize) -> Option<()> {
        let Step::Filled(filled) = self.node.flights[f].step else { return None };
        match filled {
            Ok(value) => self.land(f, value.version, Some(value)),
            Err(version) => self.land(f, version, None),
        }
        Some(())
    }

    fn land(&mut self, f: usize, version: u8, offer: Option<Value>) {
        if version < self.node.flights[f].owed {
            self.broken = Some(Broken::L2);
        }
        self.node.land(f, offer);
    }

    /// The answer of L1 now, and the version that its serving lease owes.
    pub(super) fn hit(&self, mutant: Mutant) -> Option<(Value, u8)> {
        let held = self.node.entry.filter(|held| held.verified)?;
        match self.node.serving {
            Some(promised) => Some((held.value, promised)),
            None if mutant == Mutant::ServeWhileSuspended => Some((held.value, self.promised)),
            None => None,
        }
    }

    /// Runs after every step: the answer of L1 is judged, without a stamp and with each that it may answer.
    pub(super) fn settle(&mut self, mutant: Mutant) {
        let Some((value, owed)) = self.hit(mutant) else { return };
        let reached = self.node.applied.max(value.seq);
        let newest = (1..VERSIONS).rev().find(|version| (1..=reached).contains(&self.stamps[*version]));
        if value.version < owed {
            self.broken = Some(Broken::Staleness);
        } else if newest.is_some_and(|version| usize::from(value.version) < version) {
            self.broken = Some(Broken::Stamp);
        }
    }

    /// Whether the node is subscribed, and will never know.
    pub(super) fn is_deaf_for_ever(&self) -> bool {
        let node = &self.node;
        node.subscribed && node.phase == Phase::Deaf && node.bus.is_empty()
    }
}
