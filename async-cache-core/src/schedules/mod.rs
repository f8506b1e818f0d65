//! Schedules: the threads of one node, interleaved at every lock, atomic and wake-up.
//!
//! ```sh
//! RUSTFLAGS="--cfg shuttle" cargo test -p async-cache-core --lib --target-dir target/shuttle schedules
//! ```
//!
//! The code under test is that of every build. Only the types of [`sync`](crate::sync) differ: they yield to
//! the scheduler of [shuttle]. It chooses threads at random, and by PCT, which finds faults that need few
//! changes of thread at the right moments. The tiers are doubles, and each of their operations is one step.
//! Time is a number. Threads of the test do the work of Tokio's tasks. Memory is sequentially consistent, so
//! faults of weaker orderings are not found.
//!
//! [`proves`] runs a scenario as it is, and then with one fault after another. Each fault must be found: a
//! safeguard that is switched off ([`Mutant`]), or two steps in reversed order ([`Fault`]). A thread that is
//! never woken is found as a deadlock. `SCHEDULES=100000` in the environment runs that many schedules of each
//! kind instead of a thousand. A failing schedule is printed for `shuttle::replay`. With `-- schedules
//! --nocapture` each test prints after how many schedules a fault was found.
//!
//! The other tests of the crate do not work in this build, because these types panic outside of a schedule.
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

/// The fault in the code with which a scenario runs.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    Off(Mutant),
    Planted(Fault),
}

type Scenario = fn(Option<Mutant>);

/// The maximum number of forced changes of thread in a schedule of PCT.
const DEPTH: usize = 3;
const SEED: u64 = 0x5EED;

/// Checks that the scenario succeeds, and fails with each of these faults.
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
    // Each kind finds faults that the other hardly finds. A run with a fault gets more schedules. A change of
    // the code changes all schedules, and must not hide the fault.
    for round in 0..if wrong.is_some() { 5 } else { 1 } {
        with(Box::new(PctScheduler::new_from_seed(SEED + round, DEPTH, schedules)));
        with(Box::new(RandomScheduler::new_from_seed(SEED + round, schedules)));
    }
}

thread_local! {
    static TRIED: Cell<usize> = const { Cell::new(0) };
}

const VIOLATED: &str = "violated:";

/// The failed checks of the threads of a scenario. They are reported at its end, because a panic of one
/// thread would unwind through the locks of others.
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
