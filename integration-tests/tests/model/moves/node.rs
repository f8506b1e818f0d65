//! A node: its partition (`liveness/partition.rs`), its seat (`topology/seats.rs`), the entry and the flights of the key.

use arrayvec::ArrayVec;

use super::Mutant;
use super::slot::{Acquired, Lock, Value};
use crate::phase::{Joined, Phase};

/// A message on the connection to the master of the seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Message {
    /// SSUBSCRIBE was confirmed.
    Subscribed,
    /// `I:<seq>`.
    Invalidated(u8),
    /// `H:<seq>`, with the version that had been promised when the heartbeat was sent.
    Echo(u8, u8),
    /// The master has ended the subscription: it has not the slot any more.
    Unsubscribed,
}

/// An entry of L1. `verified` means that its generation is that of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Held {
    pub(super) value: Value,
    pub(super) verified: bool,
}

/// The answer to `state.lua` on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) run: u8,
    pub(super) seq: u8,
    pub(super) floor: u8,
    pub(super) promised: u8,
}

/// A ticket, as the events since it was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ticket {
    spoiled: bool,
    heard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Not begun, or at its end.
    None,
    /// GET is on its way. `plain` means that the node judges the value by its own knowledge.
    Get {
        plain: bool,
    },
    /// The answer to GET is on its way. Unless it is plain, the floor comes with it.
    Got {
        run: u8,
        value: Option<Value>,
        floor: Option<u8>,
    },
    /// ACQUIRE is on its way.
    Ask,
    Asked(Acquired),
    /// Another acquisition holds the lease.
    Waiting,
    Loading(Lock),
    /// The row is read, and FILL is on its way.
    Loaded(Lock, u8),
    /// The answer to FILL is on its way: the value, or only its version.
    Filled(Result<Value, u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flight {
    pub(super) step: Step,
    pub(super) ticket: Ticket,
    /// The lowest version that L2 may answer with.
    pub(super) owed: u8,
    pub(super) held: Option<Value>,
}

impl Flight {
    pub(super) const NONE: Self =
        Self { step: Step::None, ticket: Ticket { spoiled: false, heard: false }, owed: 0, held: None };
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    /// The master that has the slot by the map that the node follows.
    pub(super) seat: u8,
    /// Whether that master has it as a subscriber.
    pub(super) subscribed: bool,
    pub(super) bus: ArrayVec<Message, 3>,
    pub(super) phase: Phase,
    pub(super) run: u8,
    pub(super) applied: u8,
    pub(super) floor: u8,
    last_seq: u8,
    /// The serving lease, as the version that had been promised when the request for it was executed.
    pub(super) serving: Option<u8>,
    pub(super) state: Option<State>,
    pub(super) entry: Option<Held>,
    pub(super) flights: [Flight; 2],
    /// Mutant: the old subscription that ends when the new one has begun.
    pub(super) ending: bool,
}

impl Node {
    pub(super) fn serving(entry: Option<Value>) -> Self {
        Self {
            seat: 0,
            subscribed: true,
            bus: ArrayVec::new(),
            phase: Phase::Live,
            run: 1,
            applied: 1,
            floor: 1,
            last_seq: 0,
            serving: Some(1),
            state: None,
            entry: entry.map(|value| Held { value, verified: true }),
            flights: [Flight::NONE; 2],
            ending: false,
        }
    }

    /// `Partition::suspend`.
    pub(super) fn suspend(&mut self, phase: Phase) {
        (self.phase, self.serving) = (phase, None);
    }

    /// `Partition::answered_by`, and whether the answer is about the server that the node knows.
    pub(super) fn trusts(&mut self, run: u8) -> bool {
        if self.phase == Phase::Live && self.run != run {
            self.suspend(Phase::Syncing(None));
        }
        self.run == run
    }

    /// `Seats::follow`: nothing of the old connection arrives any more.
    pub(super) fn follow(&mut self, mutant: Mutant) {
        self.seat = 1 - self.seat;
        self.subscribed = false;
        self.bus.clear();
        if mutant == Mutant::NewSeatFirst {
            self.ending = true;
        }
        self.suspend(Phase::Deaf);
    }

    /// `Listener::notify`.
    pub(super) fn notify(&mut self, message: Message) {
        match message {
            Message::Subscribed => self.suspend(Phase::Syncing(None)),
            Message::Unsubscribed => self.suspend(Phase::Deaf),
            Message::Invalidated(seq) => {
                self.flights.iter_mut().for_each(|flight| flight.ticket.heard = true);
                self.last_seq = self.last_seq.max(seq);
                self.entry = self.entry.filter(|held| held.value.seq >= seq);
                (self.phase, self.applied) = self.phase.heard(seq, self.applied);
                if self.phase != Phase::Live {
                    self.serving = None;
                }
            }
            Message::Echo(seq, promised) => match self.phase {
                Phase::Live if seq == self.applied => self.serving = self.serving.max(Some(promised)),
                Phase::Live => self.suspend(Phase::Syncing(None)),
                Phase::Deaf | Phase::Syncing(_) => {}
            },
        }
    }

    /// `Partition::baseline`.
    pub(super) fn baseline(&mut self, state: State, mutant: Mutant) {
        let Phase::Syncing(heard) = self.phase else { return };
        let (reached, missed) = match Joined::of(heard, state.seq, self.applied) {
            Joined::Whole(reached) => (reached, false),
            Joined::Missed(reached) => (reached, true),
            Joined::Again => return self.suspend(Phase::Syncing(None)),
        };
        if missed || self.run != state.run {
            self.floor = self.floor.max(state.floor);
            self.move_generation(mutant);
        }
        (self.applied, self.run) = (reached, state.run);
        (self.phase, self.serving) = (Phase::Live, Some(state.promised));
    }

    fn move_generation(&mut self, mutant: Mutant) {
        if mutant != Mutant::EntriesGoOn {
            self.entry = self.entry.map(|held| Held { verified: false, ..held });
        }
        if mutant != Mutant::TicketsGoOn {
            self.flights.iter_mut().for_each(|flight| flight.ticket.spoiled = true);
        }
    }

    /// `Lead::land`, `Stripe::admit`.
    pub(super) fn land(&mut self, f: usize, offer: Option<Value>) {
        let Flight { ticket, .. } = std::mem::replace(&mut self.flights[f], Flight::NONE);
        let admitted = |value: &Value| !ticket.spoiled && (!ticket.heard || self.last_seq <= value.seq);
        if let Some(value) = offer.filter(admitted) {
            self.entry = Some(Held { value, verified: true });
        }
    }
}
