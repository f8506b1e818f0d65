//! The bounds of the search, and the states that it must reach.

use stateright::Property;

use super::fleet::{Budget, Fleet};
use super::node::Step;
use super::{Mutant, Scene};
use crate::check::{holds, in_full, is_caught};
use crate::phase::Phase;

/// The states that a scene must reach. Without them the checks would be empty.
pub(super) fn interesting(scene: &Scene) -> Vec<Property<Scene>> {
    let mut seen = Vec::new();
    if scene.budget.beats > 0 && scene.budget.flights > 0 {
        seen.push(Property::sometimes("L1 serves what is newest", |_, fleet: &Fleet| {
            let newest = |side: &super::node::Side| {
                side.serving == Some(fleet.row)
                    && side.entry.is_some_and(|held| held.current && held.value.version == fleet.row)
                    && !side.tags.voids(side.entry.map_or(0, |held| held.value.seq))
            };
            fleet.row > 1 && fleet.nodes.iter().any(|node| node.sides.iter().any(newest))
        }));
    }
    if scene.budget.joiners > 0 && scene.budget.tags > 0 && !scene.warm {
        seen.push(Property::sometimes("who has joined asks again", |_, fleet: &Fleet| fleet.asked_again));
    }
    if scene.budget.flights > 1 && !scene.warm {
        seen.push(Property::sometimes("a fill is refused", |_, fleet: &Fleet| {
            fleet.flights.iter().any(|flight| matches!(flight.step, Step::Filled { seq: None, .. }))
        }));
    }
    if scene.budget.failures > 0 && scene.budget.flights > 0 && scene.warm {
        seen.push(Property::sometimes("a retry lands while an old answer is on its way", |_, fleet: &Fleet| {
            let landed = fleet.left.failures == 0
                && !fleet.nodes.iter().any(|node| node.sides.iter().any(|side| side.pending));
            let old = |step| matches!(step, Step::Got { value: Some(value), .. } if value.version < fleet.promised);
            landed && fleet.flights.iter().any(|flight| old(flight.step))
        }));
    }
    if scene.budget.failures > 0 && scene.partitions > 1 {
        seen.push(Property::sometimes("a change is pending in one partition alone", |_, fleet: &Fleet| {
            let pending = |node: &super::node::Node| node.sides.iter().filter(|side| side.pending).count();
            fleet.left.failures == 0 && fleet.nodes.iter().any(|node| pending(node) == 1)
        }));
    }
    if scene.budget.wakes > 0 && scene.budget.flights > 1 {
        seen.push(Property::sometimes("a wake-up brings a value", |_, fleet: &Fleet| {
            fleet.flights.iter().any(|flight| flight.step == Step::Waiting && flight.wake.brought.is_some())
        }));
    }
    if scene.budget.losses > 0 {
        seen.push(Property::sometimes("what was missed is made up for", |_, fleet: &Fleet| {
            let caught_up = |side: &super::node::Side| side.phase == Phase::Live && side.tags.voids(1);
            fleet.left.losses == 0 && fleet.nodes.iter().any(|node| caught_up(&node.sides[0]))
        }));
    }
    seen
}

const NOTHING: Budget = Budget {
    flights: 0,
    reloads: 0,
    joiners: 0,
    tags: 0,
    clears: 0,
    failures: 0,
    others: 0,
    evictions: 0,
    beats: 0,
    wakes: 0,
    losses: 0,
};

const COLD: Scene =
    Scene { mutant: Mutant::None, partitions: 1, warm: false, late_wake: false, budget: NOTHING };
const WARM: Scene = Scene { warm: true, ..COLD };

const fn with(scene: Scene, budget: Budget) -> Scene {
    Scene { budget, ..scene }
}

/// Limits the number of flights of a scene.
fn less(scene: Scene, flights: u8) -> Scene {
    with(scene, Budget { flights, ..scene.budget })
}

