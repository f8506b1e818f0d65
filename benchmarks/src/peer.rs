//! Peers in processes of their own: one line of JSON asks, one answers.
//!
//! ask `{"job": .., "side": .., ..}`, answer `{"value": 1.5}` or `{"absent": "why"}`. The first line a
//! peer says, unasked, names its sides by job: `{"l1": ["foyer"], ..}`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::contest::Side;

pub(crate) struct Peers {
    running: Vec<Peer>,
    absent: Vec<String>,
}

struct Peer {
    child: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    sides: HashMap<String, Vec<String>>,
}

impl Peers {
    /// Builds and starts what there is, if peers are wanted.
    pub(crate) fn start() -> Self {
        let mut peers = Self { running: Vec::new(), absent: Vec::new() };
        if cfg!(feature = "peers") {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
            peers.add("Rust peers", rust(&folder));
            for name in ["Python async-cache and cashews", "npm bentocache"] {
                peers.absent.push(format!("{name}: not driven yet"));
            }
        } else {
            peers.absent.push("peers are left out: add `--features peers`".to_owned());
        }
        peers
    }

    fn add(&mut self, name: &str, command: Result<Command, String>) {
        match command.and_then(Peer::start) {
            Ok(peer) => self.running.push(peer),
            Err(why) => self.absent.push(format!("{name}: {why}")),
        }
    }

    /// Those that are not there, and why.
    pub(crate) fn absent(&self) -> &[String] {
        &self.absent
    }

    /// The peers' sides in one case of a job.
    pub(crate) fn sides<'a>(&'a self, job: &'static str, case: &Value) -> Vec<Side<'a>> {
        let mut sides = Vec::new();
        for peer in &self.running {
            for name in peer.sides.get(job).into_iter().flatten() {
                let mut ask = json!({ "job": job, "side": name });
                if let (Value::Object(ask), Value::Object(case)) = (&mut ask, case) {
                    ask.extend(case.clone());
                }
                sides.push(Side::fallible(name.clone(), move || peer.ask(&ask)));
            }
        }
        sides
    }
}

fn rust(folder: &Path) -> Result<Command, String> {
    let manifest = folder.join("rust/Cargo.toml");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--manifest-path"])
        .arg(&manifest)
        .status()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !built.success() {
        return Err("they do not build here".to_owned());
    }
    Ok(Command::new(folder.join("rust/target/release/peers")))
}

impl Peer {
    fn start(mut command: Command) -> Result<Self, String> {
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| format!("cannot be started: {error}"))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("has no pipes".to_owned());
        };
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line).map_err(|error| error.to_string())?;
        let sides = serde_json::from_str(&line).map_err(|_| format!("said {line:?} instead of its sides"))?;
        Ok(Self { child, pipes: RefCell::new((stdin, stdout)), sides })
    }

    fn ask(&self, ask: &Value) -> Result<f64, String> {
        let (stdin, stdout) = &mut *self.pipes.borrow_mut();
        writeln!(stdin, "{ask}").map_err(|error| format!("is gone: {error}"))?;
        let mut line = String::new();
        stdout.read_line(&mut line).map_err(|error| format!("is gone: {error}"))?;
        let answer: Value = serde_json::from_str(&line).map_err(|_| format!("answered {line:?}"))?;
        answer["value"].as_f64().ok_or_else(|| answer["absent"].as_str().unwrap_or("no figure").to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
