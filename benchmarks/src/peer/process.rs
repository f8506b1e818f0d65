//! One peer: a child process and its pipes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;

/// The time after which a peer that sends nothing counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Peer {
    command: RefCell<Command>,
    child: RefCell<Child>,
    stdin: RefCell<ChildStdin>,
    lines: Receiver<String>,
    sides: HashMap<String, Vec<String>>,
    warm: Cell<bool>,
}

/// The answer of a peer.
pub(super) struct Answer {
    pub(super) value: f64,
    /// The number of loads, in jobs that count them.
    pub(super) loads: Option<u64>,
}

impl Peer {
    pub(super) fn start(mut command: Command) -> Result<Self, String> {
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| format!("cannot be started: {error}"))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("have no pipes".to_owned());
        };
        let (sender, lines) = channel();
        // The thread ends with the process, or when this peer is dropped.
        std::thread::spawn(move || {
            let read = BufReader::new(stdout).lines().map_while(Result::ok);
            for line in read {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut peer = Self {
            command: RefCell::new(command),
            child: RefCell::new(child),
            stdin: RefCell::new(stdin),
            lines,
            sides: HashMap::new(),
            warm: Cell::new(false),
        };
        let line = peer.line()?;
        peer.sides =
            serde_json::from_str(&line).map_err(|_| format!("said {line:?} instead of their sides"))?;
        Ok(peer)
    }

    /// Starts another process of this peer.
    pub(super) fn another(&self) -> Result<Self, String> {
        let command = self.command.borrow();
        let mut again = Command::new(command.get_program());
        again.args(command.get_args());
        Self::start(again)
    }

    /// The sides with which it takes part in a job.
    pub(super) fn sides(&self, job: &str) -> &[String] {
        self.sides.get(job).map_or(&[], Vec::as_slice)
    }

    /// Whether it has answered.
    pub(super) fn is_warm(&self) -> bool {
        self.warm.get()
    }

    pub(super) fn ask(&self, ask: &Value) -> Result<Answer, String> {
        self.say(ask)?;
        self.hear()
    }

    pub(super) fn say(&self, ask: &Value) -> Result<(), String> {
        writeln!(self.stdin.borrow_mut(), "{ask}").map_err(|error| format!("its process is gone: {error}"))
    }

    pub(super) fn hear(&self) -> Result<Answer, String> {
        let line = self.line()?;
        self.warm.set(true);
        let answer: Value = serde_json::from_str(&line).map_err(|_| format!("answered {line:?}"))?;
        match answer["value"].as_f64() {
            Some(value) => Ok(Answer { value, loads: answer["loads"].as_u64() }),
            None => Err(answer["absent"].as_str().unwrap_or("gave no figure").to_owned()),
        }
    }

    fn line(&self) -> Result<String, String> {
        self.lines.recv_timeout(PATIENCE).map_err(|error| match error {
            // Otherwise a late answer would count for the next round.
            RecvTimeoutError::Timeout => {
                let _ = self.child.borrow_mut().kill();
                format!("said nothing for {} s", PATIENCE.as_secs())
            }
            RecvTimeoutError::Disconnected => "its process is gone".to_owned(),
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let mut child = self.child.borrow_mut();
        let _ = child.kill();
        let _ = child.wait();
    }
}
