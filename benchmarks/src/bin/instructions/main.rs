//! Counts the instructions of the hot paths under valgrind, and fails if a path exceeds
//! its budget: `cargo run --release -p benchmarks --bin instructions [-- --update]`.
//!
//! Counts hardly depend on the machine or its load. They depend on the compiler:
//! after an upgrade, read the table and write a new budget with `--update`.

mod cases;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;

/// The share by which a count may exceed its budget.
const TOLERANCE: f64 = 0.05;

/// The limit for a hit of a text key, as a multiple of the bare engine's lookup. A hit has a budget, too. This limit is wider than the
/// ratio that is measured, because the engine's own count changes with what the compiler inlines: from 191 to 177, while that of a
/// hit fell from 240 to 231.
const HIT: f64 = 1.35;

/// Counts the instructions of the hot paths.
#[derive(Parser)]
struct Args {
    /// Write what was counted as the new budget.
    #[arg(long)]
    update: bool,
    /// Run one case and count nothing: what this program asks of itself.
    #[arg(long, hide = true)]
    case: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(case) = args.case {
        let (name, times) = cases::CASES.into_iter().find(|(name, _)| *name == case).expect("a case");
        cases::run(name, times);
        return ExitCode::SUCCESS;
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("instructions.json");
    let budget: BTreeMap<String, u64> = std::fs::read_to_string(&path)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let counted: BTreeMap<String, u64> =
        cases::CASES.into_iter().map(|(name, times)| (name.to_owned(), count(name) / times as u64)).collect();

    println!("| path | instructions | budget | |\n|---|---:|---:|---|");
    let mut within = true;
    for (name, counted) in &counted {
        let (shown, verdict) = match budget.get(name) {
            // The sides that it is compared with have no budget.
            _ if name.starts_with("bare") || name == "by_hand" => (String::new(), ""),
            Some(budget) if *counted as f64 > *budget as f64 * (1.0 + TOLERANCE) => {
                within = false;
                (budget.to_string(), "**over budget**")
            }
            Some(budget) if (*counted as f64) < *budget as f64 * (1.0 - TOLERANCE) => {
                (budget.to_string(), "below: tighten the budget")
            }
            Some(budget) => (budget.to_string(), ""),
            None => ("none".to_owned(), "no budget: write one with `--update`"),
        };
        println!("| {name} | {counted} | {shown} | {verdict} |");
    }
    for kind in ["str", "u64"] {
        let ratio = counted[&format!("get_{kind}")] as f64 / counted[&format!("bare_{kind}")] as f64;
        println!("\nA hit of a `{kind}` key: {ratio:.2} × the bare engine.");
        if kind == "str" && ratio > HIT {
            println!("**More than {HIT}.**");
            within = false;
        }
    }
    let (decorated, by_hand) = (counted["decorated"], counted["by_hand"]);
    println!(
        "\nA hit by `#[cached]`: {decorated} instructions; written by hand, with the same key: {by_hand}."
    );
    if args.update {
        let ours: BTreeMap<_, _> =
            counted.iter().filter(|(name, _)| !name.starts_with("bare") && *name != "by_hand").collect();
        let text = serde_json::to_string_pretty(&ours).expect("a map of numbers");
        std::fs::write(&path, text + "\n").expect("the budget is written");
        return ExitCode::SUCCESS;
    }
    if within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one case of this program under valgrind.
fn count(case: &str) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*cases::measured*"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--case", case])
        .output()
        .unwrap_or_else(|error| panic!("valgrind is needed (apt-get install valgrind): {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case} failed under valgrind:\n{said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    collected.unwrap_or_else(|| panic!("valgrind tells no count:\n{said}"))
}
