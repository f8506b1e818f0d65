use super::*;
use crate::backend::NodeId;

const TOKEN: Token = Token { node: NodeId(1), counter: 7 };
const OTHER: Token = Token { node: NodeId(2), counter: 9 };
const LEASE: Lease = Lease { token: TOKEN, seq: 40 };
const LAPSES: Duration = Duration::from_millis(30);

/// A lookup that takes what is cached, of a cache with an L2 that can be asked.
const CACHED: Knowledge = Knowledge {
    reloads: false,
    wants_previous: false,
    skips_read: false,
    recalls: false,
    fails_in_outage: false,
    waited: false,
    l2: Access::Open,
    accept: Accept::Any,
};
const RELOADS: Knowledge = Knowledge { reloads: true, ..CACHED };
const WITH_PREVIOUS: Knowledge = Knowledge { wants_previous: true, ..RELOADS };
const WAITED: Knowledge = Knowledge { waited: true, ..CACHED };
const SKIPS: Knowledge = Knowledge { skips_read: true, ..CACHED };
const FAILS: Knowledge = Knowledge { fails_in_outage: true, ..CACHED };
const RECALLS: Knowledge = Knowledge { recalls: true, ..SKIPS };
const UNSENT: Knowledge = Knowledge { l2: Access::Unsent, ..CACHED };
const ALONE: Knowledge = Knowledge { l2: Access::Missing, ..CACHED };

fn decides(table: &[(Knowledge, Learnt, Action)]) {
    for (before, learnt, action) in table {
        let mut known = *before;
        assert_eq!(step(&mut known, *learnt), *action, "{before:?} learns {learnt:?}");
    }
}

#[test]
fn what_l1_holds() {
    let learns = |held| Learnt::L1(held);
    let load = Action::Load(Basis::Alone);
    decides(&[
        (CACHED, learns(InL1::Answers), Action::Answer(AnsweredBy::L1)),
        (CACHED, learns(InL1::Unverified(TOKEN)), Action::Acquire(Accept::Known(TOKEN))),
        (UNSENT, learns(InL1::Unverified(TOKEN)), load),
        (CACHED, learns(InL1::Nothing(Accept::Any)), Action::ReadL2),
        (CACHED, learns(InL1::Nothing(Accept::Other(TOKEN))), Action::ReadL2),
        (SKIPS, learns(InL1::Nothing(Accept::Any)), Action::Acquire(Accept::Any)),
        (SKIPS, learns(InL1::Nothing(Accept::Other(TOKEN))), Action::Acquire(Accept::Other(TOKEN))),
        // While an invalidation of the key is pending, no lease is asked for. The read refuses the key.
        (Knowledge { skips_read: true, ..UNSENT }, learns(InL1::Nothing(Accept::Any)), Action::ReadL2),
        (ALONE, learns(InL1::Nothing(Accept::Any)), load),
        (ALONE, learns(InL1::Nothing(Accept::Other(TOKEN))), load),
        (RELOADS, learns(InL1::Nothing(Accept::Any)), Action::Acquire(Accept::Nothing)),
        (RELOADS, learns(InL1::Nothing(Accept::Other(TOKEN))), Action::Acquire(Accept::Nothing)),
        (WITH_PREVIOUS, learns(InL1::Nothing(Accept::Any)), Action::ReadL2),
        (WITH_PREVIOUS, learns(InL1::Nothing(Accept::Other(TOKEN))), Action::Acquire(Accept::Nothing)),
        (Knowledge { skips_read: true, ..WITH_PREVIOUS }, learns(InL1::Nothing(Accept::Any)), Action::ReadL2),
        (Knowledge { l2: Access::Unsent, ..RELOADS }, learns(InL1::Nothing(Accept::Any)), load),
    ]);
}

#[test]
fn what_l2_has() {
    let learns = |read| Learnt::L2(read);
    let knows_other = Knowledge { accept: Accept::Other(OTHER), ..CACHED };
    let load = Action::Load(Basis::Alone);
    decides(&[
        (CACHED, learns(InL2::Answers), Action::Answer(AnsweredBy::L2)),
        (CACHED, learns(InL2::BacksOff), Action::Answer(AnsweredBy::Backoff)),
        (WITH_PREVIOUS, learns(InL2::Nothing(Accept::Other(TOKEN))), Action::Acquire(Accept::Nothing)),
        (CACHED, learns(InL2::Nothing(Accept::Any)), Action::Acquire(Accept::Any)),
        (CACHED, learns(InL2::Nothing(Accept::Other(TOKEN))), Action::Acquire(Accept::Other(TOKEN))),
        (knows_other, learns(InL2::Nothing(Accept::Any)), Action::Acquire(Accept::Other(OTHER))),
        (knows_other, learns(InL2::Nothing(Accept::Other(TOKEN))), Action::Acquire(Accept::Other(TOKEN))),
        (UNSENT, learns(InL2::Nothing(Accept::Any)), load),
        (CACHED, learns(InL2::Unreachable), load),
        (FAILS, learns(InL2::Unreachable), Action::Fail),
    ]);
}

