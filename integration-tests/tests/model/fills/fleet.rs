//! The state of a fleet. The functions have the names of those in the code.

use super::mutant::Mutant;
use super::node::{Debt, Flight, Held, Node, Step, Ticket};
use super::server::{Message, Publication, Server, Value};
use crate::phase::Phase;

pub(crate) const NODES: usize = 2;
pub(crate) const FLIGHTS: usize = 3;
pub(crate) const CHANGES: usize = 2;
/// Versions 0 (none) to this.
pub(crate) const VERSIONS: usize = CHANGES + 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Progress {
    Unused,
    /// The command is on its way.
    Sent,
    /// Mutant: the message was sent, and the value is still stored.
    Published(u8),
    /// It was executed with this number. The answer is on its way.
    Executed(u8),
    /// The caller was told that the outcome is unknown. The retry is on its way.
    Retrying,
    /// The retry was executed.
    Retried(u8),
    Done,
}

/// A commit, and then the invalidation or insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Change {
    pub(crate) node: u8,
    pub(crate) version: u8,
    pub(crate) put: bool,
    pub(crate) progress: Progress,
    /// Whether a command whose deadline is over may still be executed.
    pub(crate) stuck: bool,
    pub(crate) ticket: Ticket,
}

impl Change {
    pub(crate) const UNUSED: Self = Self {
        node: 0,
        version: 0,
        put: false,
        progress: Progress::Unused,
        stuck: false,
        ticket: Flight::UNUSED.ticket,
    };
}

/// The faults that may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Budget {
    pub(crate) flights: u8,
    pub(crate) reloads: u8,
    pub(crate) changes: u8,
    pub(crate) puts: u8,
    pub(crate) beats: u8,
    pub(crate) losses: u8,
    pub(crate) disconnects: u8,
    pub(crate) failovers: u8,
    pub(crate) flushes: u8,
    pub(crate) lapses: u8,
    pub(crate) timeouts: u8,
    /// Serving leases that end because no echo arrives.
    pub(crate) silences: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Fleet {
    pub(crate) nodes: [Node; NODES],
    pub(crate) server: Server,
    pub(crate) replica: Option<super::server::Memory>,
    pub(crate) flights: [Flight; FLIGHTS],
    pub(crate) changes: [Change; CHANGES],
    /// The version of the row, and the versions whose invalidation was executed and has returned.
    pub(crate) row: u8,
    pub(crate) executed: u8,
    pub(crate) promised: u8,
    /// The number of each version's invalidation. This is its stamp.
    pub(crate) stamps: [u8; VERSIONS],
    /// Loads that have a reason: one for the cold key, and one for each event that voids a value or a lease.
    pub(crate) loads_allowed: u8,
    pub(crate) broken: Option<Promise>,
    pub(crate) left: Budget,
}

/// The promises, with the numbers of the documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Promise {
    L2,
    Staleness,
    Own,
    Stamp,
    OneLoad,
}

impl Fleet {
    pub(crate) fn publish(&mut self, out: Vec<Publication>) -> Option<()> {
        for (to, message) in out {
            for (n, node) in self.nodes.iter_mut().enumerate() {
                if node.subscribed && to & (1 << n) != 0 {
                    node.bus.try_push(message).ok()?;
                }
            }
        }
        Some(())
    }

    /// `Partition::move_generation`, or a flush.
    pub(crate) fn move_generation(&mut self, n: usize) {
        if let Some(held) = &mut self.nodes[n].entry {
            held.verified = false;
        }
        for flight in self.flights_of(n) {
            flight.joinable = false;
            flight.ticket.spoiled = true;
        }
        for change in self.changes.iter_mut().filter(|change| usize::from(change.node) == n) {
            change.ticket.spoiled = true;
        }
    }

    fn flights_of(&mut self, n: usize) -> impl Iterator<Item = &mut Flight> {
        let begun = |step: Step| !matches!(step, Step::Unused | Step::Done);
        self.flights.iter_mut().filter(move |flight| usize::from(flight.node) == n && begun(flight.step))
    }

    /// `stripe.local += 1`.
    fn move_local(&mut self, n: usize) {
        self.flights_of(n).for_each(|flight| flight.ticket.spoiled = true);
        for change in self.changes.iter_mut().filter(|change| usize::from(change.node) == n) {
            change.ticket.spoiled = true;
        }
    }

