//! Runs faults in epochs, with quiet time between them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use integration_tests::{Conditions, Route};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::cost::Costs;
use crate::fault::Fault;
use crate::ledger::{Count, Global, Ledger, look_for_stalls};
use crate::promise::Promise;
use crate::report::Report;
use crate::rest::Rest;
use crate::rig::{NotRecovered, Rig};
use crate::{Args, rest, steady};

/// One epoch: from the start of a fault until every node has worked for one bound afterwards.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Epoch {
    pub fault: Fault,
    /// Whether the connections of one node were slow in the whole epoch.
    pub slow_node: bool,
    pub begun_s: f64,
    pub lasted_s: f64,
    /// The time since the end of the fault.
    pub recovery_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The course of a run.
#[derive(Debug, Default)]
pub(crate) struct Course {
    pub epochs: Vec<Epoch>,
    /// The failures that are not reads.
    pub failures: Vec<String>,
    pub costs: Costs,
    pub rest: Option<Rest>,
    pub complete: bool,
    pub lasted: Duration,
    /// The changes of the topology, by kind.
    pub changes: BTreeMap<&'static str, u64>,
}

/// Runs the campaign that the arguments describe.
pub(crate) async fn run(args: &Args) -> io::Result<Report> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut stopped = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let mut steady = None;
    if args.steady_rounds > 0 && args.mutant.is_empty() {
        tokio::select! {
            outcome = steady::measure(args.steady_rounds) => steady = Some(outcome?),
            () = stopped() => {}
        }
    }
    if args.only_steady {
        return Ok(Report::of_steady(args, steady));
    }
    let mut rig = Rig::start(args).await?;
    let ledger = Arc::clone(&rig.ledger);
    tokio::spawn(look_for_stalls(Arc::clone(&ledger)));
    let mut course = Course::default();
    let begun = Instant::now();
    tokio::select! {
        () = all(&mut rig, args, &mut course, begun) => course.complete = true,
        () = stopped() => eprintln!("torture: stopped early"),
        // A run with a mutant ends when the mutant is found.
        () = objected(&ledger, args.until), if !args.mutant.is_empty() => course.complete = true,
    }
    course.lasted = begun.elapsed();
    course.changes.clone_from(&rig.changes);
    Ok(Report::of(args, &ledger, &course, steady))
}

/// Waits until the promise is broken, or any promise.
async fn objected(ledger: &Ledger, until: Option<Promise>) {
    let awaited = |promise: &Promise| until.is_none_or(|until| until == *promise);
    while !Promise::ALL.iter().filter(|promise| awaited(promise)).any(|promise| promise.is_broken(ledger)) {
        sleep(Duration::from_millis(20)).await;
    }
}

async fn all(rig: &mut Rig, args: &Args, course: &mut Course, begun: Instant) {
    let mut rng = Rng::with_seed(args.seed);
    let faults = args.faults();
    let mut turn = Vec::new();
    let mut last = [0, 0];
    // The nodes get a second to fill their caches.
    sleep(Duration::from_secs(1)).await;
    while course.failures.is_empty() {
        let left = args.lasts().saturating_sub(begun.elapsed());
        let before = rig.spent();
        sleep(Duration::from_millis(rng.u64(1500..3500)).min(left)).await;
        course.costs.note_quiet(before, rig.spent());
        let quiet = [Count::QuietSuspendedNs, Count::LateWakes].map(|count| rig.ledger.total(count));
        let [suspended, late] = [quiet[0] - last[0], quiet[1] - last[1]];
        last = quiet;
        if suspended + late > 0 {
            eprintln!(
                "           then, in quiet time: L1 suspended {:.0} ms, {late} late",
                suspended as f64 / 1e6
            );
        }
        if begun.elapsed() >= args.lasts() {
            break;
        }
        // Every kind of fault comes once before any kind comes again.
        if turn.is_empty() {
            turn.clone_from(&faults);
            rng.shuffle(&mut turn);
        }
        match turn.pop() {
            Some(fault) => epoch(rig, fault, &mut rng, course, begun).await,
            None => course.failures.extend(rig.check_alive().err().map(|NotRecovered(why)| why)),
        }
    }
    // Waits until the fleet has nothing left to retry.
    course.failures.extend(rig.recovered().await.err().map(|NotRecovered(why)| why));
    if course.failures.is_empty() {
        course.rest = Some(rest::comes(rig).await);
    }
}

async fn epoch(rig: &mut Rig, fault: Fault, rng: &mut Rng, course: &mut Course, begun: Instant) {
    let began = begun.elapsed();
    rig.ledger.global(Global::Fault).store(1, Ordering::SeqCst);
    rig.ledger.global(Global::Epochs).fetch_add(1, Ordering::SeqCst);
    let slow_node = rng.u8(..4) == 0 && !fault.is_of_one_node();
    let before = rig.spent();
    rig.slow_node = slow_node;
    if slow_node {
        let slow = Conditions {
            delay: Duration::from_millis(rng.u64(1..30)),
            jitter: Duration::from_millis(rng.u64(1..60)),
            ..Conditions::default()
        };
        let at = rng.usize(..rig.nodes.len());
        for link in rig.nodes[at].links() {
            Route::ALL.into_iter().for_each(|route| link.proxy.set(route, slow));
        }
    }
    let inflicted = fault.inflict(rig, rng).await;
    rig.spares_nothing();
    // What the servers do until they are well is part of the fault.
    let inflicted = match (inflicted, fault.is_of_one_node()) {
        (Ok(note), false) => rig.deployment.get_well().await.map(|()| note),
        (inflicted, _) => inflicted,
    };
    let note = match inflicted {
        Ok(note) => note,
        Err(error) => {
            course.failures.push(format!("{fault:?} could not be done: {error}"));
            return;
        }
    };
    if fault.is_of_one_node() {
        course.costs.judge(fault, &rig.ledger, [before, rig.spent()]);
    }
    rig.proxies().for_each(integration_tests::Proxy::clear);
    let recovery_ms = match rig.recovered().await {
        Ok(took) => took.as_secs_f64() * 1e3,
        Err(NotRecovered(why)) => {
            course.failures.push(format!("after {fault:?}: {why}"));
            f64::NAN
        }
    };
    rig.ledger.ends_fault();
    let lasted_s = (begun.elapsed() - began).as_secs_f64();
    let broken: u64 = Promise::ALL.iter().map(|promise| promise.count(&rig.ledger)).sum();
    eprintln!(
        "{:7.1} s  {fault:?}{} for {lasted_s:.1} s, well {recovery_ms:.0} ms later; {broken} broken promises{}",
        began.as_secs_f64(),
        if slow_node { " beside a slow node" } else { "" },
        note.as_ref().map_or_else(String::new, |note| format!("; {note}")),
    );
    course.epochs.push(Epoch { fault, slow_node, begun_s: began.as_secs_f64(), lasted_s, recovery_ms, note });
}
