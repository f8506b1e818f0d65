//! The state of the fleet, and the steps of lookups, changes and messages. The steps have the names of their
//! functions in the code.

use super::node::{Debt, Flight, Held, Node, Promise, Side, Step, Wake};
use super::server::{Acquired, Lock, Message, Server, Value};
use super::{CHANGES, FLIGHTS, Mutant, NODES, PARTITIONS, Scene, VERSIONS};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Tag,
    Clear,
}

/// The progress of a change in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Progress {
    Sent,
    /// It was executed with this number. The answer is on its way.
    Executed(u8),
    Answered,
}

/// A commit of every row, and then the invalidation of their tag or of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Change {
    pub(super) node: u8,
    pub(super) version: u8,
    pub(super) kind: Kind,
    pub(super) progress: [Progress; PARTITIONS],
    /// Its outcome was unknown. This is the state of its retry.
    pub(super) retried: bool,
}

impl Change {
    pub(super) fn is_answered(&self) -> bool {
        self.progress.iter().all(|progress| *progress == Progress::Answered)
    }

    /// Retries are repeated until they succeed. Only the last one matters here.
    pub(super) fn may_fail(&self) -> bool {
        self.kind == Kind::Tag && !self.retried && !self.is_answered()
    }
}

/// The events that may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Budget {
    pub(super) flights: u8,
    pub(super) reloads: u8,
    pub(super) joiners: u8,
    pub(super) tags: u8,
    pub(super) clears: u8,
    /// Invalidations of the tag whose outcome is unknown.
    pub(super) failures: u8,
    /// Invalidations of another tag.
    pub(super) others: u8,
    pub(super) evictions: u8,
    pub(super) beats: u8,
    /// Wake-ups with a value.
    pub(super) wakes: u8,
    pub(super) losses: u8,
}

/// The verdict of a node about a stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Valid,
    Void,
    /// An invalidation of its tag on this node may not have reached the server.
    Pending,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Fleet {
    pub(super) nodes: [Node; NODES],
    pub(super) servers: [Server; PARTITIONS],
    pub(super) flights: [Flight; FLIGHTS],
    pub(super) changes: [Option<Change>; CHANGES],
    /// The version of the rows; and, for each partition, the version whose invalidation was executed and the
    /// version whose invalidation has returned.
    pub(super) row: u8,
    pub(super) executed: [u8; PARTITIONS],
    pub(super) promised: u8,
    /// For each partition, the number of each version's invalidation. This is its stamp.
    pub(super) stamps: [[u8; VERSIONS]; PARTITIONS],
    pub(super) broken: Option<Promise>,
    pub(super) asked_again: bool,
    pub(super) left: Budget,
}

impl Fleet {
    pub(super) fn opening(scene: &Scene) -> Self {
        // Numbers of two partitions cannot be compared.
        let seq = |partition: usize| 1 + 2 * partition as u8;
        let old = |partition| Value { version: 1, seq: seq(partition) };
        let held = |partition| Some(old(partition)).filter(|_| scene.warm && partition < scene.partitions);
        let node = Node { sides: std::array::from_fn(|p| Side::live(seq(p), held(p))), own: 1 };
        let mut stamps = [[0; VERSIONS]; PARTITIONS];
        (0..PARTITIONS).for_each(|p| stamps[p][1] = seq(p));
        let mut nodes = [node.clone(), node];
        if scene.late_wake {
            nodes[0].sides[0].bus.push(Message::Woken(old(0)));
        }
        Self {
            nodes,
            servers: std::array::from_fn(|p| Server::new(seq(p), held(p))),
            flights: [Flight::UNUSED; FLIGHTS],
            changes: [None; CHANGES],
            row: 1,
            executed: [1; PARTITIONS],
            promised: 1,
            stamps,
            broken: None,
            asked_again: false,
            left: scene.budget,
        }
    }

