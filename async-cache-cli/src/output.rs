//! Text and JSON on the standard output.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use serde_json::Value;

/// Prints one JSON object.
pub(crate) fn json(value: &Value) -> io::Result<()> {
    line(&format!("{value:#}"))
}

/// Prints one JSON object on one line, at once.
pub(crate) fn json_line(value: &Value) -> io::Result<()> {
    line(&value.to_string())
}

/// Prints a line, at once.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let printed = writeln!(out, "{text}").and_then(|()| out.flush());
    match printed {
        // Nobody reads any more, as in `async-cache watch | head`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        printed => printed,
    }
}

/// Prints names and values in two columns.
pub(crate) fn columns(rows: &[(&str, String)]) -> io::Result<()> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in rows {
        line(&format!("{name:width$}  {value}"))?;
    }
    Ok(())
}

/// A span for people: `1m 2s`, `350ms`. Spans of more than a second are cut to seconds.
pub(crate) fn span(span: Duration) -> String {
    let cut = match span.as_secs() {
        0 => Duration::from_micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
        seconds => Duration::from_secs(seconds),
    };
    humantime::format_duration(cut).to_string()
}
