//! The verifier in a fleet with faults: it reports each mutant that lets L1 answer with old values, and no sound fleet.

use std::time::Duration;

use async_cache::testing::Mutant;
use integration_tests::simulation::{Off, run_verified};

/// The number of seeds with all safeguards.
const SEEDS: u64 = if cfg!(debug_assertions) { 60 } else { 5_000 };

fn number(name: &str) -> Option<f64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Every hit is checked. A suspicion is allowed: a value may be loaded anew before its invalidation is made. `SEED=n`
/// runs one fleet.
#[test]
fn of_a_sound_fleet_nothing_is_proved() {
    let fleets = match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => seed as u64..seed as u64 + 1,
        (None, seeds) => 0..seeds.map_or(SEEDS, |seeds| seeds as u64),
    };
    let seeds = fleets.end - fleets.start;
    let (mut verified, mut suspected) = (0, 0);
    for seed in fleets {
        let (_, verifier) = run_verified(seed, Off::Nothing, 1.0);
        let proved: Vec<_> = verifier.reports.iter().filter(|report| report.evidence.is_proof()).collect();
        assert!(proved.is_empty(), "seed {seed}: {proved:#?}");
        verified += verifier.verified;
        suspected += verifier.reports.len();
    }
    println!("{seeds} fleets: {verified} hits verified, none proved to be stale, {suspected} suspected");
    assert!(verified > 50 * seeds);
}

/// The search begins at seed `from`, so that it is short. `FROM=0` and `SHARE=0.01` measure the traffic of a fleet until
/// the first report, if one hit in a hundred is sampled.
fn is_reported(mutant: Mutant, from: u64) {
    let share = number("SHARE").unwrap_or(1.0);
    let from = number("FROM").map_or(from, |from| from as u64);
    let mut traffic = Duration::ZERO;
    for seed in from..from + 5_000 {
        let (_, verifier) = run_verified(seed, Off::Node(mutant), share);
        if let Some(first) = verifier.reports.first() {
            let traffic = traffic + first.after;
            println!("{mutant:?}: after {:.1} s of traffic, seed {seed}: {first:?}", traffic.as_secs_f64());
            return;
        }
        traffic += verifier.lasted;
    }
    panic!("{mutant:?} was not reported within {traffic:?} of traffic");
}

macro_rules! reported {
    ($($name:ident: $mutant:ident from $from:literal,)*) => {
        $(#[test] #[cfg_attr(debug_assertions, ignore = "many seeds: run with --release")] fn $name() { is_reported(Mutant::$mutant, $from); })*
    };
}

reported! {
    stamp_after_reply: StampAfterReply from 119,
    check_then_insert: CheckThenInsert from 8,
    reconnect_without_flush: ReconnectWithoutFlush from 0,
    flush_before_subscribed: FlushBeforeSubscribed from 278,
    heartbeat_without_sequence_check: HeartbeatWithoutSequenceCheck from 304,
    serve_while_suspended: ServeWhileSuspended from 84,
    token_shared_per_client: TokenSharedPerClient from 163,
    hits_ignore_tags: HitsIgnoreTags from 8,
    tags_forgotten: TagsForgotten from 56,
}
