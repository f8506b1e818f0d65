//! The figures of a run, as a table and as JSON.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use comfy_table::Table;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Args;
use crate::campaign::{Course, Epoch};
use crate::cost::Costs;
use crate::deployment::{NAMESPACES, Topology};
use crate::fault::Fault;
use crate::ledger::{Count, Global, Ledger, STEP_NS};
use crate::mutant::Mutant;
use crate::promise::{Promise, Violation};
use crate::rest::Rest;
use crate::steady::Steady;

/// The limit on the median time of an invalidation, as a multiple of a bare hop.
const STEADY_RATIO: f64 = 1.5;

/// The findings of a run. Figures of reads and loads are left out if only speed was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutant: Option<String>,
    /// Whether the run took as long as requested.
    pub complete: bool,
    pub duration_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torture: Option<Figures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steady: Option<Steady>,
    /// Broken promises, and nodes that ended or did not recover.
    pub violations: Vec<String>,
    /// The first violations of each kind in full, with the actions on the key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<Violation>,
    /// The command that runs the same faults in the same order again.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub replay: String,
}

/// Figures of the traffic.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub topology: Topology,
    pub node_processes: usize,
    pub max_staleness_ms: u64,
    pub reads: u64,
    /// Reads that began within ten bounds of an invalidation of their key.
    pub at_risk_reads: u64,
    pub stamped_reads: u64,
    pub stale_reads: u64,
    /// With 95 % confidence, the fraction of stale reads among the reads at risk is at most this number.
    pub stale_rate_95_bound: f64,
    /// Reads that could not be judged, because the history did not reach back far enough.
    pub unjudged_reads: u64,
    /// Reads that returned an old version although a later one had been invalidated before they began, within
    /// the bound.
    pub old_reads: u64,
    /// The longest time from the invalidation of the next version to the start of the read.
    pub staleness_worst_ms: f64,
    pub staleness_p999_ms: f64,
    pub old_read_staleness_p50_ms: f64,
    pub old_read_staleness_p999_ms: f64,
    pub l1_hits: u64,
    pub loads: u64,
    pub invalidations: u64,
    pub undecided_invalidations: u64,
    pub loads_per_invalidation: f64,
    pub lease_waits: u64,
    pub late_wakes: u64,
    /// Waits that may have been late during a pause of the machine or another load of the key.
    pub unjudged_waits: u64,
    pub hung_calls: u64,
    /// Answers whose age was judged; allowed answers past their ttl; answers past their life by more than is
    /// allowed; and the most of that, which is 0 if there was none.
    pub aged_reads: u64,
    pub stale_answers: u64,
    pub overaged_reads: u64,
    pub overage_worst_ms: f64,
    /// Loads that were judged in quiet time; excess loads; and excess loads in a moment with an excuse.
    pub judged_loads: u64,
    pub excess_loads: u64,
    pub unjudged_loads: u64,
    /// Checks after storms that found what is promised, and checks that did not.
    pub storms: u64,
    pub broken_storms: u64,
    /// Errors of L2 without a fault.
    pub calm_errors: u64,
    /// Values that were compared byte for byte, and those that differed.
    pub compared_values: u64,
    pub mangled_values: u64,
    /// The highest costs per second.
    pub costs: Costs,
    pub costly_faults: u64,
    /// Nodes that were told to shut down, and the pending changes that they reported.
    pub shutdowns: u64,
    pub left_pending: u64,
    /// Calls of faulty nodes that were refused as they should be, and faulty nodes that were not refused.
    pub refused_calls: u64,
    /// Hits that the verifiers checked, could not check, suspect, and have proved to be stale; and the time from the
    /// start of the nodes to the first proof.
    pub verified_hits: u64,
    pub verify_skipped: u64,
    pub suspected_hits: u64,
    pub proved_hits: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_proof_s: Option<f64>,
    pub intruders: u64,
    /// What is left after the end of the traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest: Option<Rest>,
    pub panics: u64,
    pub process_starts: u64,
    pub errors: BTreeMap<&'static str, u64>,
    /// The fraction of the time in which L1 did not serve, outside fault epochs and in all.
    pub l1_suspended_quiet_share: f64,
    pub l1_suspended_share: f64,
    /// In a cluster: the fraction of the time in which L1 did not serve the partitions of masters that a fault did not
    /// concern, while others failed over or slots moved; and this time, in seconds, for one partition on one node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unharmed_suspended_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unharmed_s: Option<f64>,
    pub quiet_s: f64,
    pub fault_epochs: BTreeMap<String, u64>,
    /// The failovers and moved slots, by kind.
    pub topology_changes: BTreeMap<&'static str, u64>,
    pub recovery_worst_ms: f64,
    pub epochs: Vec<Epoch>,
}

