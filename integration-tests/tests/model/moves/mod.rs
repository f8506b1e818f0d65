//! A slot that moves from one master of a cluster to another, and back: two masters, one partition with one key, a node
//! that reads it, and a writer elsewhere.
//!
//! | transition | function |
//! |---|---|
//! | [`Opened`](Action::Opened), [`StateMoved`](Action::StateMoved), [`RestMoved`](Action::RestMoved), [`Given`](Action::Given), [`Left`](Action::Left) | `CLUSTER SETSLOT`, `MIGRATE`; the old master ends the subscriptions |
//! | [`Followed`](Action::Followed), [`Subscribed`](Action::Subscribed) | `Topology::learn`, `Seats::follow`; `Seats::subscribe`, `Session::reconcile` |
//! | [`Relayed`](Action::Relayed), [`RelayLost`](Action::RelayLost) | an older cluster brings a message of the other master to the master of the seat |
//! | [`Delivered`](Action::Delivered) | `Member::dropped`, `PartitionListener`, `Listener::notify` |
//! | [`StateRead`](Action::StateRead), [`Baseline`](Action::Baseline) | `resync_all`, `state.lua`, `Partition::baseline` |
//! | [`Beat`](Action::Beat), [`LeaseLapsed`](Action::LeaseLapsed) | `beat`, `heartbeats.lua`; `Partition::serving_at` turns false |
//! | [`Commit`](Action::Commit), [`ChangeExecuted`](Action::ChangeExecuted) | the caller's commit, then `invalidate.lua` |
//! | [`Start`](Action::Start), [`GetExecuted`](Action::GetExecuted), [`GotAnswer`](Action::GotAnswer) | `one::get_or_load`, `L2::read`, `L2::verdict` |
//! | [`AcquireExecuted`](Action::AcquireExecuted), [`AcquireAnswered`](Action::AcquireAnswered), [`Polled`](Action::Polled) | `lease::pursue`, `acquire.lua` |
//! | [`RowRead`](Action::RowRead), [`FillExecuted`](Action::FillExecuted), [`FillAnswered`](Action::FillAnswered) | `load::produce`, `fill.lua`, `Lead::land` |
//!
//! A command is executed by the master that has its keys, whenever one has all of them; `Spread` repeats it until then. So
//! the model does not ask to which master it was sent first. Messages reach the node from the master of its seat only. In a
//! cluster older than Redis 7.0 that master passes on those of the other one, too, late or never, and does not end the
//! subscriptions when the slot leaves it.

mod node;
mod slot;
mod world;

use node::Step;
use slot::About;
use stateright::{Model, Property};
use world::{Broken, Budget, Opening, World};

use crate::check::{holds, in_full, is_caught};
use crate::phase::Phase;

/// The safeguards. A mutant lacks one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mutant {
    /// No safeguard is missing.
    None,
    /// The entries of L1 stay valid although the slot has left the master.
    EntriesGoOn,
    /// A value that was asked for before the slot moved may enter L1 after the move.
    TicketsGoOn,
    /// A heartbeat at a master that the slot has left extends the serving lease of the partition.
    AnyMasterVouches,
    /// A read is answered by the master that the slot has left.
    OldMasterAnswers,
    /// A fill is accepted on the new master with a lease of the old one.
    FillOfOldLease,
    /// A refusal of the old master counts as the execution of a change.
    RefusalIsAnAnswer,
    /// L1 answers without a serving lease.
    ServeWhileSuspended,
    /// The new subscription begins before the listener is told that the old one is over.
    NewSeatFirst,
}

/// How messages travel: `connection/channels.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Channels {
    BySlot,
    Everywhere,
}

/// The next event. The numbers are those of flights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Opened,
    StateMoved,
    RestMoved,
    Given,
    Left,
    Followed,
    Subscribed,
    Relayed,
    RelayLost,
    Delivered,
    OldSeatEnds,
    StateRead,
    Baseline,
    Beat,
    LeaseLapsed,
    Commit,
    ChangeExecuted,
    ChangeRefused,
    Start,
    GetExecuted(usize),
    GetExecutedByOld(usize),
    GotAnswer(usize),
    AcquireExecuted(usize),
    AcquireAnswered(usize),
    Polled(usize),
    RowRead(usize),
    FillExecuted(usize),
    FillAnswered(usize),
}

#[derive(Clone, Copy, Debug)]
struct Moves {
    mutant: Mutant,
    channels: Channels,
    opening: Opening,
    budget: Budget,
}

