//! Clears and tags: two nodes, one or two partitions with one key each, and a tag that both keys have.
//!
//! | transition | function |
//! |---|---|
//! | [`Start`](Action::Start) | `one::get_or_load` up to the first command: `probe`, `Stripes::enter`, `progress::in_l1` |
//! | [`Joined`](Action::Joined) | `Stripes::enter`: a get joins, knowing of tag changes up to `Call::known` |
//! | [`GetExecuted`](Action::GetExecuted), [`Got`](Action::Got) | `L2::read`: GET or `get_valid.lua`; `L2::verdict` |
//! | [`AcquireExecuted`](Action::AcquireExecuted), [`Found`](Action::Found), [`Polled`](Action::Polled) | `acquire.lua`, `valid.lua`; `lease::reply`; `Queue::wait` |
//! | [`Woken`](Action::Woken) | the end of `fill.lua`, `Stripes::wake`, `Queue::ticket`, `lease::brought` |
//! | [`RowRead`](Action::RowRead) | `load::produce`: only now are the tags known, `Flight::came_from` |
//! | [`FillExecuted`](Action::FillExecuted), [`Filled`](Action::Filled) | `fill.lua`; `load::filled`, `Lead::land`, `Flight::too_old_since` |
//! | [`Commit`](Action::Commit) | the caller's commit, then `invalidate_all` or `invalidate_tags` up to the first command |
//! | [`ChangeExecuted`](Action::ChangeExecuted), [`ChangeAnswered`](Action::ChangeAnswered) | `send_clear`, `clear.lua`, `Partition::cleared`; `send_tags_to`, `tag.lua`, `tags_changed` |
//! | [`ChangeFailed`](Action::ChangeFailed) | `intent::keep`, `Unsent::add_tags`; the retry's way is that of the change, then `Unsent::landed` |
//! | [`OtherTag`](Action::OtherTag), [`Evicted`](Action::Evicted) | another tag is invalidated, and takes room: `tag.lua`, `TagTable::raise_one`; the server drops `T` |
//! | [`Delivered`](Action::Delivered), [`MessageLost`](Action::MessageLost) | `Listener::notify`; a message is lost without a sign |
//! | [`Beat`](Action::Beat) | `beat`, `heartbeat.lua` |
//! | [`StateRead`](Action::StateRead), [`Baseline`](Action::Baseline) | `resync_all`, `baseline.lua`, `Partition::baseline` |
//!
//! L1 is asked after every step: `L1::hit`. Left out: what the model of fills has (changes of single
//! keys and their retries, to which one of a clear is like; disconnects; servers that are replaced), and time.

mod changes;
mod fleet;
mod node;
mod scenes;
mod server;
mod wakes;

use fleet::{Budget, Fleet, Kind, Progress};
use node::{Promise, Step};
use stateright::{Model, Property};

use crate::phase::Phase;

const NODES: usize = 2;
const PARTITIONS: usize = 2;
const FLIGHTS: usize = 2;
const CHANGES: usize = 2;
/// Versions 0 (none) to this.
const VERSIONS: usize = CHANGES + 2;

/// Safeguards of clears and tags. A mutant lacks one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mutant {
    /// No safeguard is missing.
    None,
    /// FILL does not check its tags.
    FillIgnoresTags,
    /// FILL and ACQUIRE respect a lease from before a clear.
    FillIgnoresTheFloor,
    /// A refresh is compared with the tags by the number of its seal, not by the number of its lease.
    RefreshComparesWithItsOwnNumber,
    /// L1 answers without a check of the entry's tags.
    HitsIgnoreTags,
    /// A plain read is not compared with the node's tags.
    PlainReadsIgnoreTags,
    /// The values in the answers of scripts are not compared with the node's tags.
    AnswersIgnoreTags,
    /// The value of a wake-up is not compared with the node's floor.
    WakesIgnoreTheFloor,
    /// The value of a wake-up answers, no matter when it was sent.
    LateWakesAnswer,
    /// A node does not remember its failed invalidations of tags.
    PendingTagsUnknown,
    /// A partition whose server has executed a change counts as one that it has reached, before the answer.
    ExecutedCountsAsLanded,
    /// A plain read is not compared with the node's floor.
    PlainReadsIgnoreTheFloor,
    /// The scripts return a stored value without a check of its tags.
    TagsLeaveStoredValues,
    /// A lookup that has joined a flight takes its result without a check.
    JoinersTakeAnything,
    /// The full table of a node drops a tag without raising its floor.
    FullTableForgets,
    /// The server drops a half of its table without raising the floor.
    DroppedHalfIsForgotten,
    /// The server searches `T` only.
    OnlyTheNewerHalf,
    /// A table that was evicted counts as a table without tags.
    EvictedTableIsEmpty,
    /// A new baseline does not bring the tags.
    BaselineWithoutTags,
    /// A flight from before a clear is joined.
    JoinFromBeforeClear,
    /// A clear on this node voids L1 only before its command.
    NothingClearedAfterReply,
    /// A node notes its own invalidation of a tag when the message arrives, not at the reply.
    NoTagNotedAfterReply,
    /// A clear leaves out the second partition.
    ClearOfOnePartition,
    /// A stamp holds one number, whatever the partition.
    OneNumberForAllPartitions,
}

