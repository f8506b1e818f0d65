//! The possible events in a state of [`Fills`], and the states that a search must reach.

use stateright::Property;

use super::fleet::{Budget, Fleet, NODES, Progress};
use super::node::Step;
use super::server::Acquired;
use super::{Action, Fills};
use crate::phase::Phase;

/// Adds all events that may be next. If the function of an event finds it impossible, there is no transition.
pub(crate) fn choices(fleet: &Fleet, actions: &mut Vec<Action>) {
    for (f, flight) in fleet.flights.iter().enumerate() {
        match flight.step {
            Step::Unused | Step::Done => {}
            Step::Get { .. } => actions.push(Action::GetExecuted(f)),
            Step::Got { .. } => actions.push(Action::GotAnswer(f)),
            Step::Ask => actions.push(Action::AcquireExecuted(f)),
            Step::Asked(_) => actions.push(Action::AcquireAnswered(f)),
            Step::Waiting => {
                actions.push(if flight.woken.is_some() { Action::Woken(f) } else { Action::Polled(f) });
                actions.push(Action::Impatient(f));
            }
            Step::Loading(_) => actions.push(Action::RowRead(f)),
            Step::Loaded(lease, _) => {
                actions.push(Action::FillExecuted(f));
                if lease.is_ok() && fleet.left.timeouts > 0 {
                    actions.push(Action::FillLost(f));
                }
            }
            Step::Filled(_) => actions.push(Action::FillAnswered(f)),
            Step::Checked(_) => actions.push(Action::StoredAfterCheck(f)),
        }
    }
    changes(fleet, actions);
    for n in 0..NODES {
        nodes(fleet, n, actions);
    }
    let left = &fleet.left;
    if left.lapses > 0 && fleet.server.memory.lock.is_some() {
        actions.push(Action::LockLapsed);
    }
    if left.failovers > 0 {
        actions.push(if fleet.replica.is_some() { Action::Promoted } else { Action::Copied });
    }
    if left.flushes > 0 {
        actions.push(Action::Flushed);
    }
}

fn changes(fleet: &Fleet, actions: &mut Vec<Action>) {
    for (c, change) in fleet.changes.iter().enumerate() {
        match change.progress {
            Progress::Unused | Progress::Done => {}
            Progress::Sent => actions.push(Action::ChangeExecuted(c)),
            Progress::Published(_) => actions.push(Action::Deleted(c)),
            Progress::Executed(_) => actions.push(Action::ChangeAnswered(c)),
            Progress::Retrying => actions.push(Action::RetryExecuted(c)),
            Progress::Retried(_) => actions.push(Action::RetryAnswered(c)),
        }
        if fleet.left.timeouts > 0 && matches!(change.progress, Progress::Sent | Progress::Executed(_)) {
            actions.push(Action::ChangeFailed(c));
        }
        if change.stuck {
            actions.push(Action::LateChange(c));
        }
    }
}

fn nodes(fleet: &Fleet, n: usize, actions: &mut Vec<Action>) {
    let (node, left) = (&fleet.nodes[n], &fleet.left);
    if left.flights > 0 {
        actions.push(Action::Start { node: n, reload: false, insist: false });
        if fleet.executed > 1 {
            actions.push(Action::Start { node: n, reload: false, insist: true });
        }
        if left.reloads > 0 {
            actions.push(Action::Start { node: n, reload: true, insist: false });
        }
    }
    if left.changes > 0 {
        actions.push(Action::Commit { node: n, put: false });
        if left.puts > 0 {
            actions.push(Action::Commit { node: n, put: true });
        }
    }
    if !node.bus.is_empty() {
        actions.push(Action::Delivered(n));
        if left.losses > 0 {
            actions.push(Action::MessageLost(n));
        }
    }
    if left.beats > 0 && node.phase == Phase::Live {
        actions.push(Action::Beat(n));
    }
    if node.serving.is_some() && left.silences > 0 {
        actions.push(Action::LeaseLapsed(n));
    }
    if matches!(node.phase, Phase::Syncing(_)) && node.state.is_none() {
        actions.push(Action::StateRead(n));
    }
    if node.state.is_some() {
        actions.push(Action::Baseline(n));
    }
    if node.subscribed && left.disconnects > 0 {
        actions.push(Action::Disconnected(n));
    }
    if !node.subscribed {
        actions.push(if node.phase == Phase::Deaf { Action::Subscribed(n) } else { Action::Noticed(n) });
    }
}

/// The states that each scene must reach. Without them the checks would be empty.
pub(crate) fn interesting(budget: Budget) -> Vec<Property<Fills>> {
    let mut seen = Vec::new();
    if budget.beats > 0 && budget.flights > 0 {
        seen.push(Property::sometimes("a node serves the newest version", |_, fleet: &Fleet| {
            fleet.row > 1 && fleet.newly_served()
        }));
    }
    if budget.flights > 1 {
        seen.push(Property::sometimes("a node waits for another's load", |_, fleet: &Fleet| {
            fleet.flights.iter().any(|flight| flight.step == Step::Waiting)
        }));
        seen.push(Property::sometimes("a wake-up brings a value", |_, fleet: &Fleet| {
            fleet.flights.iter().any(|flight| matches!(flight.woken, Some(Some(_))))
        }));
    }
    if budget.changes > 0 && budget.flights > 0 {
        seen.push(Property::sometimes("a fill is refused", |_, fleet: &Fleet| {
            fleet.flights.iter().any(|flight| matches!(flight.step, Step::Filled(Err(_))))
        }));
        seen.push(Property::sometimes("a ticket is void", |_, fleet: &Fleet| {
            fleet.flights.iter().any(|flight| flight.ticket.spoiled && flight.ticket.heard)
        }));
        seen.push(Property::sometimes("a load goes on that nobody joins any more", |_, fleet: &Fleet| {
            let forgotten = |f: usize| fleet.nodes.iter().all(|node| node.flight != Some(f as u8));
            fleet
                .flights
                .iter()
                .enumerate()
                .any(|(f, flight)| matches!(flight.step, Step::Loading(_)) && forgotten(f))
        }));
    }
    if budget.disconnects > 0 && budget.flights > 0 {
        seen.push(Property::sometimes("what is held is confirmed without a payload", |_, fleet: &Fleet| {
            fleet.flights.iter().any(|flight| flight.step == Step::Asked(Acquired::Unchanged))
        }));
    }
    if budget.failovers > 0 {
        seen.push(Property::sometimes("a promoted server serves again", |_, fleet: &Fleet| {
            fleet.server.run == 2 && fleet.nodes.iter().all(|node| node.run == 2 && node.serving.is_some())
        }));
    }
    if budget.timeouts > 0 {
        seen.push(Property::sometimes(
            "a given-up change is executed after its retry",
            |_, fleet: &Fleet| {
                fleet.changes.iter().any(|change| change.progress == Progress::Done && change.stuck)
            },
        ));
    }
    seen
}
