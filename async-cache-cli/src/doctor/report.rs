//! What an examination has found.

use async_cache::tools::{Right, RightState};
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};
use crate::output;

/// How an examination has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Good,
    /// It works, but another setting may be better.
    Doubtful,
    /// It does not work: exit code 1.
    Bad,
    /// It was not made.
    Skipped,
}

/// One examination.
#[derive(Debug)]
pub(super) struct Check {
    name: &'static str,
    /// The node of a cluster that it is about.
    node: Option<String>,
    status: Status,
    text: String,
    /// Figures for programs.
    figures: Value,
}

impl Check {
    pub(super) fn new(name: &'static str, status: Status, text: String) -> Self {
        Self { name, node: None, status, text, figures: Value::Null }
    }

    /// The same, about a node of a cluster.
    pub(super) fn at(self, node: Option<&str>) -> Self {
        Self { node: node.map(str::to_owned), ..self }
    }

    pub(super) fn with(self, figures: Value) -> Self {
        Self { figures, ..self }
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> Status {
        self.status
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// All examinations.
#[derive(Debug, Default)]
pub(super) struct Report {
    checks: Vec<Check>,
    rights: Vec<Right>,
}

fn severity(state: RightState) -> u8 {
    match state {
        RightState::Granted => 0,
        RightState::Forgone => 1,
        RightState::Unknown => 2,
        RightState::Missing => 3,
    }
}

impl Report {
    pub(super) fn add(&mut self, check: Check) {
        self.checks.push(check);
    }

    /// Adds the rights of a user at one server. Of those at several servers the worst counts.
    pub(super) fn add_rights(&mut self, rights: Vec<Right>) {
        for right in rights {
            match self.rights.iter_mut().find(|known| known.name == right.name) {
                Some(known) if severity(right.state) > severity(known.state) => known.state = right.state,
                Some(_) => {}
                None => self.rights.push(right),
            }
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self.checks.iter().any(|check| check.status == Status::Bad) {
            true => Outcome::Problem,
            false => Outcome::Good,
        }
    }

    pub(super) fn print(&self, as_json: bool) -> Result<(), Failure> {
        if as_json {
            let checks: Vec<_> = self.checks.iter().map(check_json).collect();
            let rights: Vec<_> = self.rights.iter().map(right_json).collect();
            let ok = self.outcome() == Outcome::Good;
            return Ok(output::json(&json!({ "ok": ok, "checks": checks, "rights": rights }))?);
        }
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for Check { name, node, status, text, .. } in &self.checks {
            let word = match status {
                Status::Good => "ok     ",
                Status::Doubtful => "warning",
                Status::Bad => "PROBLEM",
                Status::Skipped => "skipped",
            };
            let node = node.as_ref().map_or_else(String::new, |node| format!("{node}: "));
            output::line(&format!("{word}  {name:width$}  {node}{text}"))?;
        }
        Ok(())
    }
}

fn check_json(check: &Check) -> Value {
    let status = match check.status {
        Status::Good => "ok",
        Status::Doubtful => "warning",
        Status::Bad => "problem",
        Status::Skipped => "skipped",
    };
    let mut out = json!({ "name": check.name, "status": status, "text": check.text });
    if let Some(node) = &check.node {
        out["node"] = node.as_str().into();
    }
    if !check.figures.is_null() {
        out["figures"] = check.figures.clone();
    }
    out
}

fn right_json(right: &Right) -> Value {
    let state = match right.state {
        RightState::Granted => "granted",
        RightState::Missing => "missing",
        RightState::Forgone => "missing_but_optional",
        RightState::Unknown => "unknown",
    };
    json!({ "right": right.name, "state": state })
}