#[test]
fn what_the_lease_is_answered_with() {
    let learns = |reply| Learnt::Lease(reply);
    let uncached = Action::Load(Basis::Uncached);
    decides(&[
        (CACHED, learns(Reply::Granted(LEASE)), Action::Load(Basis::Leased(LEASE))),
        (CACHED, learns(Reply::Answers), Action::Answer(AnsweredBy::L2)),
        (WAITED, learns(Reply::Answers), Action::Answer(AnsweredBy::OtherNode)),
        (CACHED, learns(Reply::BacksOff), Action::Answer(AnsweredBy::Backoff)),
        (CACHED, learns(Reply::Again(Accept::Other(TOKEN))), Action::Acquire(Accept::Other(TOKEN))),
        (CACHED, learns(Reply::Busy(LAPSES)), Action::Wait(LAPSES)),
        (CACHED, learns(Reply::OutOfPatience { makes_do: true }), Action::FailElsewhere),
        (CACHED, learns(Reply::OutOfPatience { makes_do: false }), uncached),
        (CACHED, learns(Reply::NoRoom(40)), Action::Load(Basis::NoRoom(40))),
        (CACHED, learns(Reply::Unsent), uncached),
        (FAILS, learns(Reply::Unreachable { held_answers: true }), Action::Answer(AnsweredBy::Unverified)),
        (CACHED, learns(Reply::Unreachable { held_answers: false }), Action::Load(Basis::Alone)),
        (FAILS, learns(Reply::Unreachable { held_answers: false }), Action::Fail),
    ]);
}

#[test]
fn an_earlier_error_takes_the_place_of_a_load_and_not_of_a_value() {
    let alone = Knowledge { recalls: true, ..ALONE };
    decides(&[
        (RECALLS, Learnt::L1(InL1::Answers), Action::Answer(AnsweredBy::L1)),
        (RECALLS, Learnt::L1(InL1::Nothing(Accept::Any)), Action::ReadL2),
        (RECALLS, Learnt::L1(InL1::Nothing(Accept::Other(TOKEN))), Action::ReadL2),
        (RECALLS, Learnt::L1(InL1::Unverified(TOKEN)), Action::ReadL2),
        (RECALLS, Learnt::L2(InL2::Answers), Action::Answer(AnsweredBy::L2)),
        (RECALLS, Learnt::L2(InL2::BacksOff), Action::Answer(AnsweredBy::Backoff)),
        (RECALLS, Learnt::L2(InL2::Nothing(Accept::Any)), Action::FailAgain),
        (RECALLS, Learnt::L2(InL2::Nothing(Accept::Other(TOKEN))), Action::FailAgain),
        (RECALLS, Learnt::L2(InL2::Unreachable), Action::FailAgain),
        (Knowledge { fails_in_outage: true, ..RECALLS }, Learnt::L2(InL2::Unreachable), Action::Fail),
        (alone, Learnt::L1(InL1::Nothing(Accept::Any)), Action::FailAgain),
        (alone, Learnt::L1(InL1::Nothing(Accept::Other(TOKEN))), Action::FailAgain),
    ]);
}

#[test]
fn how_a_wait_ends() {
    let known = Knowledge { accept: Accept::Other(OTHER), ..CACHED };
    decides(&[
        (known, Learnt::Waited(Woken::Answers), Action::Answer(AnsweredBy::L2)),
        (known, Learnt::Waited(Woken::Due), Action::Acquire(Accept::Other(OTHER))),
        (known, Learnt::Waited(Woken::MakesDo), Action::FailElsewhere),
    ]);
}

/// A value that did not answer once is excluded from every later question of the lookup.
#[test]
fn what_is_acceptable_is_remembered() {
    let mut known = CACHED;
    step(&mut known, Learnt::Lease(Reply::Again(Accept::Other(TOKEN))));
    step(&mut known, Learnt::Lease(Reply::Busy(LAPSES)));
    assert_eq!(step(&mut known, Learnt::Waited(Woken::Due)), Action::Acquire(Accept::Other(TOKEN)));

    let mut known = SKIPS;
    step(&mut known, Learnt::L1(InL1::Nothing(Accept::Other(OTHER))));
    assert_eq!(step(&mut known, Learnt::Waited(Woken::Due)), Action::Acquire(Accept::Other(OTHER)));
}

#[test]
fn where_a_loaded_value_is_stored() {
    let (leased, no_room) = (Basis::Leased(LEASE), Basis::NoRoom(40));
    let table = [
        (leased, Keep::Cached, StoreIn::Fleet(LEASE)),
        (Basis::Alone, Keep::Cached, StoreIn::L1),
        (no_room, Keep::Cached, StoreIn::L1),
        (Basis::Uncached, Keep::Cached, StoreIn::Nowhere),
        (leased, Keep::Uncached, StoreIn::Nowhere),
        (Basis::Alone, Keep::Uncached, StoreIn::Nowhere),
    ];
    for (basis, keep, stored) in table {
        assert_eq!(store_in(basis, keep, false), stored, "{basis:?} {keep:?}");
        let replaced = if keep == Keep::Uncached { StoreIn::Removed } else { stored };
        assert_eq!(store_in(basis, keep, true), replaced, "{basis:?} {keep:?}");
    }
    let reflects = [leased, no_room, Basis::Alone, Basis::Uncached].map(|basis| basis.loaded_at(12));
    assert_eq!(reflects, [40, 40, 12, 12]);
    let rejected = [leased, no_room, Basis::Alone, Basis::Uncached].map(Basis::is_rejected);
    assert_eq!(rejected, [false, true, false, true]);
}

#[test]
fn what_a_caller_does_after_a_flight() {
    use Ended::*;
    for ended in [Answered, TooOld, WithoutValue, Failed, FailedElsewhere, StandIn] {
        assert_eq!(after_flight(true, ended), Next::Return, "{ended:?}");
    }
    assert_eq!(after_flight(true, Abandoned), Next::Lost);
    for ended in [Answered, Failed, StandIn] {
        assert_eq!(after_flight(false, ended), Next::Return, "{ended:?}");
    }
    for ended in [TooOld, FailedElsewhere, Abandoned] {
        assert_eq!(after_flight(false, ended), Next::AskAgain, "{ended:?}");
    }
    assert_eq!(after_flight(false, WithoutValue), Next::AskForValue);
}