    pub(super) fn publish(&mut self, partition: usize, message: Message) -> Option<()> {
        self.nodes.iter_mut().try_for_each(|node| node.sides[partition].bus.try_push(message).ok())
    }

    pub(super) fn answer(&mut self, version: u8, Debt(least, promise): Debt) {
        if version < least {
            self.broken = self.broken.or(Some(promise));
        }
    }

    /// The number that a lookup requires if it has the stamp of this version.
    fn need(&self, partition: usize, version: u8, mutant: Mutant) -> u8 {
        let partition = if mutant == Mutant::OneNumberForAllPartitions { 0 } else { partition };
        self.stamps[partition][usize::from(version)]
    }

    /// The version that is owed to a lookup that requires this number.
    fn stamped(&self, partition: usize, seq: u8, mutant: Mutant) -> u8 {
        let allowed = |version: &u8| (1..=seq).contains(&self.need(partition, *version, mutant));
        (1..=self.promised).filter(allowed).max().unwrap_or(0)
    }

    /// The version that an answer owes because of the serving lease and this number.
    fn owes(&self, n: usize, partition: usize, seq: u8, mutant: Mutant) -> Option<Debt> {
        let serving = self.nodes[n].sides[partition].serving?;
        let stamp = Debt(self.stamped(partition, seq, mutant), Promise::Stamp);
        Some(Debt(serving, Promise::Staleness).max(stamp).max(Debt(self.nodes[n].own, Promise::Own)))
    }

    /// Checks the answer of L1 after every step.
    pub(super) fn settle(&mut self, mutant: Mutant) {
        for n in 0..NODES {
            for p in 0..PARTITIONS {
                let side = &self.nodes[n].sides[p];
                let by_tag = |seq| side.tags.voids(seq) && mutant != Mutant::HitsIgnoreTags;
                let Some(held) = side.entry.filter(|held| held.current && !by_tag(held.value.seq)) else {
                    continue;
                };
                if let Some(debt) = self.owes(n, p, side.applied.max(held.value.seq), mutant) {
                    self.answer(held.value.version, debt);
                }
            }
        }
    }

    /// The flights of a node in a partition.
    pub(super) fn flights_of(&mut self, n: usize, partition: usize) -> impl Iterator<Item = &mut Flight> {
        self.flights.iter_mut().filter(move |flight| flight.is_of(n, partition))
    }

    /// `Partition::next_generation`.
    pub(super) fn move_generation(&mut self, n: usize, partition: usize, mutant: Mutant) {
        if let Some(held) = &mut self.nodes[n].sides[partition].entry {
            held.current = false;
        }
        for flight in self.flights_of(n, partition) {
            flight.spoiled = true;
            flight.joinable &= mutant == Mutant::JoinFromBeforeClear;
        }
    }

    /// `Partition::cleared`.
    pub(super) fn cleared(&mut self, n: usize, partition: usize, seq: u8, mutant: Mutant) {
        if self.nodes[n].sides[partition].floor < seq {
            self.nodes[n].sides[partition].floor = seq;
            self.move_generation(n, partition, mutant);
        }
    }

    /// `Stripes::changed`.
    fn changed(&mut self, n: usize, partition: usize, seq: u8) {
        self.flights_of(n, partition).for_each(|flight| flight.heard = true);
        let side = &mut self.nodes[n].sides[partition];
        side.last_seq = side.last_seq.max(seq);
        side.entry = side.entry.filter(|held| held.value.seq >= seq);
        if side.flight.is_some_and(|f| self.flights[usize::from(f)].seq < seq) {
            side.flight = None;
        }
    }

