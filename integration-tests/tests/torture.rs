//! Runs the checker for a short time, and checks that each of its promises is found broken when a fault is
//! planted.
//!
//! `TORTURE_SECONDS` sets the duration of the first test. By default it is a few seconds, and two minutes in
//! CI.

use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// Runs the checker, and returns its exit code and its report. Only one runs at a time, because each keeps a
/// small machine busy, and a node that gets no time to run is suspended.
fn torture(args: &[&str]) -> (i32, Value) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let program = env!("CARGO_BIN_EXE_torture");
    let run = Command::new(program).args(args).args(["--json", "--steady-rounds", "0"]).output();
    let Output { status, stdout, stderr } = run.expect("the checker runs");
    let log = String::from_utf8_lossy(&stderr);
    println!("{log}");
    let report = serde_json::from_slice(&stdout)
        .unwrap_or_else(|error| panic!("no report ({error}), {status}: {log}"));
    (status.code().expect("it was not killed"), report)
}

fn number(report: &Value, name: &str) -> u64 {
    report["torture"][name].as_u64().unwrap_or_else(|| panic!("no figure {name} in {report}"))
}

/// All faults are on. A debug build beside other tests has a busy machine, so it makes fewer reads.
#[test]
fn every_promise_is_kept_under_faults() {
    let seconds = std::env::var("TORTURE_SECONDS").unwrap_or_else(|_| "12".to_owned());
    let (code, report) = torture(&["--seconds", &seconds, "--reads-per-s", "12000"]);
    assert_eq!((code, number(&report, "stale_reads")), (0, 0), "{report:#}");
    for figure in ["reads", "at_risk_reads", "aged_reads", "compared_values"] {
        assert!(number(&report, figure) > 10_000, "{figure}: {report:#}");
    }
    assert!(number(&report, "loads") > 0 && number(&report, "invalidations") > 100, "{report:#}");
    assert!(number(&report, "judged_loads") > 10, "{report:#}");
    assert!(number(&report, "verified_hits") > 500 && number(&report, "proved_hits") == 0, "{report:#}");
}

/// Runs the checker on several servers, and checks that no promise is broken and that the topology has changed.
fn keeps_every_promise_on(topology: &str, faults: &str) -> Value {
    let args = ["--topology", topology, "--faults", faults, "--seconds", "5", "--reads-per-s", "8000"];
    let (code, report) = torture(&args);
    assert_eq!((code, number(&report, "stale_reads")), (0, 0), "{report:#}");
    assert!(number(&report, "reads") > 10_000, "{report:#}");
    let changes = report["torture"]["topology_changes"].as_object().expect("the changes");
    assert!(!changes.is_empty(), "{report:#}");
    report
}

#[test]
fn every_promise_is_kept_on_a_cluster() {
    let report = keeps_every_promise_on("cluster", "failover,move_slots");
    assert_eq!(report["torture"]["unharmed_suspended_share"].as_f64(), Some(0.0), "{report:#}");
}

#[test]
fn every_promise_is_kept_on_a_master_that_sentinels_replace() {
    keeps_every_promise_on("sentinel", "commanded_failover");
}

/// One master fails. L1 must go on for the partitions of the others.
#[test]
fn objects_to_a_master_that_takes_the_partitions_of_others_along() {
    objects_on("cluster", "isolation", "OneLossLosesAll", "failover");
}

fn objects(promise: &str, mutant: &str, faults: &str) {
    objects_on("single", promise, mutant, faults);
}

