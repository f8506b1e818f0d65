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

/// Waits until nobody reads the standard output any more, as in `async-cache watch | head`. A file has no such end.
#[cfg(unix)]
pub(crate) async fn closed() {
    use std::os::fd::AsFd as _;

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    let (sender, receiver) = tokio::sync::oneshot::channel();
    // The wait has no end in time, so it gets a thread of its own. The thread ends with the program.
    std::thread::spawn(move || {
        let out = io::stdout();
        // Nothing is asked for: an error and a hang-up are told anyway.
        let mut fds = [PollFd::new(out.as_fd(), PollFlags::empty())];
        let mut polled = poll(&mut fds, PollTimeout::NONE);
        while polled == Err(Errno::EINTR) {
            polled = poll(&mut fds, PollTimeout::NONE);
        }
        // Nobody waits any more if `watch` has ended.
        let _ = sender.send(polled.is_ok());
    });
    if receiver.await != Ok(true) {
        std::future::pending::<()>().await;
    }
}

/// Without `poll` the next line that is printed tells it.
#[cfg(not(unix))]
pub(crate) async fn closed() {
    std::future::pending::<()>().await;
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