    /// `Listener::notify`.
    pub(super) fn deliver(&mut self, n: usize, partition: usize, mutant: Mutant) -> Option<()> {
        let message = self.nodes[n].sides[partition].bus.pop_at(0)?;
        match message {
            Message::Invalidated(seq) => self.changed(n, partition, seq),
            Message::Cleared(seq) => self.cleared(n, partition, seq, mutant),
            Message::TagInvalidated(tag, seq) => {
                self.nodes[n].sides[partition].tags.raise(tag, seq, mutant);
            }
            Message::Woken(value) => self.wake_arrived(n, partition, value),
            Message::Echo(seq, promised) => self.nodes[n].sides[partition].echoed(seq, promised),
        }
        if let Message::Invalidated(seq) | Message::Cleared(seq) | Message::TagInvalidated(_, seq) = message {
            self.nodes[n].sides[partition].heard(seq);
        }
        Some(())
    }

    pub(super) fn beat(&mut self, n: usize, partition: usize) -> Option<()> {
        let echo = Message::Echo(self.servers[partition].seq, self.promised);
        self.nodes[n].sides[partition].bus.try_push(echo).ok()
    }

    pub(super) fn baseline(&mut self, n: usize, partition: usize, mutant: Mutant) -> Option<()> {
        let known = self.nodes[n].sides[partition].known.take()?;
        if self.nodes[n].sides[partition].baseline(known, mutant) {
            self.move_generation(n, partition, mutant);
        }
        Some(())
    }

    /// `one::get_or_load` up to its first command: the probe, `Stripes::enter` as a leader.
    pub(super) fn start(
        &mut self,
        n: usize,
        partition: usize,
        (reload, insist): (bool, bool),
        mutant: Mutant,
    ) -> Option<()> {
        let f = self.flights.iter().position(|flight| flight.step == Step::Unused)?;
        let side = &self.nodes[n].sides[partition];
        let need = if insist { self.need(partition, self.promised, mutant) } else { 0 };
        if insist && need <= side.applied {
            return None;
        }
        let known = side.serving.filter(|_| side.applied >= need);
        // A lookup that requires a lower number than the applied one is equal to one without a requirement.
        let stamp = if insist { self.promised } else { self.stamped(partition, side.applied, mutant) };
        let least = match known {
            Some(promised) if !reload => Debt(promised, Promise::Staleness),
            _ => Debt(self.executed[partition], Promise::L2),
        };
        let own = Debt(self.nodes[n].own, Promise::Own);
        // The entry is expired, refused, or of an earlier generation. Then L2 is asked about its token.
        let held = side.entry.filter(|held| !held.current && !reload);
        let held = held.filter(|held| !(held.marked && side.pending)).map(|held| held.value);
        let get = Step::Get { plain: known.is_some() };
        self.flights[f] = Flight {
            node: n as u8,
            partition: partition as u8,
            step: if reload || held.is_some() { Step::Ask } else { get },
            reload,
            joinable: true,
            seq: side.applied,
            debt: least.max(Debt(stamp, Promise::Stamp)).max(own),
            held,
            wake: Wake { need, bound: Debt(stamp, Promise::Stamp).max(own), ..Wake::NONE },
            ..Flight::UNUSED
        };
        self.nodes[n].sides[partition].flight = Some(f as u8);
        self.take_ticket(f);
        Some(())
    }

    /// `Stripes::enter` of a lookup that joins, at any time.
    pub(super) fn join(&mut self, f: usize, mutant: Mutant) -> Option<()> {
        let Flight { node, partition, seq, joinable, joiner, .. } = self.flights[f];
        let (n, p) = (usize::from(node), usize::from(partition));
        let side = &self.nodes[n].sides[p];
        if !joinable || joiner.is_some() || side.flight != Some(f as u8) {
            return None;
        }
        let debt = self.owes(n, p, seq, mutant)?;
        self.flights[f].joiner = Some((side.tags.latest, debt));
        Some(())
    }

    /// `get_valid.lua`, or GET.
    pub(super) fn get_executed(&mut self, f: usize, mutant: Mutant) -> Option<()> {
        let Step::Get { plain } = self.flights[f].step else { return None };
        let server = &self.servers[usize::from(self.flights[f].partition)];
        let value = if plain { server.value } else { server.valid(mutant) };
        self.flights[f].step = Step::Got { plain, value };
        Some(())
    }

