//! With one safeguard switched off, the simulation finds a broken promise.

use async_cache::testing::Mutant;
use async_cache_memory::testing::Mutant as TierMutant;
use integration_tests::simulation::whole::{self, Breach, Promise};
use integration_tests::simulation::{Off, Violation, run};

// Each is a search through many seeds, and an optimized build makes it in seconds.

fn is_found(off: Off, as_what: impl Fn(&Violation) -> bool) {
    for seed in 0..1000 {
        let outcome = run(seed, off, false);
        if let Some(violation) = outcome.violation.filter(&as_what) {
            println!("{off:?}: seed {seed}: {violation:?}");
            return;
        }
    }
    panic!("{off:?} was not found within 1,000 seeds");
}

macro_rules! found {
    ($($name:ident: $off:expr,)*) => {
        $(#[test] #[cfg_attr(debug_assertions, ignore = "many seeds: run with --release")] fn $name() { is_found($off, Violation::is_stale); })*
    };
}

found! {
    no_stamp: Off::Node(Mutant::NoStamp),
    stamp_after_reply: Off::Node(Mutant::StampAfterReply),
    check_then_insert: Off::Node(Mutant::CheckThenInsert),
    no_second_removal: Off::Node(Mutant::NoSecondRemoval),
    join_after_invalidation: Off::Node(Mutant::JoinAfterInvalidation),
    join_while_suspended: Off::Node(Mutant::JoinWhileSuspended),
    reconnect_without_flush: Off::Node(Mutant::ReconnectWithoutFlush),
    flush_before_subscribed: Off::Node(Mutant::FlushBeforeSubscribed),
    heartbeat_without_sequence_check: Off::Node(Mutant::HeartbeatWithoutSequenceCheck),
    serve_while_suspended: Off::Node(Mutant::ServeWhileSuspended),
    token_shared_per_client: Off::Node(Mutant::TokenSharedPerClient),
    trust_any_run: Off::Node(Mutant::TrustAnyRun),
    read_past_pending: Off::Node(Mutant::ReadPastPending),
    put_at_any_time: Off::Node(Mutant::PutAtAnyTime),
    hits_ignore_tags: Off::Node(Mutant::HitsIgnoreTags),
    joiners_unchecked: Off::Node(Mutant::JoinersUnchecked),
    joiners_checked_by_seal: Off::Node(Mutant::JoinersCheckedBySeal),
    tags_forgotten_by_a_node: Off::Node(Mutant::TagsForgotten),
    fallback_unchecked: Off::Node(Mutant::FallbackUnchecked),
    unconditional_fill: Off::Tier(TierMutant::UnconditionalFill),
    invalidation_keeps_lease: Off::Tier(TierMutant::InvalidationKeepsLease),
    publish_before_delete: Off::Tier(TierMutant::PublishBeforeDelete),
    failover_without_epoch: Off::Tier(TierMutant::FailoverWithoutEpoch),
    fill_ignores_tags: Off::Tier(TierMutant::FillIgnoresTags),
    refresh_compares_own_number: Off::Tier(TierMutant::RefreshComparesOwnNumber),
    tags_forgotten_by_the_tier: Off::Tier(TierMutant::TagsForgotten),
}

/// A lookup that is not woken waits longer, and never reads an old value.
#[test]
#[cfg_attr(debug_assertions, ignore = "many seeds: run with --release")]
fn lose_wakes() {
    is_found(Off::Node(Mutant::LoseWakes), |violation| matches!(violation, Violation::LateWake { .. }));
}

/// Checks a safeguard that some public methods need. The judge's report must contain `of`.
fn is_found_by_whole(off: Off, promise: Promise, of: &str) {
    for seed in 0..3000 {
        let meant = |told: &Breach| told.promise == promise && told.what.contains(of);
        let Some(told) = whole::run(seed, off, false).breach.filter(meant) else { continue };
        // The same seed must pass with all safeguards. Otherwise the judge would object to anything.
        assert!(whole::run(seed, Off::Nothing, false).breach.is_none(), "seed {seed} fails with every fence");
        println!("{off:?}: {told}");
        return;
    }
    panic!("{off:?} was not found within 3,000 seeds");
}

macro_rules! found_by_whole {
    ($($name:ident: $off:expr, $promise:ident $of:literal;)*) => {
        $(#[test] #[cfg_attr(debug_assertions, ignore = "many seeds: run with --release")] fn $name() { is_found_by_whole($off, Promise::$promise, $of); })*
    };
}

found_by_whole! {
    trust_unknown_server_time: Off::Node(Mutant::TrustUnknownServerTime), Age "";
    cap_means_stale: Off::Node(Mutant::CapMeansStale), Loads "";
    successors_lead_alone: Off::Node(Mutant::SuccessorsLeadAlone), Loads "";
    leases_kept_from_load: Off::Node(Mutant::LeasesKeptFromLoad), Loads "";
    serves_suspended_whatever_is_called: Off::Node(Mutant::ServeWhileSuspended), Staleness "";
    absences_that_ignore_tags: Off::Node(Mutant::HitsIgnoreTags), Staleness "that there is none";
    absences_joined_from_before_a_change: Off::Node(Mutant::JoinAfterInvalidation), Staleness "that there is none";
    contains_that_ignores_tags: Off::Node(Mutant::HitsIgnoreTags), Staleness "(Contains)";
    waits_without_a_deadline: Off::Node(Mutant::WaitWithoutDeadline), Liveness "its own limits allow";
    hits_that_ignore_tags_whatever_is_called: Off::Node(Mutant::HitsIgnoreTags), Staleness "with what is from";
}
