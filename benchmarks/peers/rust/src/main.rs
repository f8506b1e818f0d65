//! The Rust peers: one line of JSON asks for a round, one answers. See `benchmarks/src/peer.rs`.

mod l1;
mod loader;

use std::collections::HashMap;
use std::io::{BufRead, Write};

use serde_json::{Value, json};

/// One round of one side in one case.
type Round = Box<dyn FnMut() -> f64>;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let mut out = std::io::stdout().lock();
    let sides = json!({
        "l1": ["foyer", "cached", "multi-tier-cache", "hitbox", "cachet"],
        "loader": ["dataloader", "async-graphql"],
    });
    writeln!(out, "{sides}").expect("the driver listens");
    // What is set up for the case at hand; another case drops it.
    let (mut case, mut rounds): (Value, HashMap<String, Round>) = (Value::Null, HashMap::new());
    for line in std::io::stdin().lock().lines() {
        let mut ask: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let side = ask["side"].take().as_str().expect("a side").to_owned();
        if ask != case {
            rounds.clear();
            case = ask.clone();
        }
        if !rounds.contains_key(&side) {
            let made = match ask["job"].as_str() {
                Some("l1") => l1::side(&side, &ask, runtime.handle()),
                Some("loader") => loader::side(&side, &ask, runtime.handle()),
                _ => Err("does not do this job".to_owned()),
            };
            match made {
                Ok(round) => drop(rounds.insert(side.clone(), round)),
                Err(why) => {
                    writeln!(out, "{}", json!({ "absent": why })).expect("the driver listens");
                    continue;
                }
            }
        }
        let value = rounds.get_mut(&side).expect("set up above")();
        writeln!(out, "{}", json!({ "value": value })).expect("the driver listens");
    }
}
