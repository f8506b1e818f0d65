//! The bounds of the search, and the states that it must reach.

use super::fleet::Budget;
use super::mutant::Mutant;
use super::{Fills, Opening};
use crate::check::{holds, in_full, is_caught};

const NOTHING: Budget = Budget {
    flights: 0,
    reloads: 0,
    changes: 0,
    puts: 0,
    beats: 0,
    losses: 0,
    disconnects: 0,
    failovers: 0,
    flushes: 0,
    lapses: 0,
    timeouts: 0,
    silences: 0,
};

macro_rules! scenes {
    ($($name:ident: $opening:ident, $full:expr, $small:expr;)*) => {
        mod base {
            use super::*;
            $(#[test] fn $name() {
                let budget = if in_full() { $full } else { $small };
                holds(stringify!($name), Fills { mutant: Mutant::None, budget, opening: Opening::$opening });
            })*
        }
    };
}

macro_rules! mutants {
    ($module:ident, $slow:meta, $($name:ident: $mutant:ident, $opening:ident, $budget:expr;)*) => {
        mod $module {
            use super::*;
            $(#[test] #[cfg_attr(debug_assertions, $slow)] fn $name() {
                let mutant = Mutant::$mutant;
                is_caught(mutant, Fills { mutant, budget: $budget, opening: Opening::$opening });
            })*
        }
    };
}

/// Loads meet changes. There are no other faults than those that a scene adds.
const CALM: Budget = Budget { flights: 2, changes: 1, beats: 1, ..NOTHING };
const LOST_LEASE: Budget = Budget { lapses: 1, ..CALM };
const LATE_WAKE: Budget = Budget { flights: 2, changes: 1, ..NOTHING };
const TWO_CHANGES: Budget = Budget { flights: 1, changes: 2, beats: 1, ..NOTHING };
const LOST_MESSAGE: Budget = Budget { flights: 2, changes: 1, losses: 1, beats: 1, ..NOTHING };
const SILENCE: Budget = Budget { flights: 1, changes: 1, losses: 1, silences: 1, beats: 1, ..NOTHING };
const DISCONNECT: Budget = Budget { flights: 1, changes: 1, disconnects: 1, beats: 1, ..NOTHING };
const EVERYTHING_ON_THE_BUS: Budget = Budget { losses: 1, silences: 1, ..DISCONNECT };
const RECONNECT_BETWEEN_CHANGES: Budget = Budget { flights: 1, changes: 2, disconnects: 1, ..NOTHING };
const FAILOVER: Budget = Budget { flights: 1, changes: 1, failovers: 1, beats: 1, ..NOTHING };
const FLUSHALL: Budget = Budget { flights: 1, changes: 1, flushes: 1, beats: 1, ..NOTHING };
const UNKNOWN_OUTCOME: Budget = Budget { flights: 2, changes: 1, timeouts: 1, ..NOTHING };
const GIVEN_UP: Budget = Budget { flights: 1, changes: 2, puts: 1, timeouts: 1, ..NOTHING };
const REFRESH: Budget = Budget { flights: 2, reloads: 1, changes: 1, ..NOTHING };

scenes! {
    calm: Idle, CALM, Budget { flights: 1, ..CALM };
    a_lease_lapses: Idle, LOST_LEASE, Budget { flights: 1, ..LOST_LEASE };
    a_wake_up_is_late: Loading, LATE_WAKE, Budget { flights: 1, ..LATE_WAKE };
    two_changes: Idle, TWO_CHANGES, Budget { beats: 0, flights: 1, ..CALM };
    a_message_is_lost: Idle, LOST_MESSAGE, Budget { flights: 1, ..LOST_MESSAGE };
    everything_on_the_bus: Idle, EVERYTHING_ON_THE_BUS, Budget { flights: 0, ..EVERYTHING_ON_THE_BUS };
    a_reconnect_between_changes: Idle, RECONNECT_BETWEEN_CHANGES, Budget { flights: 0, ..RECONNECT_BETWEEN_CHANGES };
    a_lagging_replica_is_promoted: Idle, FAILOVER, Budget { flights: 0, ..FAILOVER };
    everything_is_flushed: Idle, FLUSHALL, Budget { beats: 0, ..FLUSHALL };
    a_command_of_unknown_outcome: Idle, UNKNOWN_OUTCOME, Budget { flights: 1, ..UNKNOWN_OUTCOME };
    a_put_that_was_given_up: Idle, GIVEN_UP, Budget { flights: 0, ..GIVEN_UP };
    a_refresh: Idle, REFRESH, Budget { changes: 0, ..REFRESH };
}

mutants! {
    mutants, allow(unused),
    no_l1_stamp: NoStamp, Idle, CALM;
    stamp_after_reply: StampAfterReply, Idle, CALM;
    check_then_insert: CheckThenInsert, Idle, CALM;
    no_second_local_removal: NoSecondRemoval, Idle, CALM;
    join_after_invalidation: JoinAfterInvalidation, Idle, CALM;
    publish_before_delete: PublishBeforeDelete, Idle, CALM;
    lease_for_everyone: LeaseForEveryone, Idle, CALM;
    join_while_suspended: JoinWhileSuspended, Idle, DISCONNECT;
    reconnect_without_flush: ReconnectWithoutFlush, Idle, DISCONNECT;
    serve_while_suspended: ServeWhileSuspended, Idle, SILENCE;
    heartbeat_without_sequence_check: HeartbeatWithoutSequenceCheck, Idle, SILENCE;
    failover_without_epoch: FailoverWithoutEpoch, Idle, FAILOVER;
    a_read_of_whichever_server: TrustAnyRun, Idle, FAILOVER;
    no_removal_on_failure: NoRemovalOnFailure, Idle, UNKNOWN_OUTCOME;
    l2_is_read_past_a_pending_invalidation: ReadPastPending, Idle, UNKNOWN_OUTCOME;
    a_refresh_in_silence: RefreshInSilence, Idle, Budget { changes: 0, ..REFRESH };
}

mutants! {
    deep_mutants, ignore = "hundreds of thousands of states: run with --release",
    unconditional_fill: UnconditionalFill, Idle, CALM;
    invalidation_keeps_the_lease: InvalidationKeepsTheLease, Idle, CALM;
    flush_before_subscribe_is_acknowledged: FlushBeforeSubscribed, Idle, DISCONNECT;
    token_shared_per_client: TokenSharedPerClient, Idle, LOST_MESSAGE;
    late_wake_ups_are_trusted: TrustLateWakes, Loading, LATE_WAKE;
    a_put_is_executed_at_any_time: PutAtAnyTime, Idle, GIVEN_UP;
    no_removal_after_a_refresh: NoRemovalAfterRefresh, Idle, REFRESH;
    continue_behind_the_state: ContinueBehindTheState, Idle, RECONNECT_BETWEEN_CHANGES;
}
