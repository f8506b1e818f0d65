//! The checker, for a short while; and that it objects when a fence is switched off.
//!
//! `TORTURE_SECONDS` sets for how long the first test runs: a few seconds unless set, two minutes
//! in CI.

use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// Runs the checker, and gives its exit code and its report. One at a time: each keeps a small
/// machine busy, and a node that gets no time to run is suspended.
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

/// All faults on. In a debug build beside other tests the machine is busy: fewer reads.
#[test]
fn every_promise_is_kept_under_faults() {
    let seconds = std::env::var("TORTURE_SECONDS").unwrap_or_else(|_| "12".to_owned());
    let (code, report) = torture(&["--seconds", &seconds, "--reads-per-s", "12000"]);
    assert_eq!((code, number(&report, "stale_reads")), (0, 0), "{report:#}");
    assert!(number(&report, "reads") > 10_000, "{report:#}");
    assert!(number(&report, "at_risk_reads") > 10_000, "{report:#}");
    assert!(number(&report, "loads") > 0 && number(&report, "invalidations") > 100, "{report:#}");
}

/// Without this fence, and with these faults, the checker finds stale reads.
fn objects(mutant: &str, faults: &str) {
    // Chance decides when a mutant shows; it gets several times as long as it needs.
    for seed in ["1", "2", "3", "4"] {
        let args = ["--seconds", "15", "--reads-per-s", "12000", "--seed", seed];
        let (code, report) = torture(&[&args[..], &["--mutant", mutant, "--faults", faults]].concat());
        let stale = number(&report, "stale_reads");
        assert_eq!(code, i32::from(!report["violations"].as_array().expect("a list").is_empty()));
        if stale > 0 {
            assert!(report["violations"].to_string().contains("stale reads"), "{report:#}");
            return;
        }
    }
    panic!("{mutant} was not found");
}

/// Polling answers every wait in the end: what is lost is time.
#[test]
fn objects_to_wakes_that_are_lost() {
    let args = ["--seconds", "10", "--reads-per-s", "12000", "--seed", "1", "--faults", "none"];
    let (code, report) = torture(&[&args[..], &["--mutant", "lose_wakes"]].concat());
    assert_eq!((code, number(&report, "stale_reads")), (1, 0), "{report:#}");
    assert!(number(&report, "late_wakes") > 0, "{report:#}");
}

#[test]
fn objects_to_serving_while_suspended() {
    objects("serve_while_suspended", "half_open,stop_node");
}

#[test]
fn objects_to_reconnecting_without_a_flush() {
    objects("reconnect_without_flush", "half_open,kill_pubsub,drop");
}

#[test]
fn objects_to_joining_after_an_invalidation() {
    objects("join_after_invalidation", "none");
}

#[test]
fn objects_to_storing_what_an_invalidation_has_met() {
    objects("no_stamp", "delay,reorder");
}
