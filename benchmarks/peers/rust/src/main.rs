//! The Rust peers. One line of JSON asks for a round, and one line answers. See `benchmarks/src/peer/mod.rs`.

mod hitbox_rows;
mod l1;
mod l2;
mod loader;
mod multi_tier;
// This file belongs to the driver.
#[path = "../../../src/order.rs"]
mod order;
mod stampede;
mod work;

use std::collections::HashMap;
use std::io::{BufRead, Write};

use serde_json::{Value, json};
use tokio::runtime::Handle;

/// The result of a round: its figure, and the number of loads if the job counts them.
pub struct Answer {
    pub value: f64,
    pub loads: Option<usize>,
}

impl From<f64> for Answer {
    fn from(value: f64) -> Self {
        Self { value, loads: None }
    }
}

/// Runs one round of one side in one case.
pub type Round = Box<dyn FnMut() -> Result<Answer, String>>;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let mut out = std::io::stdout().lock();
    let sides = json!({
        "l1": ["foyer", "cached", "cachet", "multi-tier-cache", "hitbox"],
        "l2": ["multi-tier-cache", "hitbox", "cached", "cachet"],
        "cold": ["multi-tier-cache", "hitbox", "cached", "cachet"],
        "stampede": ["moka", "quick_cache", "foyer", "cachet", "multi-tier-cache", "hitbox"],
        "fleet": ["multi-tier-cache", "hitbox"],
        "loader": ["dataloader", "async-graphql"],
    });
    writeln!(out, "{sides}").expect("the driver listens");
    // The setup of the current case. Another case drops it.
    let (mut case, mut rounds): (Value, HashMap<String, Round>) = (Value::Null, HashMap::new());
    for line in std::io::stdin().lock().lines() {
        let mut ask: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let side = ask["side"].take().as_str().expect("a side").to_owned();
        // The start time of a round is not part of the case.
        let at = ask.as_object_mut().and_then(|ask| ask.remove("at_ms"));
        if ask != case {
            rounds.clear();
            case = ask.clone();
        }
        let answer = match rounds.get_mut(&side) {
            Some(round) => Ok(round),
            None => set_up(&side, &ask, runtime.handle()).map(|round| rounds.entry(side).or_insert(round)),
        };
        let answer = answer.and_then(|round| {
            if let Some(at) = at {
                work::wait_until(at.as_u64().expect("milliseconds"));
            }
            round()
        });
        let answer = match answer {
            Ok(Answer { value, loads }) => json!({ "value": value, "loads": loads }),
            Err(why) => json!({ "absent": why }),
        };
        writeln!(out, "{answer}").expect("the driver listens");
    }
}

fn set_up(side: &str, ask: &Value, runtime: &Handle) -> Result<Round, String> {
    match ask["job"].as_str() {
        Some("l1") => l1::side(side, ask, runtime),
        Some("l2") => l2::hits(side, ask, runtime),
        Some("cold") => l2::cold(side, ask, runtime),
        Some("stampede") => stampede::alone(side, ask, runtime),
        Some("fleet") => stampede::fleet(side, ask, runtime),
        Some("loader") => loader::side(side, ask, runtime),
        _ => Err("does not do this job".to_owned()),
    }
}
