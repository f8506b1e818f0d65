//! How a partition handles messages.

use super::*;
use crate::backend::{Baseline as Read, State};
use crate::liveness::news::Baseline;

const STALENESS: Duration = Duration::from_secs(1);

fn known(seq: u64) -> Read {
    let state = State { run: RunId(1), seq, floor: 0, time_ms: 0 };
    Read { state, tag_floor: 0, tags: Vec::new(), expired_tags: Vec::new() }
}

/// Live at 5, lost, and subscribed again.
fn resubscribed() -> Partition {
    let partition = Partition::suspended(0, 1, Known::default(), Arc::default(), Switch::default());
    partition.subscribed();
    assert_eq!(partition.baseline(&known(5), Tick(1), STALENESS), Baseline::Flushed);
    partition.lost();
    partition.subscribed();
    partition
}

#[test]
fn what_is_held_is_kept_if_nothing_was_missed() {
    let partition = resubscribed();
    let generation = partition.generation();
    assert_eq!(partition.baseline(&known(5), Tick(1), STALENESS), Baseline::Continued);
    assert_eq!(partition.generation(), generation);

    let partition = resubscribed();
    assert_eq!(partition.heard(6), News::Expected);
    assert_eq!(partition.baseline(&known(6), Tick(1), STALENESS), Baseline::Continued);
    assert_eq!(partition.applied(), 6);
}

#[test]
fn what_is_held_does_not_answer_while_a_change_is_on_the_way() {
    let partition = resubscribed();
    let generation = partition.generation();
    assert_eq!(partition.heard(6), News::Expected);
    assert_eq!(partition.baseline(&known(7), Tick(1), STALENESS), Baseline::Flushed);
    assert_ne!(partition.generation(), generation);
    assert_eq!(partition.applied(), 7);
    assert_eq!(partition.heard(7), News::Expected);
}

#[test]
fn changes_missed_before_those_heard_are_noticed() {
    let partition = resubscribed();
    assert_eq!(partition.heard(7), News::Expected);
    assert_eq!(partition.baseline(&known(5), Tick(1), STALENESS), Baseline::Again);
    assert_eq!(partition.baseline(&known(7), Tick(1), STALENESS), Baseline::Flushed);
}

#[test]
fn another_server_puts_everything_in_doubt_once() {
    let partition = resubscribed();
    assert_eq!(partition.answered_by(RunId(1)), Server::Known);
    assert_eq!(partition.answered_by(RunId(2)), Server::Other(News::Expected));
    assert_eq!(partition.baseline(&known(5), Tick(1), STALENESS), Baseline::Continued);
    assert_eq!(partition.answered_by(RunId(1)), Server::Known);
    assert!(partition.serving_at(Tick(1)));
    assert_eq!(partition.answered_by(RunId(2)), Server::Other(News::Gap));
    assert!(!partition.serving_at(Tick(1)));
    assert_eq!(partition.answered_by(RunId(2)), Server::Other(News::Expected));
}