const LOADS: Budget = Budget { flights: 2, joiners: 1, beats: 1, ..NOTHING };
const TAG: Scene = with(COLD, Budget { tags: 1, ..LOADS });
const CLEAR: Scene = with(COLD, Budget { clears: 1, ..LOADS });
const TAG_OF_WARM: Scene = with(WARM, Budget { tags: 1, ..LOADS });
const TAG_AND_CLEAR: Scene = with(COLD, Budget { tags: 1, clears: 1, joiners: 0, beats: 0, ..LOADS });
const REFRESH: Scene = with(COLD, Budget { tags: 1, reloads: 1, ..LOADS });
const REFRESH_AND_CLEAR: Scene = with(COLD, Budget { clears: 1, reloads: 1, ..LOADS });
const FAILS: Scene = with(WARM, Budget { tags: 1, failures: 1, ..LOADS });
const FAILS_WHILE_COLD: Scene = with(COLD, Budget { tags: 1, failures: 1, ..LOADS });
const FAILS_SUSPENDED: Scene =
    with(WARM, Budget { flights: 1, tags: 1, failures: 1, others: 1, losses: 1, beats: 1, ..NOTHING });
const WAKES: Budget = Budget { flights: 2, beats: 1, wakes: 1, ..NOTHING };
const WAKES_AND_TAG: Scene = with(COLD, Budget { tags: 1, ..WAKES });
const WAKES_AND_CLEAR: Scene = with(COLD, Budget { clears: 1, ..WAKES });
const LATE_WAKE: Scene = Scene { late_wake: true, ..with(WARM, Budget { clears: 1, ..WAKES }) };
const LATE_WAKE_AND_TAG: Scene = Scene { late_wake: true, ..with(WARM, Budget { tags: 1, ..WAKES }) };
const ROOM_FOR_ONE: Scene = with(WARM, Budget { flights: 2, tags: 1, others: 2, beats: 1, ..NOTHING });
const EVICTION: Scene = with(WARM, Budget { flights: 2, tags: 1, evictions: 1, others: 1, ..NOTHING });
const LOST_MESSAGE: Scene = with(COLD, Budget { flights: 2, tags: 1, others: 1, losses: 1, ..NOTHING });
const TWO_PARTITIONS: Scene =
    Scene { partitions: 2, ..with(WARM, Budget { flights: 2, clears: 1, beats: 1, ..NOTHING }) };
const ONE_CLEAR: Scene = Scene { budget: Budget { flights: 1, clears: 1, ..NOTHING }, ..TWO_PARTITIONS };
const ONE_TAG: Scene = with(WARM, Budget { flights: 1, tags: 1, ..NOTHING });
const ONE_TAG_FAILS: Scene = with(WARM, Budget { flights: 1, tags: 1, failures: 1, ..NOTHING });
const ONE_PARTITION_FAILS: Scene = Scene { partitions: 2, ..ONE_TAG_FAILS };
const JOINED_MEETS_TAG: Scene = with(COLD, Budget { flights: 1, joiners: 1, tags: 1, ..NOTHING });
const JOINED_MEETS_CLEAR: Scene = with(COLD, Budget { flights: 1, joiners: 1, clears: 1, ..NOTHING });
const REFRESH_MEETS_TAG: Scene = with(COLD, Budget { flights: 1, reloads: 1, tags: 1, ..NOTHING });
const REFRESH_MEETS_CLEAR: Scene = with(COLD, Budget { flights: 1, reloads: 1, clears: 1, ..NOTHING });
const READ_AFTER_CLEAR: Scene = with(COLD, Budget { flights: 2, clears: 1, ..NOTHING });