impl Moves {
    fn possible(&self, world: &World) -> impl Iterator<Item = (Action, bool)> {
        use Action as A;
        let World { slot, node, left, .. } = world;
        let sent = world.row > world.promised;
        let deaf = node.phase == Phase::Deaf && node.bus.is_empty() && !node.subscribed;
        [
            (A::Opened, slot.may_open() && left.moves > 0),
            (A::StateMoved, slot.may_move(About::State)),
            (A::RestMoved, slot.may_move(About::Value)),
            (A::Given, slot.may_be_given()),
            (A::Left, slot.may_leave()),
            (A::Followed, slot.is_owner(1 - node.seat)),
            (A::Subscribed, deaf && (slot.is_owner(node.seat) || self.channels == Channels::Everywhere)),
            (A::Relayed, !world.relayed.is_empty()),
            (A::RelayLost, !world.relayed.is_empty()),
            (A::Delivered, !node.bus.is_empty()),
            (A::OldSeatEnds, node.ending && node.phase != Phase::Deaf),
            (A::StateRead, matches!(node.phase, Phase::Syncing(_)) && node.state.is_none()),
            (A::Baseline, node.state.is_some()),
            (A::Beat, node.phase == Phase::Live && left.beats > 0),
            (A::LeaseLapsed, node.serving.is_some() && left.silences > 0),
            (A::Commit, !sent && left.changes > 0),
            (A::ChangeExecuted, sent),
            (A::ChangeRefused, sent && self.mutant == Mutant::RefusalIsAnAnswer && !slot.may_open()),
            (A::Start, left.gets > 0),
        ]
        .into_iter()
    }

    /// The next steps of a flight.
    fn steps(&self, f: usize, step: Step, actions: &mut Vec<Action>) {
        if self.mutant == Mutant::OldMasterAnswers {
            actions.push(Action::GetExecutedByOld(f));
        }
        actions.push(match step {
            Step::None => return,
            Step::Get { .. } => Action::GetExecuted(f),
            Step::Got { .. } => Action::GotAnswer(f),
            Step::Ask => Action::AcquireExecuted(f),
            Step::Asked(_) => Action::AcquireAnswered(f),
            Step::Waiting => Action::Polled(f),
            Step::Loading(_) => Action::RowRead(f),
            Step::Loaded(..) => Action::FillExecuted(f),
            Step::Filled(_) => Action::FillAnswered(f),
        });
    }
}

impl Model for Moves {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::opening(self.opening, self.channels, self.budget)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        actions.extend(self.possible(world).filter(|(_, possible)| *possible).map(|(action, _)| action));
        for (f, flight) in world.node.flights.iter().enumerate() {
            self.steps(f, flight.step, actions);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut next = last.clone();
        let (world, mutant) = (&mut next, self.mutant);
        match action {
            Action::Opened => {
                world.left.moves -= 1;
                world.slot.open();
            }
            Action::StateMoved => world.slot.state_moves(),
            Action::RestMoved => world.slot.rest_moves(mutant),
            Action::Given => world.given(),
            Action::Left => world.left()?,
            Action::Followed => world.node.follow(mutant),
            Action::Subscribed => world.subscribed(),
            Action::Relayed => world.relayed()?,
            Action::RelayLost => drop(world.relayed.remove(0)),
            Action::Delivered => {
                let message = world.node.bus.pop_at(0)?;
                world.node.notify(message);
            }
            Action::OldSeatEnds => {
                world.node.ending = false;
                world.node.suspend(Phase::Deaf);
            }
            Action::StateRead => world.state_read()?,
            Action::Baseline => {
                let state = world.node.state.take()?;
                world.node.baseline(state, mutant);
            }
            Action::Beat => {
                world.left.beats -= 1;
                world.beat(mutant)?;
            }
            Action::LeaseLapsed => {
                world.left.silences -= 1;
                world.node.serving = None;
            }
            Action::Commit => {
                world.left.changes -= 1;
                world.row += 1;
            }
            Action::ChangeExecuted => world.change_executed()?,
            Action::ChangeRefused => world.promised = world.row,
            Action::Start => {
                world.left.gets -= 1;
                world.start(mutant)?;
            }
            Action::GetExecuted(f) => world.get_executed(f)?,
            Action::GetExecutedByOld(f) => world.get_executed_by_old(f)?,
            Action::GotAnswer(f) => world.got_answer(f)?,
            Action::AcquireExecuted(f) => world.acquire_executed(f)?,
            Action::AcquireAnswered(f) => world.acquire_answered(f)?,
            Action::Polled(f) => world.ask(f),
            Action::RowRead(f) => {
                let Step::Loading(lease) = world.node.flights[f].step else { return None };
                world.node.flights[f].step = Step::Loaded(lease, world.row);
            }
            Action::FillExecuted(f) => world.fill_executed(f, mutant)?,
            Action::FillAnswered(f) => world.fill_answered(f)?,
        }
        next.settle(mutant);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("1: L2 answers nothing from before an invalidation", |_, world: &World| {
                world.broken != Some(Broken::L2)
            }),
            Property::always("2: staleness is bounded", |_, world: &World| {
                world.broken != Some(Broken::Staleness)
            }),
            Property::always("4: nothing from before a stamp", |_, world: &World| {
                world.broken != Some(Broken::Stamp)
            }),
            Property::always("5: no load without a reason", |_, world: &World| {
                world.broken != Some(Broken::OneLoad)
            }),
            Property::always("a node that is subscribed knows it", |_, world: &World| {
                !world.is_deaf_for_ever()
            }),
        ];
        if self.mutant == Mutant::None {
            properties.extend(interesting(self));
        }
        properties
    }
}

