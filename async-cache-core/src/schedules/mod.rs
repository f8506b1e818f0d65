//! Schedules: the threads of one node, interleaved at every lock, atomic and wake-up.
//!
//! ```sh
//! RUSTFLAGS="--cfg shuttle" cargo test -p async-cache-core --lib --target-dir target/shuttle schedules
//! ```
//!
//! The stripes, the flights, the serving lease and all that calls them are the code of every build,
//! over the types of [`sync`](crate::sync) that yield to [shuttle]'s scheduler: at random, and by PCT,
//! which finds what needs few changes of thread at the right moments. The tiers are doubles each
//! of whose operations is one step; time is a number; what Tokio's tasks do here is done by the
//! test's own threads. Memory is sequentially consistent, as it is not on a machine: what a weaker
//! ordering would allow is not tried.
//!
//! [`proves`] runs a scenario as it is, and then with one fault after another, each of which must be
//! found: a safeguard that is off ([`Mutant`]), or an order of two steps turned round ([`Fault`]).
//! A thread that is never woken is found as a deadlock. `SCHEDULES=100000` in the environment tries
//! more than the thousand of each kind; what fails is printed as a schedule for `shuttle::replay`.
//! With `-- schedules --nocapture` each fault tells after how many it was found.
//!
//! The other tests of the crate are of no use in this build: outside of a schedule these types panic.
//!
//! [shuttle]: https://docs.rs/shuttle

mod cache;
mod flights;
mod invalidations;
mod server;
mod serving;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};

use crate::faults::mutant::Mutant;
use crate::faults::schedule::Fault;

/// What is wrong with the code that a scenario is run on.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    Off(Mutant),
    Planted(Fault),
}

type Scenario = fn(Option<Mutant>);

/// The threads change places unasked at most this often in a schedule of PCT.
const DEPTH: usize = 3;
const SEED: u64 = 0x5EED;

/// The scenario holds, and notices each of these.
fn proves(scenario: Scenario, wrongs: &[Wrong]) {
    run(scenario, None, FailurePersistence::Print);
    for wrong in wrongs {
        TRIED.set(0);
        let caught = catch_unwind(AssertUnwindSafe(|| run(scenario, Some(*wrong), FailurePersistence::None)));
        Fault::plant(None);
        let Err(payload) = caught else { panic!("{wrong:?} was not found") };
        let said = payload.downcast_ref::<String>().cloned().unwrap_or_default();
        println!(
            "{wrong:?} was found by schedule {}: {}",
            TRIED.get(),
            said.lines().next().unwrap_or_default()
        );
        assert!(said.contains(VIOLATED) || said.contains("deadlock"), "{wrong:?} ended otherwise: {said}");
    }
}

fn run(scenario: Scenario, wrong: Option<Wrong>, persistence: FailurePersistence) {
    let schedules = std::env::var("SCHEDULES").map_or(1000, |text| text.parse().expect("a number"));
    let (off, planted) = match wrong {
        Some(Wrong::Off(mutant)) => (Some(mutant), None),
        Some(Wrong::Planted(fault)) => (None, Some(fault)),
        None => (None, None),
    };
    Fault::plant(planted);
    let mut config = Config::new();
    config.failure_persistence = persistence;
    let with = |scheduler: Box<dyn Scheduler + Send>| {
        Runner::new(scheduler, config.clone()).run(move || {
            TRIED.set(TRIED.get() + 1);
            scenario(off);
        });
    };
    // Each kind finds what the other hardly does. A fault has more time, so that a change of the code,
    // which deals the schedules anew, does not hide it.
    for round in 0..if wrong.is_some() { 5 } else { 1 } {
        with(Box::new(PctScheduler::new_from_seed(SEED + round, DEPTH, schedules)));
        with(Box::new(RandomScheduler::new_from_seed(SEED + round, schedules)));
    }
}

thread_local! {
    static TRIED: Cell<usize> = const { Cell::new(0) };
}

const VIOLATED: &str = "violated:";

/// What the threads of a scenario have seen go wrong. Said at its end: a panic in their midst would
/// unwind through the locks of others.
#[derive(Debug, Clone, Default)]
struct Verdict(Arc<Mutex<Option<String>>>);

impl Verdict {
    fn demand(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.lock().unwrap().get_or_insert_with(what);
        }
    }

    fn pronounce(&self) {
        if let Some(what) = self.0.lock().unwrap().take() {
            panic!("{VIOLATED} {what}");
        }
    }
}
