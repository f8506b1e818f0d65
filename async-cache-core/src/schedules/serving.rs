//! The serving lease, and the entries with which a hit must not answer.

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::sync::atomic::Ordering::SeqCst;

use crate::backend::{BusEvent, Listener, Region};
use crate::faults::mutant::Mutant;
use crate::faults::schedule::Fault;
use crate::liveness::stamp::Stamp;
use crate::local::l1::Probe;
use crate::schedules::Wrong::{Off, Planted};
use crate::schedules::cache::{Cache, join};
use crate::schedules::proves;
use crate::schedules::server::Bus;

#[test]
fn no_hit_answers_what_changed_while_the_bus_was_lost() {
    proves(
        lost,
        &[
            Off(Mutant::ServeWhileSuspended),
            Off(Mutant::ReconnectWithoutFlush),
            Off(Mutant::FlushBeforeSubscribed),
            Planted(Fault::GenerationFirst),
            Planted(Fault::ServeBeforeFlush),
        ],
    );
}

fn lost(off: Option<Mutant>) {
    let (cache, server, _events) = Cache::warm(off);
    let bus = cache.spawn(move |cache| {
        cache.inner.notify(BusEvent::Lost);
        server.set_bus(Bus::Lossy);
        let version = cache.source.fetch_add(1, SeqCst) + 1;
        server.change(&cache.key);
        cache.gone.fetch_max(version, SeqCst);
        server.set_bus(Bus::Whole);
        cache.inner.notify(BusEvent::Subscribed);
        cache.resync();
    });
    let hitting = cache.spawn(|cache| {
        cache.demand_current(|| cache.hit());
        cache.demand_current(|| cache.hit());
    });
    let getting = cache.spawn(|cache| {
        cache.demand_current(|| Some(cache.get()));
        cache.demand_current(|| cache.hit());
    });
    join([bus, hitting, getting]);
    cache.demand_current(|| cache.hit());
    cache.end();
}

#[test]
fn no_hit_answers_under_a_lease_that_has_lapsed_or_was_proven_by_too_little() {
    proves(lapsed, &[Off(Mutant::ServeWhileSuspended), Off(Mutant::HeartbeatWithoutSequenceCheck)]);
}

/// The message of a change is lost, and heartbeats go on.
fn lapsed(off: Option<Mutant>) {
    let (cache, server, events) = Cache::warm(off);
    let bus = cache.listen(events);
    server.set_bus(Bus::Lossy);
    let (elsewhere, here) = (Arc::clone(&server), Arc::clone(&server));
    let changing = cache.spawn(move |cache| {
        let version = cache.source.fetch_add(1, SeqCst) + 1;
        elsewhere.change(&cache.key);
        cache.inner.local.liveness.node.clock.advance(cache.inner.local.liveness.node.max_staleness);
        cache.gone.fetch_max(version, SeqCst);
    });
    let beating = cache.spawn(move |cache| {
        for _ in 0..2 {
            let beat = cache.inner.local.liveness.node.begin_beat(cache.partition());
            block_on(here.heartbeat(0, beat)).unwrap();
        }
        cache.resync();
    });
    let hitting = cache.spawn(|cache| {
        for _ in 0..3 {
            cache.demand_current(|| cache.hit());
        }
    });
    join([changing, beating, hitting]);
    server.hang_up();
    join([bus]);
    cache.demand_current(|| cache.hit());
    cache.resync();
    cache.demand_current(|| cache.hit());
    cache.end();
}

#[test]
fn no_probe_that_insists_on_a_lost_change_is_answered_by_what_a_flush_put_in_doubt() {
    proves(
        |off| {
            let (cache, server, _events) = Cache::warm(off);
            server.set_bus(Bus::Lossy);
            let seq = server.change(&cache.key);
            let noticing = cache.spawn(move |cache| {
                let beat = cache.inner.local.liveness.node.begin_beat(cache.partition());
                cache.inner.notify(BusEvent::Echo { partition: 0, seq, beat });
                cache.resync();
            });
            let stamp = Stamp::new(&cache.inner.observer.namespace, [(0, seq)]);
            for _ in 0..2 {
                let probe = cache.inner.local.probe(cache.key.as_bytes(), Some(&stamp));
                cache.verdict.demand(!matches!(probe, Probe::Hit(_)), || format!("a hit from before {seq}"));
            }
            join([noticing]);
            cache.end();
        },
        &[Planted(Fault::GenerationFirst)],
    );
}

#[test]
fn no_flight_is_joined_that_nobody_would_have_told_to_be_forgotten() {
    proves(
        |off| {
            let (cache, server, events) = Cache::cold(off);
            let bus = cache.listen(events);
            server.set_bus(Bus::Lossy);
            let elsewhere = Arc::clone(&server);
            let changing = cache.spawn(move |cache| {
                let version = cache.source.fetch_add(1, SeqCst) + 1;
                elsewhere.change(&cache.key);
                cache
                    .inner
                    .local
                    .liveness
                    .node
                    .clock
                    .advance(cache.inner.local.liveness.node.max_staleness * 2);
                cache.gone.fetch_max(version, SeqCst);
            });
            let getting = cache.spawn(|cache| cache.demand_current(|| Some(cache.get())));
            cache.demand_current(|| Some(cache.get()));
            join([changing, getting]);
            server.hang_up();
            join([bus]);
            cache.end();
        },
        &[Off(Mutant::JoinWhileSuspended)],
    );
}
