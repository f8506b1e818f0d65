//! The serving lease in time: promise 2 and its bound, to the tick.
//!
//! There are two nodes and one key: one node changes it, and the other reads it. They share only the server, so
//! more readers would add no new states. The process of the reader may pause between any two steps, for any
//! time. Messages are lost, and connections break. An invalidation returns when it is executed, because that is
//! the strictest moment for the bound.
//!
//! | transition | function |
//! |---|---|
//! | [`Tick`](Action::Tick) | time passes |
//! | [`Changed`](Action::Changed) | the other node's invalidation is executed and returns: `invalidate.lua` |
//! | [`BeatBegun`](Action::BeatBegun), [`BeatExecuted`](Action::BeatExecuted) | `Node::begin_beat`, `heartbeat.lua` |
//! | [`Delivered`](Action::Delivered) | `Listener::notify`: `Stripes::changed` and `Partition::heard`, or `echoed` |
//! | [`MessageLost`](Action::MessageLost) | a message is lost without a sign |
//! | [`Disconnected`](Action::Disconnected), [`Noticed`](Action::Noticed), [`Subscribed`](Action::Subscribed) | `Subscriber::run`, `Partition::lost`, `Partition::subscribed` |
//! | [`StateSent`](Action::StateSent), [`StateRead`](Action::StateRead) | `resync_all`, `state.lua` |
//! | [`GenerationMoved`](Action::GenerationMoved), [`LeaseTaken`](Action::LeaseTaken) | `Partition::baseline`, whose halves a hit may come between |
//! | [`Get`](Action::Get), [`Next`](Action::Next) | a hit, step by step: `L1::check`: the clock and the lease, the generation; `LocalBackend::answer` |
//! | [`Entered`](Action::Entered), [`RowRead`](Action::RowRead), [`Landed`](Action::Landed) | `lead::enter`, `load::produce` or `L2::read`, `Lead::land`; in between, all lookups that may join do |

mod story;

use stateright::{Model, Property};
use story::{BOUND, CHANGES, Generation, LAG, Message, Story};

use crate::check::{holds, is_caught};
use crate::phase::Phase;

/// The safeguards of the lease. A mutant lacks one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mutant {
    /// No safeguard is missing.
    None,
    /// A lookup reads the entry first, then the clock and the lease.
    EntryBeforeLease,
    /// A lookup reads the generation first, then the clock and the lease.
    GenerationBeforeLease,
    /// A task turns L1 off when the lease ends. A lookup reads the flag of the task, not the clock.
    FlagNotClock,
    /// The lease is not shortened by the lag of the coarse clock.
    LagIgnored,
    /// The time of a heartbeat is noted when its answer arrives, not before it is sent.
    BeatTimedByItsAnswer,
    /// The time of a baseline is noted when its answer arrives.
    StateTimedByItsAnswer,
    /// An echo extends the lease without a check of its number.
    HeartbeatWithoutSequenceCheck,
    /// The generation moves when the subscription is lost, not after it is confirmed again.
    FlushBeforeSubscribed,
    /// The generation never moves.
    ReconnectWithoutFlush,
    /// A baseline lets L1 serve first, and then moves the generation.
    LeaseBeforeGeneration,
    /// A flight of any age is joined, even while the bus may be silent.
    JoinAtAnyAge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Tick,
    Changed,
    BeatBegun,
    BeatExecuted,
    Delivered,
    MessageLost,
    Disconnected,
    Noticed,
    Subscribed,
    StateSent,
    StateRead,
    GenerationMoved,
    LeaseTaken,
    /// Mutant: the task turns L1 off.
    TurnedOff,
    Get,
    Next,
    Entered,
    RowRead {
        leased: bool,
    },
    Landed,
}

/// The parts of the system in this scene, and the number of faults.
#[derive(Clone, Copy, Debug)]
struct Scene {
    mutant: Mutant,
    /// Whether there is an L1, and lookups that it may answer.
    hits: bool,
    /// Whether flights are joined.
    joins: bool,
    changes: u8,
    losses: u8,
    disconnects: u8,
}