    /// `Stripes::change_begins`.
    pub(crate) fn change_begins(&mut self, n: usize, mutant: Mutant) {
        self.move_local(n);
        self.nodes[n].entry = None;
        if mutant != Mutant::JoinAfterInvalidation {
            self.nodes[n].flight = None;
        }
    }

    /// `Stripes::changed`.
    pub(crate) fn changed(&mut self, n: usize, seq: u8, mutant: Mutant) {
        self.flights_of(n).for_each(|flight| flight.ticket.heard = true);
        for change in self.changes.iter_mut().filter(|change| usize::from(change.node) == n) {
            change.ticket.heard = true;
        }
        let node = &mut self.nodes[n];
        node.last_seq = node.last_seq.max(seq);
        if node.entry.is_some_and(|held| held.value.seq < seq) {
            node.entry = None;
        }
        if let Some(flight) = node.flight
            && self.flights[usize::from(flight)].seq < seq
            && mutant != Mutant::JoinAfterInvalidation
        {
            self.nodes[n].flight = None;
        }
    }

    /// `Stripe::ticket`.
    pub(crate) fn ticket(&self, n: usize) -> Ticket {
        let node = &self.nodes[n];
        let reached = node.reached.max(node.applied);
        Ticket { reached, last_seq: node.last_seq, ..Ticket::default() }
    }

    /// `Queue::ticket`: earlier wake-ups are forgotten.
    pub(crate) fn ask(&mut self, f: usize) {
        let n = usize::from(self.flights[f].node);
        let mut ticket = self.ticket(n);
        let heard_of_it = self.nodes[n].applied >= self.flights[f].need;
        ticket.timely = self.nodes[n].serving.filter(|_| heard_of_it);
        let flight = &mut self.flights[f];
        flight.ticket = ticket;
        flight.woken = None;
        flight.step = Step::Ask;
    }

    /// `Stripe::admit`'s verdict.
    pub(crate) fn admissible(&self, n: usize, ticket: Ticket, value: Value, mutant: Mutant) -> bool {
        mutant == Mutant::NoStamp
            || (!ticket.spoiled && (!ticket.heard || self.nodes[n].last_seq <= value.seq))
    }

    pub(crate) fn store(&mut self, n: usize, value: Value) {
        self.nodes[n].entry = Some(Held { value, verified: true });
    }

    /// `Lead::land`: the answer, and the entry that L1 is offered.
    pub(crate) fn land(&mut self, f: usize, version: u8, offer: Option<Value>, mutant: Mutant) {
        let flight = self.flights[f];
        let n = usize::from(flight.node);
        self.answer(version, flight.debt);
        let admitted = offer.filter(|value| self.admissible(n, flight.ticket, *value, mutant));
        if self.nodes[n].flight == Some(f as u8) {
            self.nodes[n].flight = None;
        }
        self.flights[f] = Flight::DONE;
        match admitted {
            Some(value) if mutant == Mutant::CheckThenInsert => {
                self.flights[f] = Flight { step: Step::Checked(value), node: flight.node, ..Flight::DONE };
            }
            Some(value) => self.store(n, value),
            None => {}
        }
        if flight.reload {
            self.move_local(n);
        }
    }

    /// Checks that an answer is not older than its promises allow.
    fn answer(&mut self, version: u8, debt: Debt) {
        let broken = [
            (debt.l2, Promise::L2),
            (debt.own, Promise::Own),
            (debt.stamp, Promise::Stamp),
            (debt.staleness, Promise::Staleness),
        ];
        self.broken = self.broken.or(broken.iter().find(|(least, _)| version < *least).map(|(_, p)| *p));
    }

    /// The highest version whose stamp is at most `seq`.
    fn stamped(&self, seq: u8) -> u8 {
        let stamped = |version: &usize| self.stamps[*version] != 0 && self.stamps[*version] <= seq;
        (0..VERSIONS).filter(stamped).max().unwrap_or(0) as u8
    }

    /// The answer of L1 on this node now, and the versions that it owes.
    pub(crate) fn hit(&self, n: usize, mutant: Mutant) -> Option<(u8, Debt)> {
        let node = &self.nodes[n];
        let held = node.entry.filter(|held| held.verified)?;
        let staleness = match node.serving {
            Some(promised) => promised,
            None if mutant == Mutant::ServeWhileSuspended => self.promised,
            None => return None,
        };
        let stamp = self.stamped(node.applied.max(held.value.seq));
        Some((held.value.version, Debt { l2: 0, staleness, own: node.own, stamp }))
    }

