//! Fills, flights, changes and faults: two nodes, one key.
//!
//! | transition | function |
//! |---|---|
//! | [`Start`](Action::Start) | `one::get_or_load` up to the first command: `probe`, `Stripes::enter` |
//! | [`GetExecuted`](Action::GetExecuted), [`GotAnswer`](Action::GotAnswer) | `L2::read`, `is_about`, `verdict` |
//! | [`AcquireExecuted`](Action::AcquireExecuted), [`AcquireAnswered`](Action::AcquireAnswered) | `lease::pursue`, `acquire.lua` |
//! | [`Woken`](Action::Woken), [`Polled`](Action::Polled), [`Impatient`](Action::Impatient) | `Queue::wait`, `Queue::is_out_of_patience` |
//! | [`RowRead`](Action::RowRead) | `load::produce` |
//! | [`FillExecuted`](Action::FillExecuted), [`FillAnswered`](Action::FillAnswered), [`FillLost`](Action::FillLost) | `load::fill`, `fill.lua`, `Lead::land`, `Stripes::land` |
//! | [`Commit`](Action::Commit) | the caller's commit, then `invalidate::invalidate` or `insert` up to the command: `Stripes::change_begins` |
//! | [`ChangeExecuted`](Action::ChangeExecuted), [`ChangeAnswered`](Action::ChangeAnswered) | `send_invalidate`, `send_insert`, `invalidate.lua`, `put.lua`, `Stripes::changed` |
//! | [`ChangeFailed`](Action::ChangeFailed), [`LateChange`](Action::LateChange) | `retry_later`; a command that was given up is executed |
//! | [`RetryExecuted`](Action::RetryExecuted), [`RetryAnswered`](Action::RetryAnswered) | `retry::run`, `send::send_invalidate` |
//! | [`Delivered`](Action::Delivered) | `Listener::notify` |
//! | [`Beat`](Action::Beat) | `beat`, `heartbeat.lua` |
//! | [`LeaseLapsed`](Action::LeaseLapsed) | `Partition::serving_at` turns false |
//! | [`StateRead`](Action::StateRead), [`Baseline`](Action::Baseline) | `resync_all`, `state.lua`, `Partition::baseline` |
//! | [`Disconnected`](Action::Disconnected), [`Noticed`](Action::Noticed), [`Subscribed`](Action::Subscribed) | `Subscriber::run`, `Partition::lost`, `Session::reconcile` |
//! | [`MessageLost`](Action::MessageLost) | a message is lost without a sign |
//! | [`LockLapsed`](Action::LockLapsed) | `L` expires |
//! | [`Copied`](Action::Copied), [`Promoted`](Action::Promoted), [`Flushed`](Action::Flushed) | a replica lags and is promoted (or: a snapshot is restored); FLUSHALL; `epoch.lua` |
//!
//! The model leaves out time, clears and tags, cooling, and the expiry of values, which only removes entries.

mod changes;
mod choices;
mod fleet;
mod gets;
mod mutant;
mod node;
mod scenes;
mod server;

use fleet::{Budget, CHANGES, Change, FLIGHTS, Fleet, NODES, Progress, Promise, VERSIONS};
use mutant::Mutant;
use node::{Debt, Flight, Node, State, Step};
use server::{Lock, Message, Server, Value};
use stateright::{Model, Property};

use crate::phase::Phase;

/// The next event. The numbers stand for nodes, flights and changes.
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

/// The start of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// The key is cold, or version 1 is in every tier.
    Idle,
    /// One node loads. The other was noted as a waiter, and its lookup has ended since.
    Loading,
}

/// The token of the value that is stored at the start.
const OLD_TOKEN: u8 = 30;
/// The tokens of puts.
const PUT_TOKEN: u8 = 10;

impl Fills {
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
                flights: [Flight::UNUSED; FLIGHTS],
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
        choices::choices(fleet, actions);
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
        // The nodes are alike. Of two fleets that differ only in their names, one is enough.
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
            properties.extend(choices::interesting(self.budget));
        }
        properties
    }
}

const _: () = assert!(NODES == 2, "`Fleet::exchanged` exchanges two");
