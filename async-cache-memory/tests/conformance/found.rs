//! Each case objects to a tier that breaks its clause.

use async_cache_core::testing::conformance::{cases, check};

use crate::broken::{Broken, Fault};
#[cfg(feature = "testing")]
use {crate::Memory, async_cache_memory::MemoryBackend, async_cache_memory::testing::Mutant};

async fn objects(name: &str, fault: Fault) {
    let case = cases().find(|case| case.name == name).expect("a case of that name");
    let violation = check(&Broken::by(fault), case).await;
    violation.expect_err("the case must object to a tier that breaks its clause");
}

#[cfg(feature = "testing")]
#[tokio::test(start_paused = true)]
async fn mutants_of_the_tier_itself() {
    for (name, mutant) in [
        ("only_its_lease_fills", Mutant::UnconditionalFill),
        ("a_put_breaks_the_lease", Mutant::InvalidationKeepsLease),
        ("an_invalidation_breaks_the_lease", Mutant::InvalidationKeepsLease),
        ("what_is_heard_can_be_read", Mutant::PublishBeforeDelete),
        ("lost_memory_is_fenced", Mutant::FailoverWithoutEpoch),
    ] {
        let case = cases().find(|case| case.name == name).expect("a case of that name");
        let memory = Memory(MemoryBackend::builder().mutant(mutant).build());
        check(&memory, case).await.expect_err("the case must object to the mutant");
    }
}

/// Every case has its fault here.
macro_rules! found {
    ($($case:ident: $fault:ident,)*) => {
        $(#[tokio::test(start_paused = true)]
        async fn $case() {
            objects(stringify!($case), Fault::$fault).await;
        })*

        #[test]
        fn every_case_is_here() {
            let here = [$(stringify!($case)),*];
            let missing: Vec<_> = cases().filter(|case| !here.contains(&case.name)).collect();
            // These are shown by the tier's own mutants.
            let elsewhere = ["a_put_breaks_the_lease", "an_invalidation_breaks_the_lease", "lost_memory_is_fenced"];
            assert_eq!(missing.iter().map(|case| case.name).collect::<Vec<_>>(), elsewhere);
        }
    };
}

found! {
    a_filled_value_is_sealed_with_its_lease: SealsFillsWithTheirOwnNumber,
    a_put_value_is_sealed_with_its_own_number: AnswersPutsWithTheNumberBefore,
    an_announced_fill_is_sealed_with_its_own_number: NeverAnnounces,
    a_stored_value_answers: NeverConfirms,
    an_expired_value_makes_room: ConfirmsWhatHasExpired,
    a_plain_read_looks_at_nothing_else: HidesWhatIsBelowTheFloor,
    many_are_read_in_order: MixesAnswersUp,
    answers_name_one_server: ForgetsItsRun,
    values_end_with_their_life: KeepsForEver,
    keys_and_frames_are_any_bytes: CutsKeys,
    namespaces_are_apart: SharesNamespaces,
    another_record_is_refused: TakesAnyRecord,
    no_such_partition: InventsPartitions,
    the_clock_goes_on: StopsItsClock,
    one_of_many_is_granted: GrantsTwice,
    a_grant_carries_the_sequence: GrantsOtherNumbers,
    only_its_lease_fills: FillsWithoutLease,
    only_its_lease_is_renewed_or_released: RenewsWhatIsNotHeld,
    a_lapsed_lease_is_gone: NeverLapses,
    a_renewed_lease_lives_on: RenewsWhatIsNotHeld,
    a_fill_ends_the_lease: KeepsFilledLeases,
    a_release_ends_the_lease: KeepsReleasedLeases,
    a_fill_wakes_with_small_values: WakesWithoutValue,
    a_release_wakes: WakesOnlyWithValue,
    only_those_who_wait_are_woken: WakesEveryone,
    who_waits_outlasts_the_lease: WakesOnlyWithValue,
    many_at_once_are_as_one_by_one: GrantsTwice,
    each_change_raises_the_sequence_by_one: NumbersInTwos,
    nothing_else_raises_it: NumbersReads,
    many_changes_are_answered_in_order: AnswersBackwards,
    an_invalidated_value_is_gone: PutsBackWhatIsInvalidated,
    a_broken_key_cools: NeverCools,
    only_a_held_lease_cools: AlwaysCools,
    a_late_put_changes_nothing: PutsLate,
    a_clear_voids_values: ClearsNothing,
    a_clear_voids_leases: ClearsNothing,
    a_void_fill_wakes: RefusesInSilence,
    a_clear_concerns_one_partition: ClearsEverywhere,
    a_tag_voids_older_values: ForgetsTags,
    every_tag_of_a_change_counts: TakesOneTag,
    a_void_value_is_not_answered: AnswersWhatIsVoid,
    a_tag_refuses_older_loads: FillsPastTags,
    a_tag_refuses_older_refreshes: FillsPastTags,
    a_tag_change_is_heard: KeepsTagsToItself,
    the_baseline_knows_the_tags: ForgetsRoom,
    a_full_table_forgets_nothing: ForgetsRoom,
    an_expired_value_stays_and_says_so: ExpiresByInvalidation,
    an_expired_value_is_not_confirmed: ConfirmsWhatIsExpired,
    without_time_as_a_fallback_it_is_gone: ExpiresNothing,
    an_expiry_breaks_the_lease: ExpiresNothing,
    an_expiry_is_heard: ExpiresByInvalidation,
    an_expired_tag_expires_older_values: ExpiresNothing,
    an_expired_tag_refuses_older_loads: FillsPastExpiredTags,
    the_baseline_knows_the_expired_tags: KeepsExpiredTagsToItself,
    changes_are_heard_by_everyone_in_order: LosesMessages,
    what_is_heard_can_be_read: PublishesEarly,
    each_change_is_heard_as_what_it_is: CallsClearsInvalidations,
    an_echo_comes_behind_every_change: EchoesOldNumbers,
    an_echo_is_for_one_node: EchoesToEveryone,
    a_dropped_region_hears_no_more: SubscribesForEver,
    a_dropped_listener_is_skipped: NeedsItsListener,
    unreachable_is_an_error_in_time: HangsWhileAway,
}
