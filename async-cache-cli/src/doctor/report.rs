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
    status: Status,
    text: String,
    /// Figures for programs.
    figures: Value,
}

impl Check {
    pub(super) fn new(name: &'static str, status: Status, text: String) -> Self {
        Self { name, status, text, figures: Value::Null }
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
    pub(super) rights: Vec<Right>,
}

impl Report {
    pub(super) fn add(&mut self, check: Check) {
        self.checks.push(check);
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
        for Check { name, status, text, .. } in &self.checks {
            let word = match status {
                Status::Good => "ok     ",
                Status::Doubtful => "warning",
                Status::Bad => "PROBLEM",
                Status::Skipped => "skipped",
            };
            output::line(&format!("{word}  {name:width$}  {text}"))?;
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