macro_rules! scenes {
    ($($name:ident: $full:expr, $small:expr;)*) => {
        mod base {
            use super::*;
            $(#[test] fn $name() {
                holds(stringify!($name), if in_full() { $full } else { $small });
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

scenes! {
    a_tag: TAG, less(TAG, 1);
    a_tag_of_what_is_held: TAG_OF_WARM, less(TAG_OF_WARM, 1);
    a_clear: CLEAR, less(CLEAR, 1);
    a_tag_and_a_clear: TAG_AND_CLEAR, less(TAG_AND_CLEAR, 1);
    a_refresh: REFRESH, less(REFRESH, 1);
    a_refresh_and_a_clear: REFRESH_AND_CLEAR, less(REFRESH_AND_CLEAR, 1);
    a_tag_that_fails: FAILS, less(FAILS, 1);
    a_tag_that_fails_meets_loads: FAILS_WHILE_COLD, less(FAILS_WHILE_COLD, 1);
    a_tag_that_fails_while_suspended: FAILS_SUSPENDED, less(FAILS_SUSPENDED, 0);
    a_wake_up_and_a_clear: WAKES_AND_CLEAR, less(WAKES_AND_CLEAR, 1);
    a_wake_up_and_a_tag: WAKES_AND_TAG, less(WAKES_AND_TAG, 1);
    a_late_wake_up: LATE_WAKE, less(LATE_WAKE, 1);
    a_late_wake_up_meets_a_tag: LATE_WAKE_AND_TAG, less(LATE_WAKE_AND_TAG, 1);
    tables_with_room_for_one: ROOM_FOR_ONE, less(ROOM_FOR_ONE, 1);
    a_table_is_evicted: EVICTION, less(EVICTION, 1);
    a_message_is_lost: LOST_MESSAGE, less(LOST_MESSAGE, 0);
    two_partitions: TWO_PARTITIONS, ONE_CLEAR;
    a_tag_that_fails_in_one_partition: ONE_PARTITION_FAILS, ONE_PARTITION_FAILS;
}

mutants! {
    mutants, allow(unused),
    a_fill_ignores_tags: FillIgnoresTags, REFRESH_MEETS_TAG;
    a_fill_ignores_the_floor: FillIgnoresTheFloor, REFRESH_MEETS_CLEAR;
    a_refresh_compares_with_its_own_number: RefreshComparesWithItsOwnNumber, REFRESH_MEETS_TAG;
    hits_ignore_tags: HitsIgnoreTags, ONE_TAG;
    plain_reads_ignore_tags: PlainReadsIgnoreTags, ONE_TAG;
    pending_tags_unknown: PendingTagsUnknown, ONE_TAG_FAILS;
    executed_counts_as_landed: ExecutedCountsAsLanded, ONE_PARTITION_FAILS;
    plain_reads_ignore_the_floor: PlainReadsIgnoreTheFloor, READ_AFTER_CLEAR;
    tags_leave_stored_values: TagsLeaveStoredValues, ONE_TAG;
    joiners_take_anything: JoinersTakeAnything, JOINED_MEETS_TAG;
    a_full_table_forgets: FullTableForgets, ROOM_FOR_ONE;
    a_dropped_half_is_forgotten: DroppedHalfIsForgotten, ROOM_FOR_ONE;
    only_the_newer_half: OnlyTheNewerHalf, ROOM_FOR_ONE;
    an_evicted_table_is_empty: EvictedTableIsEmpty, EVICTION;
    join_from_before_a_clear: JoinFromBeforeClear, JOINED_MEETS_CLEAR;
    nothing_cleared_after_the_reply: NothingClearedAfterReply, ONE_CLEAR;
    no_tag_noted_after_the_reply: NoTagNotedAfterReply, ONE_TAG;
    a_clear_of_one_partition: ClearOfOnePartition, ONE_CLEAR;
    one_number_for_all_partitions: OneNumberForAllPartitions, ONE_CLEAR;
}

mutants! {
    deep_mutants, ignore = "hundreds of thousands of states: run with --release",
    answers_ignore_tags: AnswersIgnoreTags, FAILS_SUSPENDED;
    wakes_ignore_the_floor: WakesIgnoreTheFloor, LATE_WAKE;
    late_wakes_answer: LateWakesAnswer, LATE_WAKE;
    a_baseline_without_tags: BaselineWithoutTags, LOST_MESSAGE;
}
