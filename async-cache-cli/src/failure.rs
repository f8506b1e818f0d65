//! Errors and exit codes.

use std::error::Error as StdError;
use std::io::Write as _;
use std::process::ExitCode;

use async_cache::{Error, ErrorKind};

/// The result of a verb that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Exit code 0.
    Good,
    /// Not found, or a problem was found: exit code 1.
    Problem,
}

/// Why a verb could not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    kind: &'static str,
    message: String,
}

impl Failure {
    /// Something is missing: exit code 1.
    pub(crate) fn found(message: impl Into<String>) -> Self {
        Self { code: 1, kind: "not_found", message: message.into() }
    }

    /// The arguments are wrong: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, kind: "usage", message: message.into() }
    }

    /// The settings of the connection are wrong by themselves: exit code 2.
    pub(crate) fn settings(error: &Error) -> Self {
        Self::usage(chain(error))
    }

    /// Adds a remark to the message.
    pub(crate) fn with(self, remark: &str) -> Self {
        Self { message: format!("{} ({remark})", self.message), ..self }
    }

    /// What is wrong, and the remedy.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Prints the error.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        let Self { code, kind, message } = self;
        let text = match json {
            true => serde_json::json!({ "error": message, "kind": kind, "exit_code": code }).to_string(),
            false => format!("error: {message}"),
        };
        // If it cannot be written, the exit code still tells.
        let _ = writeln!(std::io::stderr(), "{text}");
        ExitCode::from(*code)
    }
}

/// The server does not answer, or refuses: exit code 3.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (code, kind) = match error.kind() {
            ErrorKind::Key => (2, "usage"),
            ErrorKind::Config | ErrorKind::Unsupported => (3, "refused"),
            _ => (3, "unreachable"),
        };
        Self { code, kind, message: chain(&error) }
    }
}

/// If the reader of the output has gone, as in `async-cache watch | head`, the program ends without an error.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self { code: 1, kind: "output", message: format!("writing the output: {error}") }
    }
}

/// An error and its causes, without repetitions.
pub(crate) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}