impl Report {
    /// The report of a run that only measured speed.
    pub(crate) fn of_steady(args: &Args, steady: Option<Steady>) -> Self {
        let complete = steady.is_some();
        let torture = None;
        let violations = slow(steady.as_ref()).into_iter().collect();
        let (told, replay) = (Vec::new(), String::new());
        Self {
            seed: args.seed,
            mutant: None,
            complete,
            duration_s: 0.0,
            torture,
            steady,
            violations,
            told,
            replay,
        }
    }

    pub(crate) fn of(args: &Args, ledger: &Ledger, course: &Course, steady: Option<Steady>) -> Self {
        let mut violations = course.failures.clone();
        let (lines, told) = broken(ledger);
        violations.extend(lines);
        violations.extend(slow(steady.as_ref()));
        let figures = Figures::of(args, ledger, course);
        for (count, what) in [
            (figures.late_wakes, "waits for a load went on after its end"),
            (figures.panics, "panics in node processes"),
            (figures.errors["other"], "errors of a kind that should not occur"),
        ] {
            if count > 0 {
                violations.push(format!("{count} {what}"));
            }
        }
        if figures.reads == 0 {
            violations.push("nothing was read".to_owned());
        }
        Self {
            seed: args.seed,
            mutant: (!args.mutant.is_empty()).then(|| names(&args.mutant)),
            complete: course.complete,
            duration_s: course.lasted.as_secs_f64(),
            torture: Some(figures),
            steady,
            violations,
            told,
            replay: replay(args),
        }
    }