/// Checks that the checker finds this promise broken with this mutant and these faults.
fn objects_on(topology: &str, promise: &str, mutant: &str, faults: &str) {
    // Chance decides when a mutant is found. So the run gets several times the usual time, and more time than
    // the limit for a call that hangs. It ends when the promise is found broken.
    for seed in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        let args = [
            "--seconds",
            if promise == "liveness" { "60" } else { "15" },
            "--reads-per-s",
            // A storm with a pause of the machine is not judged.
            if promise == "storms" { "2000" } else { "12000" },
            "--seed",
            seed,
            "--topology",
            topology,
            "--until",
            promise,
            "--verify",
            if promise == "verifier" { "1" } else { "0.05" },
        ];
        let (code, report) = torture(&[&args[..], &["--mutant", mutant, "--faults", faults]].concat());
        let violations = report["violations"].as_array().expect("a list");
        assert_eq!(code, i32::from(!violations.is_empty()));
        assert!(
            report["replay"].as_str().is_some_and(|line| line.contains(mutant.split(',').next().unwrap()))
        );
        if violations.iter().any(|line| line.as_str().is_some_and(|line| line.starts_with(promise))) {
            return;
        }
    }
    panic!("{mutant} was not found");
}

/// Polling answers every wait in the end. Only time is lost.
#[test]
fn objects_to_wakes_that_are_lost() {
    let args = ["--seconds", "10", "--reads-per-s", "12000", "--seed", "1", "--faults", "none"];
    let (code, report) = torture(&[&args[..], &["--mutant", "LoseWakes"]].concat());
    assert_eq!((code, number(&report, "stale_reads")), (1, 0), "{report:#}");
    assert!(number(&report, "late_wakes") > 0, "{report:#}");
}

macro_rules! objections {
    ($($name:ident: $promise:literal $mutant:literal $faults:literal;)*) => {
        $(#[test] fn $name() { objects($promise, $mutant, $faults); })*
    };
}

objections! {
    objects_to_serving_while_suspended: "staleness" "ServeWhileSuspended" "half_open,stop_node";
    objects_to_reconnecting_without_a_flush: "staleness" "ReconnectWithoutFlush" "half_open,kill_pubsub,drop";
    objects_to_joining_after_an_invalidation: "staleness" "JoinAfterInvalidation" "none";
    objects_to_storing_what_an_invalidation_has_met: "staleness" "NoStamp" "delay,reorder";
    objects_to_values_that_outlive_their_ttl: "age" "AgeTold" "none";
    objects_to_values_judged_without_the_servers_time: "age" "TrustUnknownServerTime" "kill_node";
    objects_to_refusals_that_cost_everybody:
        "cost" "RefusedChangeKeepsNumber,RefusalsRetriedLikeOutages" "revoked_rights";
    objects_to_loads_of_what_is_cached: "loads" "CapMeansStale" "none";
    objects_to_loads_beside_the_cache: "loads" "LoadBesideTheCache" "none";
    objects_to_values_that_are_not_what_was_loaded: "values" "MangledValue" "none";
    objects_to_drawn_values_that_are_not_what_was_loaded: "values" "DrawnMangled" "none";
    objects_to_drawn_values_that_outlive_their_ttl: "age" "DrawnAgeTold" "none";
    objects_to_absences_from_before_a_change: "staleness" "DrawnAbsenceOld" "none";
    objects_to_absences_that_no_load_found: "age" "DrawnAbsenceUntold" "none";
    objects_to_calls_that_never_end: "liveness" "EndlessCall" "none";
    objects_to_waits_without_a_deadline: "liveness" "WaitWithoutDeadline" "end_runtime";
    objects_to_reloads_of_large_values_that_count_as_failed: "storms" "LargeWakesFail" "none";
    objects_to_numbers_forgotten_by_a_server_that_went_back: "staleness" "ForgetNumbers" "demote";
    objects_to_hits_that_ignore_tags: "staleness" "HitsIgnoreTags" "none";
    lets_the_verifier_report_a_change_of_its_node: "verifier" "NoStamp" "delay,reorder";
    lets_the_verifier_report_a_tag_that_its_node_invalidated: "verifier" "HitsIgnoreTags" "none";
    lets_the_verifier_report_a_change_that_was_received: "verifier" "ForgetNumbers" "demote";
    objects_to_tasks_that_stay: "growth" "TaskLeftBehind" "none";
    objects_to_keys_that_stay_in_redis: "growth" "KeyLeftBehind" "none";
    objects_to_a_node_of_another_build_that_is_taken_in: "membership" "IntruderTakenIn" "other_build";
}