    /// Runs after every step: all lookups that may join a flight join it, and the answer of L1 is checked.
    pub(crate) fn settle(&mut self, mutant: Mutant) {
        for n in 0..NODES {
            if let Some((version, debt)) = self.hit(n, mutant) {
                self.answer(version, debt);
            }
            let node = &self.nodes[n];
            let Some(f) = node.flight else { continue };
            let flight = self.flights[usize::from(f)];
            if !flight.joinable {
                continue;
            }
            let staleness = match node.serving {
                Some(promised) => promised,
                None if mutant == Mutant::JoinWhileSuspended => self.promised,
                None => flight.started,
            };
            let (own, stamp) = (node.own, self.stamped(flight.seq.max(flight.need)));
            let debt = &mut self.flights[usize::from(f)].debt;
            debt.staleness = debt.staleness.max(staleness);
            debt.own = debt.own.max(own);
            debt.stamp = debt.stamp.max(stamp);
        }
    }

    /// Removes state that no later step reads, so that states which differ only in it become one.
    pub(crate) fn forget(&mut self) {
        for (f, flight) in self.flights.iter_mut().enumerate() {
            if matches!(flight.step, Step::Unused | Step::Done | Step::Checked(_)) {
                continue;
            }
            if self.nodes[usize::from(flight.node)].flight != Some(f as u8) {
                (flight.seq, flight.started, flight.joinable) = (0, 0, false);
            }
            if matches!(flight.step, Step::Loading(_) | Step::Loaded(..) | Step::Filled(_)) {
                (flight.held, flight.woken, flight.need) = (None, None, 0);
                (flight.ticket.last_seq, flight.ticket.timely) = (0, None);
                let Debt { l2, staleness, own, stamp } = &mut flight.debt;
                // A weaker promise is broken only together with a stronger one.
                for least in [staleness, own, stamp] {
                    *least = if *least <= *l2 { 0 } else { *least };
                }
            }
            if matches!(flight.step, Step::Loading(Ok(_)) | Step::Loaded(Ok(_), _) | Step::Filled(_)) {
                flight.ticket.reached = 0;
            }
        }
        for node in self.nodes.iter_mut().filter(|node| node.reached <= node.applied) {
            node.reached = 0;
        }
        for change in &mut self.changes {
            if !change.put {
                change.ticket = Ticket::default();
            }
            if change.progress == Progress::Done && !change.stuck {
                *change = Change { progress: Progress::Done, ..Change::UNUSED };
            }
        }
    }

    /// The same fleet with its two nodes exchanged.
    pub(crate) fn exchanged(&self) -> Self {
        let mut other = self.clone();
        other.nodes.swap(0, 1);
        for flight in &mut other.flights {
            if !matches!(flight.step, Step::Unused | Step::Done) {
                flight.node = 1 - flight.node;
            }
        }
        for change in &mut other.changes {
            if !matches!(change.progress, Progress::Unused | Progress::Done) || change.stuck {
                change.node = 1 - change.node;
            }
        }
        let swap = |bits: u8| (bits >> 1) | ((bits & 1) << 1);
        other.server.memory.waiting = swap(self.server.memory.waiting);
        if let Some(replica) = &mut other.replica {
            replica.waiting = swap(replica.waiting);
        }
        other
    }

    /// Whether a node serves the newest version, with a serving lease from after its change.
    pub(crate) fn newly_served(&self) -> bool {
        let newest = |node: &Node| {
            node.phase == Phase::Live
                && node.serving == Some(self.row)
                && node.entry.is_some_and(|held| held.verified && held.value.version == self.row)
        };
        self.promised == self.row && self.nodes.iter().any(newest)
    }

    pub(crate) fn deliver(&mut self, n: usize, message: Message, mutant: Mutant) {
        match message {
            Message::Subscribed => self.nodes[n].suspend(Phase::Syncing(None)),
            Message::Invalidated(seq) => {
                self.changed(n, seq, mutant);
                self.nodes[n].heard(seq);
            }
            Message::Echo(seq, promised) => self.nodes[n].echoed(seq, promised, mutant),
            Message::Woken(value) => {
                self.flights_of(n).filter(|flight| flight.listens()).for_each(|f| f.woken = Some(value));
            }
        }
    }
}