/// The states that a scene must reach. Without them the checks would be empty.
fn interesting(scene: &Moves) -> Vec<Property<Moves>> {
    let mut seen = vec![Property::sometimes(
        "L1 serves from the old master what the new one has changed",
        |_, world: &World| {
            let behind = |held: &node::Held| held.verified && held.value.version < world.promised;
            let serves = world.node.serving.is_some() && world.node.entry.as_ref().is_some_and(behind);
            serves && world.node.seat != world.slot.owner
        },
    )];
    if scene.budget.gets > 0 {
        seen.push(Property::sometimes(
            "the newest version is a hit at the new master",
            |_, world: &World| {
                let hit = world.hit(Mutant::None).is_some_and(|(value, owed)| value.version == owed);
                hit && world.row == 2 && world.node.serving == Some(2) && world.node.run == 2
            },
        ));
    }
    if scene.opening == Opening::Loading {
        seen.push(Property::sometimes("a fill is refused", |_, world: &World| world.refused));
    }
    if scene.budget.moves > 1 {
        seen.push(Property::sometimes("the slot comes back, and its node serves", |_, world: &World| {
            world.left.moves == 0 && world.slot.owner == 0 && world.node.serving == Some(world.row)
        }));
    }
    seen
}

const MOVE: Budget = Budget { moves: 1, changes: 1, gets: 1, beats: 1, silences: 0 };
const TWO_GETS: Budget = Budget { gets: 2, ..MOVE };
const THERE_AND_BACK: Budget = Budget { moves: 2, silences: 1, ..MOVE };
const THERE_AND_BACK_LOADING: Budget = Budget { gets: 0, ..THERE_AND_BACK };

macro_rules! scenes {
    ($($name:ident: $channels:ident, $opening:ident, $full:expr, $small:expr;)*) => {
        $(#[test] fn $name() {
            let budget = if in_full() { $full } else { $small };
            let (mutant, channels, opening) = (Mutant::None, Channels::$channels, Opening::$opening);
            holds(stringify!($name), Moves { mutant, channels, opening, budget });
        })*
    };
}

scenes! {
    a_slot_moves_while_l1_has_a_copy: BySlot, Held, TWO_GETS, Budget { beats: 0, ..MOVE };
    a_slot_moves_while_its_node_loads: BySlot, Loading, MOVE, Budget { beats: 0, gets: 0, ..MOVE };
    a_slot_moves_while_only_l2_has_the_value: BySlot, Stored, MOVE, Budget { beats: 0, ..MOVE };
    a_slot_moves_there_and_back: BySlot, Held, THERE_AND_BACK, Budget { beats: 0, silences: 0, ..THERE_AND_BACK };
    a_slot_moves_there_and_back_during_a_load: BySlot, Loading, THERE_AND_BACK_LOADING, Budget { beats: 0, silences: 0, ..THERE_AND_BACK_LOADING };
    a_slot_moves_in_an_older_cluster: Everywhere, Held, MOVE, Budget { beats: 0, ..MOVE };
    a_slot_moves_in_an_older_cluster_while_its_node_loads: Everywhere, Loading, MOVE, Budget { beats: 0, gets: 0, ..MOVE };
    a_slot_moves_there_and_back_in_an_older_cluster: Everywhere, Held, Budget { gets: 0, ..THERE_AND_BACK }, Budget { gets: 0, silences: 0, ..THERE_AND_BACK };
}

macro_rules! mutants {
    ($($name:ident: $mutant:ident, $channels:ident, $opening:ident;)*) => {
        $(#[test] fn $name() {
            let (mutant, channels) = (Mutant::$mutant, Channels::$channels);
            is_caught(mutant, Moves { mutant, channels, opening: Opening::$opening, budget: MOVE });
        })*
    };
}

mutants! {
    entries_that_outlive_the_seat: EntriesGoOn, BySlot, Held;
    a_load_that_outlives_the_seat: TicketsGoOn, BySlot, Loading;
    a_heartbeat_of_another_master: AnyMasterVouches, BySlot, Held;
    a_heartbeat_of_another_master_in_an_older_cluster: AnyMasterVouches, Everywhere, Held;
    a_read_from_the_old_master: OldMasterAnswers, BySlot, Stored;
    a_fill_with_a_lease_of_the_old_master: FillOfOldLease, BySlot, Loading;
    a_refusal_that_counts_as_a_change: RefusalIsAnAnswer, BySlot, Held;
    l1_serves_without_a_seat: ServeWhileSuspended, BySlot, Held;
    a_new_seat_before_the_old_one_is_lost: NewSeatFirst, BySlot, Held;
}