impl Scene {
    fn possible(&self, story: &Story) -> impl Iterator<Item = (Action, bool)> {
        use Action as A;
        let syncing = matches!(story.phase, Phase::Syncing(_));
        // `Partition::sync` is locked in the meantime.
        let free = story.half.is_none();
        let read = story.load.map(|load| load.read.is_some());
        [
            (A::Tick, true),
            (A::Changed, story.row <= self.changes),
            (A::BeatBegun, free && story.beat.is_none()),
            (A::BeatExecuted, story.beat.is_some()),
            (A::Delivered, free && !story.bus.is_empty()),
            (A::MessageLost, !story.bus.is_empty() && story.lost < self.losses),
            (A::Disconnected, story.subscribed && story.disconnected < self.disconnects),
            (A::Noticed, free && !story.subscribed && story.phase != Phase::Deaf),
            (A::Subscribed, !story.subscribed && story.phase == Phase::Deaf),
            (A::StateSent, free && syncing && story.state.is_none()),
            (A::StateRead, story.state.is_some_and(|(_, seq)| seq.is_none())),
            (A::GenerationMoved, free && story.state.is_some_and(|(_, seq)| seq.is_some())),
            (A::LeaseTaken, !free),
            (A::TurnedOff, self.mutant == Mutant::FlagNotClock && story.flag && story.proof.is_none()),
            (A::Get, self.hits && story.probe.is_none()),
            (A::Next, story.probe.is_some()),
            (A::Entered, story.load.is_none()),
            (A::RowRead { leased: true }, read == Some(false)),
            (A::RowRead { leased: false }, read == Some(false)),
            (A::Landed, read == Some(true)),
        ]
        .into_iter()
    }
}

impl Model for Scene {
    type State = Story;
    type Action = Action;

    fn init_states(&self) -> Vec<Story> {
        vec![Story::opening(self)]
    }

    fn actions(&self, story: &Story, actions: &mut Vec<Action>) {
        if !story.stale {
            actions.extend(self.possible(story).filter(|(_, possible)| *possible).map(|(action, _)| action));
        }
    }

    fn next_state(&self, last: &Story, action: Action) -> Option<Story> {
        let mut next = last.clone();
        let (story, mutant) = (&mut next, self.mutant);
        story.new_hits = false;
        match action {
            Action::Tick => story.grow_older(mutant),
            Action::Changed => {
                story.row += 1;
                if story.subscribed {
                    story.bus.try_push(Message::Invalidated(story.row)).ok()?;
                }
            }
            Action::BeatBegun => story.beat = Some(0),
            Action::BeatExecuted => {
                let begun = story.beat.take()?;
                if story.subscribed {
                    story.bus.try_push(Message::Echo(story.row, begun)).ok()?;
                }
            }
            Action::Delivered => {
                let message = story.bus.pop_at(0)?;
                story.deliver(message, mutant);
            }
            Action::MessageLost => {
                story.lost += 1;
                story.bus.pop_at(0)?;
            }
            Action::Disconnected => {
                story.disconnected += 1;
                story.subscribed = false;
                story.bus.clear();
            }
            Action::Noticed => story.lost(mutant),
            Action::Subscribed => {
                story.subscribed = true;
                story.bus.push(Message::Subscribed);
            }
            Action::StateSent => story.state = Some((0, None)),
            Action::StateRead => story.state = story.state.map(|(sent, _)| (sent, Some(story.row))),
            Action::GenerationMoved => story.baseline(mutant)?,
            Action::LeaseTaken => story.baseline_ends(mutant)?,
            Action::TurnedOff => story.flag = false,
            Action::Get => story.get(),
            Action::Next => story.probe(mutant)?,
            Action::Entered => story.enter(self),
            Action::RowRead { leased } => story.row_read(leased)?,
            Action::Landed => story.land(self)?,
        }
        story.join(mutant);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties =
            vec![Property::always("2: staleness is bounded", |_, story: &Story| !story.stale)];
        if self.mutant == Mutant::None {
            properties.extend(interesting(self));
        }
        properties
    }
}