    /// `L2::verdict`, `progress::read`; then a ticket for the next question: `Queue::ticket`.
    pub(super) fn got(&mut self, f: usize, mutant: Mutant) -> Option<()> {
        let flight = self.flights[f];
        let Step::Got { plain, value } = flight.step else { return None };
        let side = &self.nodes[usize::from(flight.node)].sides[usize::from(flight.partition)];
        let floor = |value: &Value| value.seq < side.floor && mutant != Mutant::PlainReadsIgnoreTheFloor;
        let unheeded = if plain { Mutant::PlainReadsIgnoreTags } else { Mutant::AnswersIgnoreTags };
        let verdict = value.map_or(Verdict::Void, |value| self.verdict(f, value, mutant != unheeded));
        match value.filter(|value| verdict == Verdict::Valid && !(plain && floor(value))) {
            Some(value) => self.land(f, value.version, value.seq, Some(value), mutant),
            None => self.ask_again(f, value),
        }
        Some(())
    }

    /// `L2::verdict` for a value with the tag: pending invalidations first, then the node's own tags.
    pub(super) fn verdict(&self, f: usize, value: Value, heed_tags: bool) -> Verdict {
        let flight = self.flights[f];
        let side = &self.nodes[usize::from(flight.node)].sides[usize::from(flight.partition)];
        match side.tags.voids(value.seq) && heed_tags {
            _ if side.pending => Verdict::Pending,
            true => Verdict::Void,
            false => Verdict::Valid,
        }
    }

    pub(super) fn ask_again(&mut self, f: usize, useless: Option<Value>) {
        let flight = &mut self.flights[f];
        (flight.step, flight.spoiled, flight.heard) = (Step::Ask, false, false);
        flight.useless = useless.or(flight.useless);
        self.take_ticket(f);
    }

    /// `lease::reply`. An unchanged value was judged before.
    pub(super) fn found(&mut self, f: usize, mutant: Mutant) -> Option<()> {
        let Step::Found { value, unchanged } = self.flights[f].step else { return None };
        let heed_tags = mutant != Mutant::AnswersIgnoreTags;
        match unchanged || self.verdict(f, value, heed_tags) == Verdict::Valid {
            true => self.land(f, value.version, value.seq, Some(value), mutant),
            false => self.ask_again(f, Some(value)),
        }
        Some(())
    }

    /// `acquire.lua`.
    pub(super) fn acquire_executed(&mut self, f: usize, mutant: Mutant) -> Option<()> {
        let flight = self.flights[f];
        let (n, p) = (usize::from(flight.node), usize::from(flight.partition));
        let over = self.wakes_are_over(n, p);
        let server = &mut self.servers[p];
        let answers = |value: &Value| !flight.reload && flight.useless != Some(*value);
        let step = match server.acquire(f as u8, flight.held, answers, mutant) {
            Some(Acquired::Value(value)) => Step::Found { value, unchanged: false },
            Some(Acquired::Unchanged(value)) => Step::Found { value, unchanged: true },
            Some(Acquired::Granted(lease)) => Step::Loading(lease),
            None if over => return None,
            None => {
                server.waiting[n] = true;
                Step::Waiting
            }
        };
        self.flights[f].step = step;
        Some(())
    }

    /// `Queue::wait`, and a new ticket: another node holds the lease.
    pub(super) fn polled(&mut self, f: usize) {
        self.ask_again(f, None);
    }

    /// `load::produce`, under a lease whose grant has arrived.
    pub(super) fn row_read(&mut self, f: usize, lease: Lock) {
        let flight = &mut self.flights[f];
        flight.seq = flight.seq.max(lease.seq);
        flight.step = Step::Loaded(lease, self.row);
    }

