//! Visits every state of a model.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

/// A type that can be compared and printed.
pub(crate) trait Lucid: Clone + Debug + PartialEq + Send {}

impl<T: Clone + Debug + PartialEq + Send> Lucid for T {}

/// Whether this build visits the full bounds. A build without optimization visits only what takes it a second.
pub(crate) fn in_full() -> bool {
    !cfg!(debug_assertions)
}

/// Checks that no promise is broken, and that all interesting states are reached.
pub(crate) fn holds<M>(scene: &str, model: M)
where
    M: Model<State: Lucid + Hash + Sync, Action: Lucid> + Send + Sync + 'static,
{
    let begun = Instant::now();
    let checker = model.checker().threads(2).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{scene}: no violation in all {states} states, {depth} steps deep ({:.1?})", begun.elapsed());
    checker.assert_properties();
}

/// Checks that the mutant of this model breaks a promise.
pub(crate) fn is_caught<M>(mutant: impl Debug, model: M)
where
    M: Model<State: Lucid + Hash + Sync, Action: Lucid> + Send + Sync + 'static,
{
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let states = checker.unique_state_count();
    let found = checker.discoveries();
    let shortest = found.iter().min_by_key(|(_, path)| (*path).clone().into_actions().len());
    let (promise, path) = shortest.unwrap_or_else(|| panic!("{mutant:?} went unnoticed in {states} states"));
    let actions = path.clone().into_actions();
    println!("{mutant:?}: broken in {} steps, within {states} states: {promise}", actions.len());
    println!("    {actions:?}");
}
