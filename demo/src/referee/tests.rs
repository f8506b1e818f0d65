use super::*;

const S: u64 = SECOND;

fn read(version: u32, start: u64, answer: Answer) -> Event {
    Event::Read(Read { product: 7, version, start, end: start + 10, answer, purpose: Purpose::Traffic })
}

fn after(events: &[(u16, Event)]) -> Referee {
    let mut referee = Referee::new(2, 99);
    for (instance, event) in events {
        referee.take(*instance, vec![*event], 0, Tiers::default());
    }
    for instance in 0..2 {
        referee.take(instance, Vec::new(), u64::MAX, Tiers::default());
    }
    referee
}

fn invalidated(version: u32, at: u64) -> Event {
    Event::Invalidated { product: 7, version, began: at, at }
}

#[test]
fn an_old_read_is_stale_a_bound_later_elsewhere_and_at_once_where_it_was_written() {
    let verdict = |instance, start| {
        let referee = after(&[(0, invalidated(2, 5 * S)), (instance, read(1, start, Answer::L1))]);
        (referee.seen.stale, referee.seen.behind)
    };
    assert_eq!(verdict(1, 5 * S - 1), (0, 0));
    assert_eq!(verdict(1, 5 * S + 1), (0, 1));
    assert_eq!(verdict(1, 6 * S + 1), (1, 0));
    assert_eq!(verdict(0, 5 * S - 1), (0, 0));
    assert_eq!(verdict(0, 5 * S + 1), (1, 0));
}

#[test]
fn an_old_read_of_an_instance_that_is_cut_off_is_counted_apart() {
    let mut referee = Referee::new(2, 99);
    referee.take(0, vec![invalidated(2, 5 * S)], 5 * S, Tiers::default());
    let cut_off = Tiers { l2_unreachable: true, ..Tiers::default() };
    referee.take(1, vec![read(1, 7 * S, Answer::L1)], 8 * S, cut_off);
    referee.take(1, vec![read(1, 10 * S, Answer::L1)], 11 * S, Tiers::default());
    referee.take(0, Vec::new(), 12 * S, Tiers::default());
    assert_eq!((referee.seen.checked, referee.seen.unbound, referee.seen.stale), (2, 1, 1));
}

#[test]
fn an_instance_that_is_gone_is_not_waited_for() {
    let mut referee = Referee::new(2, 99);
    referee.take(0, Vec::new(), S, Tiers::default());
    referee.take(1, vec![read(1, 7 * S, Answer::L1)], 9 * S, Tiers::default());
    referee.dismiss_if_silent(0, S);
    assert_eq!(referee.seen.checked, 0);
    referee.dismiss_if_silent(0, S + 1);
    assert_eq!(referee.seen.checked, 1);
}

#[test]
fn requests_are_counted_by_their_answer() {
    let mut referee = Referee::new(1, 99);
    let failed = |purpose| Event::ReadFailed { at: 9, purpose };
    let first = vec![read(1, 1, Answer::L1), read(1, 2, Answer::Stale), read(1, 3, Answer::Waited)];
    referee.take(0, first, 20, Tiers::default());
    let events = vec![read(1, 30, Answer::L2), failed(Purpose::Traffic), failed(Purpose::Lag)];
    referee.take(0, events, 50, Tiers::default());
    let answers = referee.instances()[0].answers;
    assert_eq!((answers.l1, answers.l2, answers.waited, answers.stale, answers.failed), (1, 1, 1, 1, 1));
    assert_eq!(referee.take_recent(0).len(), 4);
    assert_eq!(referee.take_recent(0).len(), 0);
}

#[test]
fn a_newer_version_is_never_stale_whatever_came_late() {
    let referee = after(&[
        (0, invalidated(3, 5 * S)),
        (1, invalidated(2, 6 * S)),
        (1, read(3, 8 * S, Answer::L1)),
        (1, read(2, 8 * S, Answer::L1)),
    ]);
    assert_eq!(referee.seen.stale, 1);
    assert!(referee.seen.evidence[0].contains("version 2"), "{:?}", referee.seen.evidence);
}

#[test]
fn a_read_waits_for_what_another_instance_has_not_reported_yet() {
    let mut referee = Referee::new(2, 99);
    referee.take(1, vec![read(1, 7 * S, Answer::L1)], 9 * S, Tiers::default());
    assert_eq!(referee.seen.checked, 0);
    referee.take(0, vec![invalidated(2, 5 * S)], 6 * S, Tiers::default());
    assert_eq!(referee.seen.checked, 0);
    referee.take(0, Vec::new(), 8 * S, Tiers::default());
    assert_eq!((referee.seen.checked, referee.seen.stale), (1, 1));
}

#[test]
fn queries_of_one_row_at_once_are_counted_over_all_instances() {
    let began = |at| Event::QueryBegan { product: 7, at };
    let ended = |began, at| Event::QueryEnded { product: 7, began, at };
    let counts = |events: &[(u16, Event)]| {
        let seen = after(events).seen;
        (seen.most_concurrent, seen.duplicates)
    };
    assert_eq!(counts(&[(0, began(1)), (0, ended(1, 2)), (1, began(3)), (1, ended(3, 4))]), (1, 0));
    assert_eq!(counts(&[(0, began(1)), (0, ended(1, 3)), (1, began(2)), (1, ended(2, 4))]), (2, 1));
    let write = Event::Invalidated { product: 7, version: 2, began: 2, at: 4 };
    assert_eq!(counts(&[(0, began(1)), (1, write), (1, began(3))]), (2, 0));
    assert_eq!(counts(&[(1, write), (0, began(5)), (1, began(6))]), (2, 1));
    assert_eq!(counts(&[(1, write), (0, began(5)), (1, began(6)), (0, read(2, 3, Answer::Loaded))]), (2, 0));
}