/// The next event. The numbers stand for nodes, partitions, flights and changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Start { node: usize, partition: usize, reload: bool, insist: bool },
    Joined(usize),
    GetExecuted(usize),
    Got(usize),
    AcquireExecuted(usize),
    Found(usize),
    Polled(usize),
    Woken(usize),
    RowRead(usize),
    FillExecuted(usize),
    Filled(usize),
    Commit { node: usize, kind: Kind },
    ChangeExecuted(usize, usize),
    ChangeAnswered(usize, usize),
    ChangeFailed(usize),
    OtherTag(usize),
    Evicted(usize),
    Delivered(usize, usize),
    MessageLost(usize, usize),
    Beat(usize, usize),
    StateRead(usize, usize),
    Baseline(usize, usize),
}

/// The model of one scene.
#[derive(Clone, Copy, Debug)]
struct Scene {
    mutant: Mutant,
    partitions: usize,
    /// Whether version 1 is in every tier. Otherwise the keys are cold.
    warm: bool,
    /// Whether a wake-up with version 1 is on its way to a node, for a lookup that does not wait any more.
    late_wake: bool,
    budget: Budget,
}

impl Scene {
    fn flights(fleet: &Fleet, actions: &mut Vec<Action>) {
        for (f, flight) in fleet.flights.iter().enumerate() {
            let server = &fleet.servers[usize::from(flight.partition)];
            match flight.step {
                Step::Unused | Step::Done => continue,
                Step::Get { .. } => actions.push(Action::GetExecuted(f)),
                Step::Got { .. } => actions.push(Action::Got(f)),
                Step::Ask => {
                    actions.push(Action::AcquireExecuted(f));
                    if server.lock.is_some() && (flight.spoiled || flight.heard) {
                        actions.push(Action::Polled(f));
                    }
                }
                Step::Waiting if flight.wake.brought.is_some() => actions.push(Action::Woken(f)),
                Step::Waiting => actions.push(Action::Polled(f)),
                Step::Found { .. } => actions.push(Action::Found(f)),
                Step::Loading(_) => actions.push(Action::RowRead(f)),
                Step::Loaded(..) => actions.push(Action::FillExecuted(f)),
                Step::Filled { .. } => actions.push(Action::Filled(f)),
            }
            if fleet.left.joiners > 0 && flight.joinable {
                actions.push(Action::Joined(f));
            }
        }
    }

    fn changes(fleet: &Fleet, actions: &mut Vec<Action>) {
        for (c, change) in fleet.changes.iter().enumerate() {
            if fleet.left.failures > 0 && change.is_some_and(|change| change.may_fail()) {
                actions.push(Action::ChangeFailed(c));
            }
            for (p, progress) in change.iter().flat_map(|change| &change.progress).enumerate() {
                match progress {
                    Progress::Sent => actions.push(Action::ChangeExecuted(c, p)),
                    Progress::Executed(_) => actions.push(Action::ChangeAnswered(c, p)),
                    Progress::Answered => {}
                }
            }
        }
    }

    fn side(fleet: &Fleet, n: usize, p: usize, actions: &mut Vec<Action>) {
        let (side, left) = (&fleet.nodes[n].sides[p], &fleet.left);
        if left.flights > 0 {
            let start = |reload, insist| Action::Start { node: n, partition: p, reload, insist };
            actions.push(start(false, false));
            if fleet.promised > 1 {
                actions.push(start(false, true));
            }
            if left.reloads > 0 {
                actions.push(start(true, false));
            }
        }
        if !side.bus.is_empty() {
            actions.push(Action::Delivered(n, p));
            if left.losses > 0 {
                actions.push(Action::MessageLost(n, p));
            }
        }
        if left.beats > 0 && side.phase == Phase::Live {
            actions.push(Action::Beat(n, p));
        }
        if matches!(side.phase, Phase::Syncing(_)) && side.known.is_none() {
            actions.push(Action::StateRead(n, p));
        }
        if side.known.is_some() {
            actions.push(Action::Baseline(n, p));
        }
    }
}