/// The states that a scene must reach. Without them the checks would be empty.
fn interesting(scene: &Scene) -> Vec<Property<Scene>> {
    let mut seen = vec![
        Property::sometimes("the lease is over", |_, story: &Story| {
            story.phase == Phase::Live && story.proof.is_none()
        }),
        Property::sometimes("a change is beyond the bound", |_, story: &Story| story.owed() > 1),
    ];
    if scene.hits {
        seen.extend([
            Property::sometimes("a new version is a hit", |_, story: &Story| story.new_hits),
            Property::sometimes(
                "L1 serves on the last instant of a lease what was changed",
                |_, story: &Story| {
                    let old = |entry: &story::Entry| {
                        entry.version < story.row && entry.generation == Generation::Current
                    };
                    story.proof == Some(BOUND) && story.entry.as_ref().is_some_and(old)
                },
            ),
        ]);
    }
    if scene.losses > 0 {
        seen.push(Property::sometimes("a gap is noticed and mended", |_, story: &Story| {
            story.lost > 0 && story.half.is_some() && story.applied == story.row
        }));
    }
    if scene.disconnects > 0 {
        seen.push(Property::sometimes("a node serves again after a disconnect", |_, story: &Story| {
            story.disconnected > 0 && story.proof.is_some() && story.row > 1
        }));
    }
    seen
}

const _: () = assert!(LAG < BOUND && CHANGES > 0, "a lease lasts, and something changes");

const HITS: Scene =
    Scene { mutant: Mutant::None, hits: true, joins: false, changes: 1, losses: 0, disconnects: 0 };
const LOST_MESSAGE: Scene = Scene { losses: 1, ..HITS };
const DISCONNECT: Scene = Scene { disconnects: 1, ..HITS };
const FLIGHTS: Scene = Scene { hits: false, joins: true, losses: 1, disconnects: 1, changes: 2, ..HITS };

macro_rules! scenes {
    ($($name:ident: $scene:expr;)*) => {
        mod base {
            use super::*;
            $(#[test] #[cfg_attr(debug_assertions, ignore = "millions of states: run with --release")]
            fn $name() {
                holds(stringify!($name), $scene);
            })*
        }
    };
}

macro_rules! mutants {
    ($module:ident, $slow:meta, $($name:ident: $mutant:ident, $scene:expr;)*) => {
        mod $module {
            use super::*;
            $(#[test] #[cfg_attr(debug_assertions, $slow)] fn $name() {
                let mutant = Mutant::$mutant;
                is_caught(mutant, Scene { mutant, ..$scene });
            })*
        }
    };
}

#[test]
fn base_within_small_bounds() {
    holds("hits, one change", HITS);
    holds("flights, one change", Scene { changes: 1, losses: 0, disconnects: 0, ..FLIGHTS });
}

scenes! {
    hits: Scene { changes: 2, ..HITS };
    a_message_is_lost: LOST_MESSAGE;
    a_disconnect: DISCONNECT;
    flights: FLIGHTS;
}

mutants! {
    mutants, allow(unused),
    entry_before_lease: EntryBeforeLease, HITS;
    a_flag_instead_of_the_clock: FlagNotClock, HITS;
    a_glance_that_lags: LagIgnored, HITS;
    a_beat_timed_by_its_answer: BeatTimedByItsAnswer, HITS;
    heartbeat_without_sequence_check: HeartbeatWithoutSequenceCheck, LOST_MESSAGE;
    a_flight_of_any_age: JoinAtAnyAge, FLIGHTS;
}

mutants! {
    deep_mutants, ignore = "hundreds of thousands of states: run with --release",
    generation_before_lease: GenerationBeforeLease, DISCONNECT;
    a_state_timed_by_its_answer: StateTimedByItsAnswer, DISCONNECT;
    flush_before_subscribe_is_acknowledged: FlushBeforeSubscribed, DISCONNECT;
    reconnect_without_flush: ReconnectWithoutFlush, DISCONNECT;
    lease_before_generation: LeaseBeforeGeneration, DISCONNECT;
}