    /// Prints it to standard output.
    pub(crate) fn print(&self, json: bool) {
        if json {
            println!("{}", serde_json::to_string_pretty(self).expect("figures can be written"));
            return;
        }
        println!("{}", self.table());
        for violation in &self.violations {
            println!("VIOLATION: {violation}");
        }
        for Violation { promise, key, what, before } in &self.told {
            println!("\nbroken: {promise}, which is {}", Promise::named(promise));
            println!("  key {}: {what}", key.map_or("none".to_owned(), |key| key.to_string()));
            if !before.is_empty() {
                println!("  what led to it, in milliseconds before it was told:");
            }
            before.iter().for_each(|line| println!("  {line}"));
            println!("  again, with seed {}: {}", self.seed, self.replay);
        }
        if !self.violations.is_empty() {
            println!("\nagain: {}", self.replay);
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.set_header(["figure", "value"]);
        let figures = serde_json::to_value(&self.torture).expect("figures can be written");
        let steady = serde_json::to_value(&self.steady).expect("figures can be written");
        table.add_row(["seed", &self.seed.to_string()]);
        table.add_row(["complete", &self.complete.to_string()]);
        table.add_row(["duration_s", &format!("{:.1}", self.duration_s)]);
        for (name, value) in [&figures, &steady].into_iter().filter_map(|part| part.as_object()).flatten() {
            match value {
                serde_json::Value::Array(_) => {}
                serde_json::Value::Object(parts) => {
                    for (part, value) in parts {
                        table.add_row([format!("{name}.{part}"), value.to_string()]);
                    }
                }
                value => {
                    table.add_row([name.clone(), value.to_string()]);
                }
            }
        }
        table
    }
}

impl Figures {
    fn of(args: &Args, ledger: &Ledger, course: &Course) -> Self {
        let at_risk_reads = ledger.total(Count::AtRisk);
        let (ages, worst_ns) = ages(ledger);
        let ms = |ns: u64| ns as f64 / 1e6;
        let share = |part, whole| ledger.total(part) as f64 / (ledger.total(whole) as f64).max(1.0);
        let (loads, invalidations) = (ledger.total(Count::Loads), ledger.total(Count::Invalidations));
        let cluster = args.topology == Topology::Cluster;
        let mut fault_epochs = BTreeMap::new();
        for epoch in &course.epochs {
            *fault_epochs.entry(name(epoch.fault)).or_default() += 1;
        }
        Self {
            topology: args.topology,
            node_processes: args.nodes,
            max_staleness_ms: args.max_staleness_ms,
            reads: ledger.total(Count::Reads),
            at_risk_reads,
            stamped_reads: ledger.total(Count::Stamped),
            stale_reads: Promise::Staleness.count(ledger),
            stale_rate_95_bound: 3.0 / (at_risk_reads as f64).max(3.0),
            unjudged_reads: ledger.total(Count::Unjudged),
            old_reads: ledger.total(Count::Old),
            staleness_worst_ms: ms(worst_ns),
            staleness_p999_ms: ms(over_all(&ages, at_risk_reads, 0.999)),
            old_read_staleness_p50_ms: ms(ages.value_at_quantile(0.5)),
            old_read_staleness_p999_ms: ms(ages.value_at_quantile(0.999)),
            l1_hits: ledger.total(Count::L1Hits),
            loads,
            invalidations,
            undecided_invalidations: ledger.total(Count::Undecided),
            loads_per_invalidation: loads as f64 / (invalidations as f64).max(1.0),
            lease_waits: ledger.total(Count::Waits),
            late_wakes: ledger.total(Count::LateWakes),
            unjudged_waits: ledger.total(Count::UnjudgedWaits),
            hung_calls: Promise::Liveness.count(ledger),
            aged_reads: ledger.total(Count::Aged),
            stale_answers: ledger.total(Count::StaleAnswers),
            overaged_reads: Promise::Age.count(ledger),
            overage_worst_ms: ms(ledger.global(Global::WorstAge).load(Ordering::Relaxed)),
            judged_loads: ledger.total(Count::JudgedLoads),
            excess_loads: Promise::Loads.count(ledger),
            unjudged_loads: ledger.total(Count::UnjudgedLoads),
            storms: ledger.total(Count::Storms),
            broken_storms: Promise::Storms.count(ledger),
            calm_errors: Promise::Calm.count(ledger),
            compared_values: ledger.total(Count::Compared),
            mangled_values: Promise::Values.count(ledger),
            costs: course.costs,
            costly_faults: Promise::Cost.count(ledger),
            shutdowns: ledger.total(Count::Shutdowns),
            left_pending: ledger.total(Count::LeftPending),
            refused_calls: ledger.total(Count::Refused),
            verified_hits: ledger.total(Count::Verified),
            verify_skipped: ledger.total(Count::Unverified),
            suspected_hits: ledger.total(Count::Suspected),
            proved_hits: Promise::Verifier.count(ledger),
            first_proof_s: Some(ledger.global(Global::FirstProof).load(Ordering::Relaxed) as f64 / 1e9)
                .filter(|seconds| *seconds > 0.0),
            intruders: Promise::Membership.count(ledger),
            rest: course.rest,
            panics: ledger.total(Count::Panics),
            process_starts: ledger.total(Count::Starts),
            errors: Count::ERRORS.into_iter().map(|(count, name)| (name, ledger.total(count))).collect(),
            l1_suspended_quiet_share: share(Count::QuietSuspendedNs, Count::QuietNs),
            l1_suspended_share: share(Count::SuspendedNs, Count::TotalNs),
            unharmed_suspended_share: cluster.then(|| share(Count::UnharmedSuspendedNs, Count::UnharmedNs)),
            unharmed_s: cluster.then(|| {
                let partitions = f64::from(args.topology.partitions()) * NAMESPACES.len() as f64;
                ledger.total(Count::UnharmedNs) as f64 / 1e9 / partitions / (args.nodes + 1) as f64
            }),
            quiet_s: ledger.total(Count::QuietNs) as f64 / 1e9 / (args.nodes + 1) as f64,
            fault_epochs,
            topology_changes: course.changes.clone(),
            recovery_worst_ms: course.epochs.iter().map(|epoch| epoch.recovery_ms).fold(0.0, f64::max),
            epochs: course.epochs.clone(),
        }
    }
}

/// Reports slow invalidations. A build without optimization is not judged.
fn slow(steady: Option<&Steady>) -> Option<String> {
    let ratio = steady?.ratio_p50;
    (ratio > STEADY_RATIO && !cfg!(debug_assertions))
        .then(|| format!("an invalidation takes {ratio:.2} times a bare hop, more than {STEADY_RATIO}"))
}

fn name(fault: Fault) -> String {
    let value = clap::ValueEnum::to_possible_value(&fault);
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The ages of answers that were not the newest, and the highest age.
fn ages(ledger: &Ledger) -> (Histogram<u64>, u64) {
    let mut ages = Histogram::new_with_bounds(STEP_NS, 100_000_000_000, 3).expect("sensible bounds");
    for (step, count) in (1..).zip(ledger.ages()) {
        ages.saturating_record_n(step * STEP_NS, count);
    }
    (ages, ledger.global(Global::Worst).load(Ordering::Relaxed))
}

/// A quantile over all reads at risk. Most of them were not old at all.
fn over_all(ages: &Histogram<u64>, reads: u64, quantile: f64) -> u64 {
    let below = (reads as f64 * quantile) - (reads.saturating_sub(ages.len()) as f64);
    if below <= 0.0 { 0 } else { ages.value_at_quantile(below / ages.len() as f64) }
}

/// The numbers of broken promises, and the first ones in full.
fn broken(ledger: &Ledger) -> (Vec<String>, Vec<Violation>) {
    let broken = Promise::ALL.into_iter().filter(|promise| promise.is_broken(ledger));
    let words = |promise: &Promise| format!("{} {}", promise.count(ledger), promise.words());
    let mut lines: Vec<String> = broken.clone().map(|promise| words(&promise)).collect();
    let told = ledger.violations();
    let names: Vec<&str> = broken.map(Promise::name).collect();
    let counts = |violation: &&Violation| names.contains(&&*violation.promise);
    lines.extend(
        told.iter().filter(counts).map(|violation| format!("{}: {}", violation.promise, violation.what)),
    );
    (lines, told)
}

/// The command that runs the same faults in the same order again.
fn replay(args: &Args) -> String {
    let mut line = format!(
        "cargo run --release -p integration-tests --bin torture -- --seed {} --seconds {} --nodes {} \
         --max-staleness-ms {} --reads-per-s {} --changes-per-s {} --verify {}",
        args.seed,
        args.lasts().as_secs_f64(),
        args.nodes,
        args.max_staleness_ms,
        args.reads_per_s,
        args.changes_per_s,
        args.verify,
    );
    if args.topology != Topology::Single {
        line += &format!(" --topology {}", args.topology.name());
    }
    if args.faults.is_some() {
        let names: Vec<String> = args.faults().into_iter().map(name).collect();
        line += &format!(" --faults {}", if names.is_empty() { "none".to_owned() } else { names.join(",") });
    }
    if !args.mutant.is_empty() {
        line += &format!(" --mutant {}", names(&args.mutant));
    }
    if let Some(until) = args.until {
        line += &format!(" --until {}", until.name());
    }
    line
}

fn names(mutants: &[Mutant]) -> String {
    mutants.iter().map(|mutant| mutant.name()).collect::<Vec<_>>().join(",")
}
