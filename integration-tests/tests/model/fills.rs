//! Fills, flights, changes and faults: two nodes, one key.
//!
//! | transition | function |
//! |---|---|
//! | [`Start`](Action::Start) | `Shared::get_or_load` up to the first command: `probe`, `Fence::enter`, `find` |
//! | [`GetExecuted`](Action::GetExecuted), [`GotAnswer`](Action::GotAnswer) | `Shared::read`, `is_about`, `verdict` |
//! | [`AcquireExecuted`](Action::AcquireExecuted), [`AcquireAnswered`](Action::AcquireAnswered) | `lease::acquire`, `acquire.lua` |
//! | [`Woken`](Action::Woken), [`Polled`](Action::Polled), [`Impatient`](Action::Impatient) | `Queue::wait`, `Grant::Impatient` |
//! | [`RowRead`](Action::RowRead) | `load::produce` |
//! | [`FillExecuted`](Action::FillExecuted), [`FillAnswered`](Action::FillAnswered), [`FillLost`](Action::FillLost) | `Shared::fill`, `fill.lua`, `Lead::land`, `Fence::land` |
//! | [`Commit`](Action::Commit) | the caller's commit, then `Shared::invalidate` or `insert` up to the command: `Fence::change_begins` |
//! | [`ChangeExecuted`](Action::ChangeExecuted), [`ChangeAnswered`](Action::ChangeAnswered) | `send_invalidate`, `send_insert`, `invalidate.lua`, `put.lua`, `Fence::changed` |
//! | [`ChangeFailed`](Action::ChangeFailed), [`LateChange`](Action::LateChange) | `retry_later`; a command that was given up is executed |
//! | [`RetryExecuted`](Action::RetryExecuted), [`RetryAnswered`](Action::RetryAnswered) | `resilience::recovery` |
//! | [`Delivered`](Action::Delivered) | `Listener::notify` |
//! | [`Beat`](Action::Beat) | `beat`, `heartbeat.lua` |
//! | [`LeaseLapsed`](Action::LeaseLapsed) | `Partition::serving_at` turns false |
//! | [`StateRead`](Action::StateRead), [`Baseline`](Action::Baseline) | `resync_all`, `state.lua`, `Partition::baseline` |
//! | [`Disconnected`](Action::Disconnected), [`Noticed`](Action::Noticed), [`Subscribed`](Action::Subscribed) | `Subscriber::run`, `Partition::lost`, `Session::reconcile` |
//! | [`MessageLost`](Action::MessageLost) | a message vanishes and nobody notices |
//! | [`LockLapsed`](Action::LockLapsed) | `L` expires |
//! | [`Copied`](Action::Copied), [`Promoted`](Action::Promoted), [`Flushed`](Action::Flushed) | a replica lags and is promoted (or: a snapshot is restored); FLUSHALL; `fence.lua` |
//!
//! Left out: time, clears and tags, cooling, and the expiry of values, which only ever takes
//! something away.

use stateright::{Model, Property};

use super::fleet::{Budget, CHANGES, Change, Fleet, NODES, Progress, Promise, VERSIONS};
use super::mutant::Mutant;
use super::node::{Debt, Flight, Node, Phase, State, Step};
use super::server::{Acquired, Lock, Message, Server, Value};

/// What happens next; numbers are nodes, flights and changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Start { node: usize, reload: bool, insist: bool },
    GetExecuted(usize),
    GotAnswer(usize),
    AcquireExecuted(usize),
    AcquireAnswered(usize),
    Woken(usize),
    Polled(usize),
    Impatient(usize),
    RowRead(usize),
    FillExecuted(usize),
    FillLost(usize),
    FillAnswered(usize),
    StoredAfterCheck(usize),
    Commit { node: usize, put: bool },
    ChangeExecuted(usize),
    Deleted(usize),
    ChangeAnswered(usize),
    ChangeFailed(usize),
    LateChange(usize),
    RetryExecuted(usize),
    RetryAnswered(usize),
    Delivered(usize),
    MessageLost(usize),
    Beat(usize),
    LeaseLapsed(usize),
    StateRead(usize),
    Baseline(usize),
    Disconnected(usize),
    Noticed(usize),
    Subscribed(usize),
    LockLapsed,
    Copied,
    Promoted,
    Flushed,
}

