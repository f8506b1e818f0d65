//! The run token: how nodes tell one server process from another without INFO, behind a proxy that may lead every
//! command to another process.
//!
//! The token is in the text of the scripts, and scripts are not replicated. So a process that knows the scripts of a token
//! is the process into which they were loaded, and `NOSCRIPT` is the proof of another one. There are two processes, a
//! master and its replica, and two nodes with one key. Every step of a node may be executed by either process, because
//! the proxy may switch in between. There are two scripts of each token, because one may be loaded before a switch, and
//! the other after it.
//!
//! | transition | function |
//! |---|---|
//! | [`TokenRead`](Action::TokenRead), [`Asked`](Action::Asked) | `Tokens::resolve`: the token in `M`; whether the process knows its scripts |
//! | [`Loaded`](Action::Loaded), [`Verified`](Action::Verified) | `Tokens::load`: a token of the node's own |
//! | [`Installed`](Action::Installed) | `Tokens::install`, `epoch.lua`: the token takes the place of another |
//! | [`Committed`](Action::Committed), [`ChangeExecuted`](Action::ChangeExecuted) | the caller's commit, then `invalidate.lua` |
//! | [`GetBegun`](Action::GetBegun), [`GetExecuted`](Action::GetExecuted) | `get_valid.lua`; a load and its fill, in one step |
//! | [`Copied`](Action::Copied), [`Switched`](Action::Switched) | the replica catches up; it is promoted, and the old master follows it |
//! | [`Forgotten`](Action::Forgotten), [`Flushed`](Action::Flushed) | SCRIPT FLUSH; FLUSHALL |
//!
//! L1, leases and loads that take time are parts of the other models, whose runs are what the tokens are here.

mod world;

use stateright::{Model, Property};
use world::{Broken, Budget, World};

use crate::check::{holds, in_full, is_caught};

/// The safeguards. A mutant lacks one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mutant {
    /// No safeguard is missing.
    None,
    /// A process that does not know a script is given it again, as is right with run ids.
    SilentReload,
    /// The token in `M` is adopted, and its scripts are loaded, although the process does not know them.
    AdoptUnproven,
    /// A token is used although its scripts were perhaps loaded into two processes.
    LoadUnverified,
    /// A new token takes the place of any other, also of one that a node has just installed.
    InstallUncompared,
    /// A value is read with a plain GET, which any process answers.
    PlainReads,
    /// A token takes the place of another without a new epoch.
    NoEpoch,
}

/// The next event. The numbers are those of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    TokenRead(usize),
    Asked(usize),
    Loaded(usize),
    Verified(usize),
    Installed(usize),
    Committed(usize),
    ChangeExecuted(usize),
    GetBegun(usize),
    GetExecuted(usize),
    Copied,
    Switched,
    Forgotten,
    Flushed,
}

#[derive(Clone, Debug)]
struct Tokens {
    mutant: Mutant,
    budget: Budget,
}

