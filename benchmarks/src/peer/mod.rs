//! The peers, each in its own process. One line of JSON asks for a round, and one line answers.
//!
//! A request is `{"job": .., "side": .., ..}`, an answer `{"value": 1.5}` or `{"absent": "why"}`. If a job counts
//! something (loads, batches), the answer contains it, too: `{"value": 101.3, "loads": 1}`. The first line of a
//! peer is unrequested, and names its sides by job: `{"l1": ["foyer"], ..}`.
//!
//! All requests have these fields: `redis` is the URL of the run's server, `limit_ms` the longest time a round
//! should take, `unit` the unit of the value (if a job has several), and `at_ms` the moment at
//! which the round begins (Unix time). If a side gets the same case again, it keeps its setup.

mod installed;
mod process;

use std::cell::RefCell;

use serde_json::{Map, Value, json};

use crate::contest::{Most, Side};
use process::{Answer, Peer};

/// The longest time that a round of a slow side should take.
const LIMIT_MS: u64 = 2000;
/// The time between sending a round to the processes of a fleet and its start.
const LEAD_MS: u64 = 50;
/// The number of processes in a fleet.
pub(crate) const PROCESSES: usize = 4;

pub(crate) struct Peers {
    running: Vec<Peer>,
    absent: Vec<String>,
}

impl Peers {
    /// Builds and starts the installed peers, if peers are wanted.
    pub(crate) fn start() -> Self {
        let mut peers = Self { running: Vec::new(), absent: Vec::new() };
        if cfg!(feature = "peers") {
            for (name, command) in installed::all() {
                match command.and_then(Peer::start) {
                    Ok(peer) => peers.running.push(peer),
                    Err(why) => peers.absent.push(format!("{name} are left out: {why}")),
                }
            }
        } else {
            peers.absent.push("peers are left out: add `--features peers`".to_owned());
        }
        peers
    }

    /// The missing peers, with reasons.
    pub(crate) fn absent(&self) -> &[String] {
        &self.absent
    }

    /// The peers' sides in one case of a job.
    pub(crate) fn sides<'a>(&'a self, job: &'static str, case: &Value) -> Vec<Side<'a>> {
        let asks = self.asks(job, case);
        let side = |(peer, name, ask): (&'a Peer, String, Value)| {
            Side::fallible(name, move || peer.ask(&ask).map(|answer| answer.value))
        };
        asks.map(side).collect()
    }

    /// Like [`sides`](Self::sides), and records their counts.
    pub(crate) fn counting<'a>(&'a self, job: &'static str, case: &Value, most: &'a Most) -> Vec<Side<'a>> {
        let asks = self.asks(job, case);
        let side = |(peer, name, ask): (&'a Peer, String, Value)| {
            Side::fallible(name.clone(), move || peer.ask(&ask).map(|answer| noted(most, &name, &answer)))
        };
        asks.map(side).collect()
    }

    /// The peers' sides in a job of several processes, which begin at the same moment. The figure of a round
    /// is that of the slowest process, and their counts are added up.
    pub(crate) fn fleets<'a>(&'a self, job: &'static str, case: &Value, most: &'a Most) -> Vec<Side<'a>> {
        let mut sides = Vec::new();
        for (peer, name, ask) in self.asks(job, case) {
            // Starts with its first round, and ends with the contest.
            let fleet = RefCell::new(None);
            sides.push(Side::fallible(name.clone(), move || {
                let mut fleet = fleet.borrow_mut();
                if fleet.is_none() {
                    *fleet = Some((0..PROCESSES).map(|_| peer.another()).collect::<Result<Vec<_>, _>>()?);
                }
                let fleet = fleet.as_ref().expect("started above");
                together(fleet, ask.clone()).map(|answer| noted(most, &name, &answer))
            }));
        }
        sides
    }

    fn asks<'a>(
        &'a self,
        job: &'static str,
        case: &Value,
    ) -> impl Iterator<Item = (&'a Peer, String, Value)> + use<'a> {
        let case: Map<String, Value> = case.as_object().cloned().unwrap_or_default();
        self.running.iter().flat_map(move |peer| {
            let case = case.clone();
            peer.sides(job).iter().map(move |name| {
                let mut ask = json!({ "job": job, "side": name, "limit_ms": LIMIT_MS });
                ask.as_object_mut().expect("an object").extend(case.clone());
                (peer, name.clone(), ask)
            })
        })
    }
}

fn noted(most: &Most, side: &str, answer: &Answer) -> f64 {
    if let Some(loads) = answer.loads {
        most.note(side, loads);
    }
    answer.value
}

/// Runs one round of all processes: sends all requests first, then waits for the answers.
fn together(fleet: &[Peer], mut ask: Value) -> Result<Answer, String> {
    // An extra round for the setup, because connecting is not part of a storm.
    for peer in fleet.iter().filter(|peer| !peer.is_warm()) {
        peer.ask(&ask)?;
    }
    let now = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_millis() as u64;
    ask["at_ms"] = json!(now + LEAD_MS);
    for peer in fleet {
        peer.say(&ask)?;
    }
    let mut sum = Answer { value: 0.0, loads: Some(0) };
    for peer in fleet {
        let answer = peer.hear()?;
        sum.value = sum.value.max(answer.value);
        sum.loads = sum.loads.zip(answer.loads).map(|(sum, loads)| sum + loads);
    }
    Ok(sum)
}