/// The model of one scene.
#[derive(Clone, Debug)]
pub(crate) struct Fills {
    pub(crate) mutant: Mutant,
    pub(crate) budget: Budget,
    pub(crate) opening: Opening,
}

/// How a scene opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// With a cold key, or with version 1 in every tier.
    Idle,
    /// One node loads; the other was noted as waiting, and its get has gone away since.
    Loading,
}

/// Token of the value that is there at the start.
const OLD_TOKEN: u8 = 30;
/// Tokens of puts.
const PUT_TOKEN: u8 = 10;

impl Fills {
    fn token(&self, flight: usize, node: usize) -> u8 {
        match self.mutant {
            Mutant::TokenSharedPerClient => OLD_TOKEN + node as u8,
            _ => flight as u8,
        }
    }

    fn start(&self, fleet: &mut Fleet, n: usize, reload: bool, insist: bool) -> Option<()> {
        let f = fleet.flights.iter().position(|flight| flight.step == Step::Unused)?;
        let node = &fleet.nodes[n];
        let newest = usize::from(fleet.executed);
        let need = if insist { fleet.stamps[newest] } else { 0 };
        if insist && need <= node.applied {
            return None;
        }
        // A hit, or a get that joins.
        let joins = node.flight.is_some_and(|f| fleet.flights[usize::from(f)].joinable);
        if !reload && !insist && (fleet.hit(n, self.mutant).is_some() || (joins && node.serving.is_some())) {
            return None;
        }
        let held = node.entry.map(|held| held.value).filter(|_| !reload);
        // A refresh follows a commit, as an invalidation would.
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
            seq: ticket.seq,
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

    fn get_executed(&self, fleet: &mut Fleet, f: usize) -> Option<()> {
        let Step::Get { plain } = fleet.flights[f].step else { return None };
        let floor = if plain { None } else { Some(fleet.server.state(self.mutant).2) };
        let (run, value) = (fleet.server.run, fleet.server.memory.value);
        fleet.flights[f].step = Step::Got { run, value, floor };
        Some(())
    }

    fn got_answer(&self, fleet: &mut Fleet, f: usize) -> Option<()> {
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

    /// One turn of `lease::acquire`.
    fn ask(&self, fleet: &mut Fleet, f: usize) {
        fleet.ask(f);
        let n = usize::from(fleet.flights[f].node);
        if fleet.nodes[n].pending && self.mutant != Mutant::ReadPastPending {
            fleet.flights[f].step = Step::Loading(Err(false));
        }
    }

    fn acquire_executed(&self, fleet: &mut Fleet, f: usize) -> Option<()> {
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

    fn acquire_answered(&self, fleet: &mut Fleet, f: usize) -> Option<()> {
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

    fn woken(&self, fleet: &mut Fleet, f: usize) -> Option<()> {
        let flight = fleet.flights[f];
        let (Step::Waiting, Some(woken)) = (flight.step, flight.woken) else { return None };
        let trusted = self.mutant == Mutant::TrustLateWakes;
        let timely = flight.ticket.timely.is_some() || trusted;
        let answers = |value: &Value| value.seq >= flight.ticket.last_seq || trusted;
        match woken.filter(|_| timely && !flight.reload).filter(answers) {
            Some(value) => {
                // It was sent before it was asked for: it owes what L1 does.
                let debt = &mut fleet.flights[f].debt;
                debt.l2 = 0;
                debt.staleness = debt.staleness.max(flight.ticket.timely.unwrap_or(flight.started));
                fleet.land(f, value.version, Some(value), self.mutant);
            }
            None => self.ask(fleet, f),
        }
        Some(())
    }

    fn fill_executed(&self, fleet: &mut Fleet, f: usize, answered: bool) -> Option<()> {
        let flight = fleet.flights[f];
        let Step::Loaded(lease, version) = flight.step else { return None };
        let lease = match lease {
            Ok(lease) => lease,
            Err(offered) => {
                let value = Value { version, seq: flight.ticket.seq, token: f as u8 };
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

    fn commit(&self, fleet: &mut Fleet, n: usize, put: bool) -> Option<()> {
        let c = fleet.changes.iter().position(|change| change.progress == Progress::Unused)?;
        let under_way = |change: &Change| {
            matches!(change.progress, Progress::Sent | Progress::Executed(_) | Progress::Published(_))
        };
        // Two writers that insert at once would have to agree among themselves on who is later.
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

    fn execute(&self, fleet: &mut Fleet, c: usize, put: bool) -> Option<u8> {
        let change = fleet.changes[c];
        let mut out = Vec::new();
        let put = put.then_some((change.version, PUT_TOKEN + c as u8));
        let seq = fleet.server.change(put, self.mutant, &mut out);
        fleet.publish(out)?;
        self.took_effect(fleet, change.version, seq);
        fleet.loads_allowed += 1;
        Some(seq)
    }

    /// From here on L2 owes this version.
    fn took_effect(&self, fleet: &mut Fleet, version: u8, seq: u8) {
        fleet.executed = fleet.executed.max(version);
        let stamp = &mut fleet.stamps[usize::from(version)];
        if *stamp == 0 {
            *stamp = seq;
        }
    }

    fn change_answered(&self, fleet: &mut Fleet, c: usize) -> Option<()> {
        let change = fleet.changes[c];
        let Progress::Executed(seq) = change.progress else { return None };
        let n = usize::from(change.node);
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

    /// The caller of a change gets its answer.
    fn ended(&self, fleet: &mut Fleet, c: usize) {
        let change = fleet.changes[c];
        let own = &mut fleet.nodes[usize::from(change.node)].own;
        *own = (*own).max(change.version);
    }

    fn change_failed(&self, fleet: &mut Fleet, c: usize) -> Option<()> {
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

    fn late_change(&self, fleet: &mut Fleet, c: usize) -> Option<()> {
        let change = fleet.changes[c];
        if !change.stuck {
            return None;
        }
        // A put is refused: `LATE`.
        if !change.put || self.mutant == Mutant::PutAtAnyTime {
            self.execute(fleet, c, change.put)?;
        }
        fleet.changes[c].stuck = false;
        Some(())
    }

    fn retry_answered(&self, fleet: &mut Fleet, c: usize) -> Option<()> {
        let change = fleet.changes[c];
        let Progress::Retried(seq) = change.progress else { return None };
        let n = usize::from(change.node);
        fleet.changed(n, seq, self.mutant);
        fleet.changes[c].progress = Progress::Done;
        let retrying = |other: &Change| matches!(other.progress, Progress::Retrying | Progress::Retried(_));
        fleet.nodes[n].pending =
            fleet.changes.iter().any(|other| retrying(other) && usize::from(other.node) == n);
        fleet.promised = fleet.promised.max(change.version);
        Some(())
    }

    fn baseline(&self, fleet: &mut Fleet, n: usize) -> Option<()> {
        let state = fleet.nodes[n].state.take()?;
        if fleet.nodes[n].baseline(state, self.mutant) {
            fleet.move_generation(n);
        }
        Some(())
    }
}

impl Model for Fills {
    type State = Fleet;
    type Action = Action;

    fn init_states(&self) -> Vec<Fleet> {
        let old = Value { version: 1, seq: 1, token: OLD_TOKEN };
        let of = |value: Option<Value>| {
            let mut server = Server::new();
            server.memory.value = value;
            let mut stamps = [0; VERSIONS];
            stamps[1] = 1;
            Fleet {
                nodes: [Node::live(value), Node::live(value)],
                server,
                replica: None,
                flights: [Flight::UNUSED; super::fleet::FLIGHTS],
                changes: [Change::UNUSED; CHANGES],
                row: 1,
                executed: 1,
                promised: 1,
                stamps,
                loads_allowed: u8::from(value.is_none()),
                broken: None,
                left: self.budget,
            }
        };
        match self.opening {
            Opening::Idle => vec![of(None), of(Some(old))],
            Opening::Loading => {
                let mut fleet = of(None);
                let lease = Lock { token: self.token(0, 1), seq: 1 };
                fleet.server.memory.lock = Some(lease);
                fleet.server.memory.waiting = 1;
                fleet.loads_allowed = 0;
                fleet.nodes[1].flight = Some(0);
                fleet.flights[0] = Flight {
                    node: 1,
                    step: Step::Loading(Ok(lease)),
                    joinable: true,
                    seq: 1,
                    started: 1,
                    debt: Debt { l2: 1, ..Debt::default() },
                    ..Flight::UNUSED
                };
                vec![fleet]
            }
        }
    }

    fn actions(&self, fleet: &Fleet, actions: &mut Vec<Action>) {
        if fleet.broken.is_some() {
            return;
        }
        super::choices::choices(fleet, actions);
    }

    fn next_state(&self, last: &Fleet, action: Action) -> Option<Fleet> {
        let mut next = last.clone();
        let fleet = &mut next;
        let mutant = self.mutant;
        match action {
            Action::Start { node, reload, insist } => {
                fleet.left.flights -= 1;
                fleet.left.reloads -= u8::from(reload);
                self.start(fleet, node, reload, insist)?;
            }
            Action::GetExecuted(f) => self.get_executed(fleet, f)?,
            Action::GotAnswer(f) => self.got_answer(fleet, f)?,
            Action::AcquireExecuted(f) => self.acquire_executed(fleet, f)?,
            Action::AcquireAnswered(f) => self.acquire_answered(fleet, f)?,
            Action::Woken(f) => self.woken(fleet, f)?,
            Action::Polled(f) => self.ask(fleet, f),
            Action::Impatient(f) => fleet.flights[f].step = Step::Loading(Err(false)),
            Action::RowRead(f) => {
                let Step::Loading(lease) = fleet.flights[f].step else { return None };
                fleet.flights[f].step = Step::Loaded(lease, fleet.row);
            }
            Action::FillExecuted(f) => self.fill_executed(fleet, f, true)?,
            Action::FillLost(f) => {
                fleet.left.timeouts -= 1;
                self.fill_executed(fleet, f, false)?;
            }
            Action::FillAnswered(f) => match fleet.flights[f].step {
                Step::Filled(Ok(value)) => {
                    let Flight { reload, node, .. } = fleet.flights[f];
                    if reload && mutant != Mutant::NoRemovalAfterRefresh {
                        fleet.changed(usize::from(node), value.seq, mutant);
                    }
                    fleet.land(f, value.version, Some(value), mutant);
                    if reload {
                        let own = &mut fleet.nodes[usize::from(node)].own;
                        *own = (*own).max(value.version);
                        fleet.promised = fleet.promised.max(value.version);
                    }
                }
                Step::Filled(Err(version)) => fleet.land(f, version, None, mutant),
                _ => return None,
            },
            Action::StoredAfterCheck(f) => {
                let Step::Checked(value) = fleet.flights[f].step else { return None };
                fleet.store(usize::from(fleet.flights[f].node), value);
                fleet.flights[f] = Flight::DONE;
            }
            Action::Commit { node, put } => {
                fleet.left.changes -= 1;
                fleet.left.puts -= u8::from(put);
                self.commit(fleet, node, put)?;
            }
            Action::ChangeExecuted(c) => {
                let put = fleet.changes[c].put;
                let seq = self.execute(fleet, c, put)?;
                let published = mutant == Mutant::PublishBeforeDelete;
                fleet.changes[c].progress =
                    if published { Progress::Published(seq) } else { Progress::Executed(seq) };
            }
            Action::Deleted(c) => {
                let Progress::Published(seq) = fleet.changes[c].progress else { return None };
                fleet.server.memory.value = None;
                fleet.changes[c].progress = Progress::Executed(seq);
            }
            Action::ChangeAnswered(c) => self.change_answered(fleet, c)?,
            Action::ChangeFailed(c) => {
                fleet.left.timeouts -= 1;
                self.change_failed(fleet, c)?;
            }
            Action::LateChange(c) => self.late_change(fleet, c)?,
            Action::RetryExecuted(c) => {
                let seq = self.execute(fleet, c, false)?;
                fleet.changes[c].progress = Progress::Retried(seq);
            }
            Action::RetryAnswered(c) => self.retry_answered(fleet, c)?,
            Action::Delivered(n) => {
                let message = fleet.nodes[n].bus.pop_at(0)?;
                fleet.deliver(n, message, mutant);
            }
            Action::MessageLost(n) => {
                fleet.left.losses -= 1;
                fleet.nodes[n].bus.pop_at(0)?;
            }
            Action::Beat(n) => {
                fleet.left.beats -= 1;
                let echo = fleet.server.heartbeat(n as u8, fleet.promised, mutant);
                fleet.publish(vec![echo])?;
            }
            Action::LeaseLapsed(n) => {
                fleet.left.silences -= 1;
                fleet.nodes[n].serving = None;
            }
            Action::StateRead(n) => {
                let (run, seq, floor) = fleet.server.state(mutant);
                fleet.nodes[n].state = Some(State { run, seq, floor, promised: fleet.promised });
            }
            Action::Baseline(n) => self.baseline(fleet, n)?,
            Action::Disconnected(n) => {
                fleet.left.disconnects -= 1;
                fleet.nodes[n].subscribed = false;
                fleet.nodes[n].bus.clear();
            }
            Action::Noticed(n) => {
                fleet.nodes[n].suspend(Phase::Deaf);
                if mutant == Mutant::FlushBeforeSubscribed {
                    fleet.move_generation(n);
                }
            }
            Action::Subscribed(n) => {
                fleet.nodes[n].subscribed = true;
                fleet.nodes[n].bus.push(Message::Subscribed);
            }
            Action::LockLapsed => {
                fleet.left.lapses -= 1;
                fleet.loads_allowed += 1;
                fleet.server.memory.lock = None;
            }
            Action::Copied => fleet.replica = Some(fleet.server.memory),
            Action::Promoted => {
                fleet.left.failovers -= 1;
                fleet.loads_allowed += 1;
                fleet.server.memory = fleet.replica.take()?;
                fleet.server.run += 1;
                for node in &mut fleet.nodes {
                    node.subscribed = false;
                    node.bus.clear();
                }
            }
            Action::Flushed => {
                fleet.left.flushes -= 1;
                fleet.loads_allowed += 1;
                let memory = &mut fleet.server.memory;
                (memory.run, memory.seq, memory.floor, memory.waiting) = (0, 0, 0, 0);
                (memory.value, memory.lock) = (None, None);
            }
        }
        next.settle(mutant);
        next.forget();
        // The nodes are alike: of two fleets that differ in their names, one will do.
        let other = next.exchanged();
        Some(if other < next { other } else { next })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("1: L2 answers nothing from before an invalidation", |_, fleet: &Fleet| {
                fleet.broken != Some(Promise::L2)
            }),
            Property::always("2: staleness is bounded", |_, fleet: &Fleet| {
                fleet.broken != Some(Promise::Staleness)
            }),
            Property::always(
                "3, 6: a node reads its own changes, failed ones included",
                |_, fleet: &Fleet| fleet.broken != Some(Promise::Own),
            ),
            Property::always("4: nothing from before a stamp", |_, fleet: &Fleet| {
                fleet.broken != Some(Promise::Stamp)
            }),
            Property::always("5: no load without a reason", |_, fleet: &Fleet| {
                fleet.broken != Some(Promise::OneLoad)
            }),
        ];
        if self.mutant == Mutant::None {
            properties.extend(super::choices::interesting(self.budget));
        }
        properties
    }
}

const _: () = assert!(NODES == 2, "`Fleet::exchanged` exchanges two");
