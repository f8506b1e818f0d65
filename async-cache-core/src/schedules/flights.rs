//! Single-flight: who leads, who waits, and who wakes them.

use std::time::Duration;

use shuttle::future::block_on;
use shuttle::sync::atomic::Ordering::SeqCst;

use crate::backend::{Accept, Acquire, Acquired, NodeId, Region, Token};
use crate::faults::mutant::Mutant;
use crate::faults::schedule::Fault;
use crate::local::lead::Entered;
use crate::schedules::Wrong::{Off, Planted};
use crate::schedules::cache::{Cache, join};
use crate::schedules::proves;

/// Checks that all gets shared one load.
fn demand_one_load(cache: &Cache) {
    let loads = cache.loads.load(SeqCst);
    cache.verdict.demand(loads == 1, || format!("{loads} loads, one would do"));
}

#[test]
fn gets_of_a_cold_key_load_once_and_all_are_woken() {
    proves(
        |off| {
            let cache = Cache::alone(off);
            join((0..3).map(|_| cache.spawn(|cache| assert_eq!(cache.get(), 1))));
            demand_one_load(&cache);
            cache.end();
        },
        &[Planted(Fault::LandInTwoSteps), Planted(Fault::LookBeforeRegistering)],
    );
}

#[test]
fn a_leader_that_goes_away_is_replaced() {
    proves(
        |off| {
            let cache = Cache::alone(off);
            let leaving = cache.spawn(|cache| drop(cache.enter()));
            join((0..2).map(|_| cache.spawn(|cache| assert_eq!(cache.get(), 1))).chain([leaving]));
            demand_one_load(&cache);
            cache.end();
        },
        &[Planted(Fault::StrandWaiters), Planted(Fault::LookBeforeRegistering)],
    );
}

#[test]
fn an_invalidation_makes_room_for_one_leader_and_nobody_joins_the_one_before() {
    proves(
        |off| {
            let cache = Cache::alone(off);
            let changing = cache.spawn(|cache| {
                cache.change();
                cache.demand_current(|| Some(cache.get()));
            });
            let getting = (0..3).map(|_| cache.spawn(|cache| cache.demand_current(|| Some(cache.get()))));
            join(getting.chain([changing]));
            cache.demand_current(|| cache.hit());
            cache.end();
        },
        &[Off(Mutant::JoinAfterInvalidation), Off(Mutant::NoStamp)],
    );
}

#[test]
fn an_abandoned_flight_of_before_takes_none_of_after_with_it() {
    proves(
        |off| {
            let cache = Cache::alone(off);
            let leaving = cache.spawn(|cache| {
                if let Entered::Lead(lead) = cache.enter() {
                    cache.change();
                    drop(lead);
                }
            });
            let getting = (0..3).map(|_| cache.spawn(|cache| cache.demand_current(|| Some(cache.get()))));
            join(getting.chain([leaving]));
            cache.end();
        },
        &[Planted(Fault::LandAny), Planted(Fault::StrandWaiters)],
    );
}

#[test]
fn a_load_elsewhere_that_ends_wakes_who_waits_for_it() {
    proves(
        |off| {
            let (cache, server, events) = Cache::cold(off);
            let token = Token { node: NodeId(0), counter: 1 };
            let ask = Acquire { token, ttl: Duration::from_secs(3), accept: Accept::Any };
            let region: &dyn Region = &*server;
            let Ok(Acquired::Granted(lease)) = block_on(region.acquire_one(&cache.key, ask)) else {
                unreachable!("nobody else has asked")
            };
            let bus = cache.listen(events);
            let getting = cache.spawn(|cache| assert_eq!(cache.get(), 1));
            block_on(region.release_one(&cache.key, lease)).unwrap();
            join([getting]);
            server.hang_up();
            join([bus]);
            cache.end();
        },
        &[Planted(Fault::RingBeforeTelling)],
    );
}