    /// `fill.lua`.
    pub(super) fn fill_executed(&mut self, f: usize, mutant: Mutant) -> Option<()> {
        let flight = self.flights[f];
        let (Step::Loaded(lease, version), p) = (flight.step, usize::from(flight.partition)) else {
            return None;
        };
        let seq = self.servers[p].fill(lease, version, flight.reload, mutant);
        if let Some(seq) = seq.filter(|_| flight.reload) {
            self.publish(p, Message::Invalidated(seq))?;
        }
        self.wake(p, seq.map(|seq| Value { version, seq }))?;
        self.flights[f].step = Step::Filled { version, loaded_at: lease.seq, seq };
        Some(())
    }

    /// `load::filled`.
    pub(super) fn filled(&mut self, f: usize, mutant: Mutant) -> Option<()> {
        let Flight { step: Step::Filled { version, loaded_at, seq }, reload, node, partition, .. } =
            self.flights[f]
        else {
            return None;
        };
        let (n, p) = (usize::from(node), usize::from(partition));
        if let Some(seq) = seq.filter(|_| reload) {
            self.changed(n, p, seq);
        }
        self.land(f, version, loaded_at, seq.map(|seq| Value { version, seq }), mutant);
        Some(())
    }

    /// `Lead::land`: L1 first, then the leader, then the lookup that has joined: `Flight::too_old_since`.
    pub(super) fn land(&mut self, f: usize, version: u8, source: u8, offer: Option<Value>, mutant: Mutant) {
        let flight = self.flights[f];
        let (n, p) = (usize::from(flight.node), usize::from(flight.partition));
        let side = &mut self.nodes[n].sides[p];
        let admissible = |value: &Value| !flight.spoiled && (!flight.heard || side.last_seq <= value.seq);
        if let Some(value) = offer.filter(admissible) {
            side.entry = Some(Held { value, current: true, marked: false });
        }
        if side.flight == Some(f as u8) {
            side.flight = None;
        }
        let tags = side.tags;
        self.flights[f] = Flight::DONE;
        if flight.reload {
            self.flights_of(n, p).for_each(|flight| flight.spoiled = true);
        }
        self.answer(version, flight.debt);
        if let Some((known, debt)) = flight.joiner {
            match source < known && tags.voids(source) && mutant != Mutant::JoinersTakeAnything {
                true => self.asked_again = true,
                false => self.answer(version, debt),
            }
        }
    }

    /// Removes state that no later step reads, so that states which differ only in it become one.
    pub(super) fn forget(&mut self) {
        let over = std::array::from_fn::<_, NODES, _>(|n| {
            std::array::from_fn::<_, PARTITIONS, _>(|p| self.wakes_are_over(n, p))
        });
        for (f, flight) in self.flights.iter_mut().enumerate() {
            let side = &self.nodes[usize::from(flight.node)].sides[usize::from(flight.partition)];
            if side.flight != Some(f as u8) {
                (flight.seq, flight.joinable) = (0, false);
            }
            if !matches!(flight.step, Step::Ask | Step::Waiting) {
                flight.held = None;
            }
            let asks = matches!(flight.step, Step::Get { .. } | Step::Got { .. } | Step::Ask | Step::Waiting);
            if !asks || over[usize::from(flight.node)][usize::from(flight.partition)] {
                flight.wake = Wake::NONE;
            }
        }
        for change in self.changes.iter_mut().flatten() {
            if change.is_answered() {
                *change = Change { node: 0, version: 0, kind: Kind::Tag, retried: false, ..*change };
            }
        }
    }

    /// The same fleet with its two nodes exchanged.
    pub(super) fn exchanged(&self) -> Self {
        let mut other = self.clone();
        other.nodes.swap(0, 1);
        other.servers.iter_mut().for_each(|server| server.waiting.swap(0, 1));
        for flight in &mut other.flights {
            if !matches!(flight.step, Step::Unused | Step::Done) {
                flight.node = 1 - flight.node;
            }
        }
        for change in other.changes.iter_mut().flatten() {
            if change.version != 0 {
                change.node = 1 - change.node;
            }
        }
        other
    }
}