impl Model for Scene {
    type State = Fleet;
    type Action = Action;

    fn init_states(&self) -> Vec<Fleet> {
        vec![Fleet::opening(self)]
    }

    fn actions(&self, fleet: &Fleet, actions: &mut Vec<Action>) {
        if fleet.broken.is_some() {
            return;
        }
        Self::flights(fleet, actions);
        Self::changes(fleet, actions);
        for n in 0..NODES {
            (0..self.partitions).for_each(|p| Self::side(fleet, n, p, actions));
            if fleet.left.tags > 0 {
                actions.push(Action::Commit { node: n, kind: Kind::Tag });
            }
            if fleet.left.clears > 0 {
                actions.push(Action::Commit { node: n, kind: Kind::Clear });
            }
        }
        for p in 0..self.partitions {
            if fleet.left.others > 0 {
                actions.push(Action::OtherTag(p));
            }
            if fleet.left.evictions > 0 {
                actions.push(Action::Evicted(p));
            }
        }
    }

    fn next_state(&self, last: &Fleet, action: Action) -> Option<Fleet> {
        let mut next = last.clone();
        let (fleet, mutant) = (&mut next, self.mutant);
        match action {
            Action::Start { node, partition, reload, insist } => {
                fleet.left.flights -= 1;
                fleet.left.reloads -= u8::from(reload);
                fleet.start(node, partition, (reload, insist), mutant)?;
            }
            Action::Joined(f) => {
                fleet.left.joiners -= 1;
                fleet.join(f, mutant)?;
            }
            Action::GetExecuted(f) => fleet.get_executed(f, mutant)?,
            Action::Got(f) => fleet.got(f, mutant)?,
            Action::AcquireExecuted(f) => fleet.acquire_executed(f, mutant)?,
            Action::Found(f) => fleet.found(f, mutant)?,
            Action::Polled(f) => fleet.polled(f),
            Action::Woken(f) => fleet.woken(f, mutant)?,
            Action::RowRead(f) => {
                let Step::Loading(lease) = fleet.flights[f].step else { return None };
                fleet.row_read(f, lease);
            }
            Action::FillExecuted(f) => fleet.fill_executed(f, mutant)?,
            Action::Filled(f) => fleet.filled(f, mutant)?,
            Action::Commit { node, kind } => {
                match kind {
                    Kind::Tag => fleet.left.tags -= 1,
                    Kind::Clear => fleet.left.clears -= 1,
                }
                fleet.commit(node, kind, self)?;
            }
            Action::ChangeExecuted(c, p) => fleet.change_executed(c, p, mutant)?,
            Action::ChangeAnswered(c, p) => fleet.change_answered(c, p, mutant)?,
            Action::ChangeFailed(c) => {
                fleet.left.failures -= 1;
                fleet.change_failed(c, self)?;
            }
            Action::OtherTag(p) => {
                fleet.left.others -= 1;
                fleet.other_tag(p, mutant)?;
            }
            Action::Evicted(p) => {
                fleet.left.evictions -= 1;
                fleet.servers[p].evict()?;
            }
            Action::Delivered(n, p) => fleet.deliver(n, p, mutant)?,
            Action::MessageLost(n, p) => {
                fleet.left.losses -= 1;
                fleet.nodes[n].sides[p].bus.pop_at(0)?;
            }
            Action::Beat(n, p) => {
                fleet.left.beats -= 1;
                fleet.beat(n, p)?;
            }
            Action::StateRead(n, p) => {
                let known = fleet.servers[p].known(fleet.promised, mutant);
                fleet.nodes[n].sides[p].known = Some(known);
            }
            Action::Baseline(n, p) => fleet.baseline(n, p, mutant)?,
        }
        next.settle(mutant);
        next.forget();
        // The nodes are alike. Of two fleets that differ only in their names, one is enough.
        let other = next.exchanged();
        Some(if other < next { other } else { next })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("1: L2 answers nothing from before a change", |_, fleet: &Fleet| {
                fleet.broken != Some(Promise::L2)
            }),
            Property::always("2: staleness is bounded", |_, fleet: &Fleet| {
                fleet.broken != Some(Promise::Staleness)
            }),
            Property::always("3: a node reads its own changes", |_, fleet: &Fleet| {
                fleet.broken != Some(Promise::Own)
            }),
            Property::always("4: nothing from before a stamp", |_, fleet: &Fleet| {
                fleet.broken != Some(Promise::Stamp)
            }),
        ];
        if self.mutant == Mutant::None {
            properties.extend(scenes::interesting(self));
        }
        properties
    }
}
