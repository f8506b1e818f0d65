//! Loads, gets and invalidations of one key.

use std::sync::Arc;

use shuttle::sync::atomic::AtomicU64;
use shuttle::sync::atomic::Ordering::SeqCst;

use crate::backend::Effect;
use crate::faults::mutant::Mutant;
use crate::faults::schedule::Fault;
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::liveness::stamp::Stamp;
use crate::local::l1::Probe;
use crate::local::stripe::Admitted;
use crate::schedules::Wrong::{Off, Planted};
use crate::schedules::cache::{Cache, Events, join};
use crate::schedules::proves;
use crate::schedules::server::Server;

#[test]
fn no_get_sees_a_value_from_before_an_invalidation() {
    proves(
        |off| invalidated(Cache::warm, off),
        &[
            Off(Mutant::NoStamp),
            Off(Mutant::StampAfterReply),
            Off(Mutant::NoSecondRemoval),
            Off(Mutant::JoinAfterInvalidation),
        ],
    );
}

#[test]
fn nor_if_nothing_was_cached() {
    proves(|off| invalidated(Cache::cold, off), &[Off(Mutant::JoinAfterInvalidation)]);
}

fn invalidated(start: fn(Option<Mutant>) -> (Arc<Cache>, Arc<Server>, Events), off: Option<Mutant>) {
    let (cache, server, events) = start(off);
    let bus = cache.listen(events);
    join([
        cache.spawn(|cache| {
            cache.change();
            cache.demand_current(|| cache.hit());
            cache.demand_current(|| Some(cache.get()));
        }),
        cache.spawn(|cache| {
            cache.demand_current(|| Some(cache.get()));
            cache.demand_current(|| Some(cache.get()));
        }),
        cache.spawn(|cache| {
            cache.demand_current(|| cache.peek());
            cache.demand_current(|| cache.hit());
        }),
    ]);
    server.hang_up();
    join([bus]);
    cache.demand_current(|| cache.hit());
    cache.demand_current(|| Some(cache.get()));
    cache.end();
}

#[test]
fn what_is_read_from_l2_meets_an_invalidation() {
    proves(
        |off| {
            let (cache, server, events) = Cache::warm(off);
            cache.l1().remove(cache.key.as_bytes());
            let reading = cache.spawn(|cache| cache.demand_current(|| cache.peek()));
            cache.change();
            cache.demand_current(|| cache.hit());
            join([reading]);
            cache.demand_current(|| cache.hit());
            server.hang_up();
            join([cache.listen(events)]);
            cache.demand_current(|| cache.hit());
            cache.end();
        },
        &[
            Off(Mutant::NoStamp),
            Off(Mutant::StampAfterReply),
            Off(Mutant::CheckThenInsert),
            Off(Mutant::NoSecondRemoval),
            Planted(Fault::InsertUnlocked),
        ],
    );
}

#[test]
fn changes_told_out_of_order_let_nothing_old_in_and_keep_nothing_new_out() {
    proves(
        two_changes_and_a_fill,
        &[Off(Mutant::NoStamp), Planted(Fault::LastNotHighest), Planted(Fault::InsertUnlocked)],
    );
}

/// One change arrives on the bus, another in the reply to a command, and a third concerns a key of the same
/// stripe. Each is applied on a thread of its own, in any order of their numbers.
fn two_changes_and_a_fill(off: Option<Mutant>) {
    let cache = Cache::alone(off);
    let (executed, told) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let change = |key: &Key| {
        let (executed, told, key) = (Arc::clone(&executed), Arc::clone(&told), key.clone());
        cache.spawn(move |cache| {
            let seq = executed.fetch_add(1, SeqCst) + 1;
            cache.inner.local.stripes.changed(cache.inner.local.engine(), key.as_bytes(), seq);
            if key == cache.key {
                told.fetch_max(seq, SeqCst);
            }
        })
    };
    let neighbour = Key::encode("neighbour").unwrap();
    let changes = [change(&cache.key), change(&cache.key), change(&neighbour)];
    let fill = {
        let (executed, told) = (Arc::clone(&executed), Arc::clone(&told));
        cache.spawn(move |cache| {
            let ticket = cache.inner.local.ticket(&cache.key);
            let seq = executed.load(SeqCst);
            let entry = cache.entry(1, seq);
            let stripes = &cache.inner.local.stripes;
            let admitted = stripes.admit(cache.l1(), &cache.key, cache.partition(), ticket, entry);
            let newer = executed.load(SeqCst) > seq;
            cache.verdict.demand(admitted == Admitted::Stored || newer, || {
                format!("what reflects {seq} was refused, though nothing is newer")
            });
            demand_held(cache, &told);
        })
    };
    join(changes.into_iter().chain([fill]));
    demand_held(&cache, &told);
    cache.end();
}

/// Checks that L1 holds nothing older than a change that the node has applied.
fn demand_held(cache: &Cache, told: &AtomicU64) {
    let due = told.load(SeqCst);
    if let Some(entry) = cache.l1().get(cache.key.as_bytes()) {
        cache.verdict.demand(entry.seq >= due, || format!("{} is held, {due} is due", entry.seq));
    }
}

#[test]
fn what_counts_as_applied_is_found_by_no_probe_that_insists_on_it() {
    proves(
        |off| {
            let (cache, server, events) = Cache::warm(off);
            let seq = server.change(&cache.key);
            let bus = cache.listen(events);
            let stamp = Stamp::new(&cache.inner.observer.namespace, [(0, seq)]);
            let probe = cache.inner.local.probe(cache.key.as_bytes(), Some(&stamp));
            cache.verdict.demand(!matches!(probe, Probe::Hit(_)), || format!("a hit from before {seq}"));
            server.hang_up();
            join([bus]);
            cache.end();
        },
        &[Planted(Fault::CountBeforeRemoval)],
    );
}

#[test]
fn nothing_is_read_past_an_invalidation_whose_outcome_is_unknown() {
    proves(
        |off| {
            let (cache, server, events) = Cache::warm(off);
            let bus = cache.listen(events);
            server.fail_once();
            let getting = cache.spawn(|cache| {
                cache.demand_current(|| Some(cache.get()));
                cache.demand_current(|| Some(cache.get()));
            });
            cache.change_undecided();
            cache.demand_current(|| cache.hit());
            cache.demand_current(|| Some(cache.get()));
            join([getting]);
            cache.demand_current(|| cache.hit());
            server.hang_up();
            join([bus]);
            cache.end();
        },
        &[Off(Mutant::ReadPastPending), Planted(Fault::EmptyThenQueue)],
    );
}

#[test]
fn a_tag_that_was_changed_voids_although_its_table_starts_anew() {
    proves(
        |off| {
            let cache = Cache::alone(off);
            let raising = cache.spawn(|cache| {
                for (tag, seq) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
                    cache.partition().tags_changed(&Tags::new([tag]).unwrap(), seq, Effect::Void);
                    cache.gone.store(seq, SeqCst);
                }
            });
            for _ in 0..3 {
                for (tag, seq) in [("a", 1), ("b", 2), ("c", 3)] {
                    let due = cache.gone.load(SeqCst) >= seq;
                    let void = cache.partition().voids_by_tag(&Tags::new([tag]).unwrap(), seq - 1);
                    cache.verdict.demand(void || !due, || format!("what {tag} voids is not void"));
                }
            }
            join([raising]);
            cache.end();
        },
        &[Planted(Fault::EmptyBeforeFloor)],
    );
}