impl Model for Tokens {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::opening(self.budget)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        use Action as A;
        if world.broken.is_some() {
            return;
        }
        for n in 0..world.nodes.len() {
            let node = &world.nodes[n];
            let works = node.change.is_some() || node.owed.is_some();
            actions.extend(
                [
                    (A::TokenRead(n), works && node.may_read()),
                    (A::Asked(n), node.may_ask()),
                    (A::Loaded(n), node.may_load()),
                    (A::Verified(n), node.may_verify()),
                    (A::Installed(n), node.may_install()),
                    (A::Committed(n), node.change.is_none() && world.left.changes > 0),
                    (A::ChangeExecuted(n), node.change.is_some() && node.token != 0),
                    (A::GetBegun(n), node.owed.is_none() && world.left.gets > 0),
                    (A::GetExecuted(n), node.owed.is_some() && node.token != 0),
                ]
                .into_iter()
                .filter_map(|(action, possible)| possible.then_some(action)),
            );
        }
        actions.push(A::Copied);
        if world.left.switches > 0 {
            actions.push(A::Switched);
        }
        if world.left.forgets > 0 {
            actions.push(A::Forgotten);
        }
        if world.left.flushes > 0 {
            actions.push(A::Flushed);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut next = last.clone();
        let world = &mut next;
        let mutant = self.mutant;
        match action {
            Action::TokenRead(n) => world.token_read(n),
            Action::Asked(n) => world.asked(n, mutant),
            Action::Loaded(n) => world.loaded(n)?,
            Action::Verified(n) => world.verified(n, mutant),
            Action::Installed(n) => world.installed(n, mutant),
            Action::Committed(n) => world.committed(n),
            Action::ChangeExecuted(n) => world.change_executed(n, mutant),
            Action::GetBegun(n) => world.get_begun(n),
            Action::GetExecuted(n) => world.get_executed(n, mutant),
            Action::Copied => world.copied(),
            Action::Switched => world.switched(),
            Action::Forgotten => world.forgotten(),
            Action::Flushed => world.flushed(),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("nothing from before an invalidation", |_, world: &World| {
                world.broken != Some(Broken::Stale)
            }),
            Property::always("a token is used in one process", |_, world: &World| {
                world.broken != Some(Broken::TwoProcesses)
            }),
            Property::always("an epoch has a cause", |_, world: &World| {
                world.broken != Some(Broken::NeedlessEpoch)
            }),
        ];
        if self.mutant == Mutant::None {
            properties.push(Property::sometimes("both nodes use one token", |_, world: &World| {
                world.nodes[0].token != 0 && world.nodes[0].token == world.nodes[1].token
            }));
        }
        if self.mutant == Mutant::None && self.budget.gets > 1 {
            let answered = |_: &Self, world: &World| world.answered;
            properties.push(Property::sometimes("a get is answered by a value", answered));
        }
        properties
    }
}

const NOTHING: Budget = Budget { changes: 0, gets: 0, switches: 0, forgets: 0, flushes: 0, stamps: false };
const FAILOVER: Budget = Budget { changes: 1, gets: 2, switches: 1, ..NOTHING };
/// The old master follows the new one and is promoted again: the same process with an older memory. Only a number that
/// is known tells that, as with run ids.
const THERE_AND_BACK: Budget = Budget { changes: 1, gets: 2, switches: 2, stamps: true, ..NOTHING };
const THRICE: Budget = Budget { gets: 2, switches: 3, ..NOTHING };
const FLUSHES: Budget = Budget { changes: 1, gets: 2, forgets: 1, flushes: 1, ..NOTHING };
const TWO_GETS: Budget = Budget { gets: 2, ..NOTHING };

#[test]
fn a_replica_is_promoted_behind_the_proxy() {
    holds("a failover", Tokens { mutant: Mutant::None, budget: FAILOVER });
}

#[test]
fn the_roles_change_twice() {
    let budget = if in_full() { THERE_AND_BACK } else { Budget { gets: 1, ..THERE_AND_BACK } };
    holds("there and back", Tokens { mutant: Mutant::None, budget });
}

#[test]
fn scripts_and_data_are_flushed() {
    let budget = if in_full() { FLUSHES } else { Budget { changes: 0, ..FLUSHES } };
    holds("flushes", Tokens { mutant: Mutant::None, budget });
}

macro_rules! mutants {
    ($($name:ident: $mutant:ident, $budget:expr;)*) => {
        $(#[test] fn $name() {
            let mutant = Mutant::$mutant;
            is_caught(mutant, Tokens { mutant, budget: $budget });
        })*
    };
}

mutants! {
    a_silent_reload: SilentReload, FAILOVER;
    an_unproven_token: AdoptUnproven, FAILOVER;
    a_token_in_two_processes: LoadUnverified, THRICE;
    a_token_that_displaces_any_other: InstallUncompared, TWO_GETS;
    plain_reads: PlainReads, FAILOVER;
    a_new_token_without_an_epoch: NoEpoch, FAILOVER;
}
