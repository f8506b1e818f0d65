//! The failures of commands, sorted by their consequences.

use std::time::{Duration, Instant};

use redis::{ErrorKind as Redis, RedisError, ServerErrorKind};

pub(crate) use super::cause::Cause;
use super::cause::Secrets;
use super::tokens::OTHER_RUN;
use crate::reply::{server_error_code, server_error_detail};

/// Why a command gave no answer.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// No connection is up: nothing was sent.
    Down(Outage),
    /// No answer in time. The server may have executed the command, or may still execute it.
    Timeout(Duration),
    /// The connection is of no more use.
    Broken(Cause),
    /// The user lacks a right: nothing but a change of its rights helps.
    Forbidden(Cause),
    /// The server answered with an error.
    Refused {
        /// First word of the answer.
        code: String,
        /// The rest of the answer.
        detail: String,
        /// The whole answer.
        cause: Cause,
    },
}

/// Since when, and why, a connection is down.
#[derive(Debug, Clone)]
pub(crate) struct Outage {
    pub(crate) since: Instant,
    pub(crate) cause: Cause,
    /// When the last attempt to connect failed: `cause` is its error. `None`: `cause` says why the connection was lost.
    pub(crate) attempted: Option<Instant>,
    /// Nothing but a change of settings helps.
    pub(crate) lasting: bool,
}

impl Outage {
    /// A connection was lost, now.
    pub(crate) fn lost(cause: Cause) -> Self {
        Self { since: Instant::now(), cause, attempted: None, lasting: false }
    }

    /// An attempt to make one has failed, now.
    pub(crate) fn failed(cause: Cause, lasting: bool) -> Self {
        Self { attempted: Some(Instant::now()), lasting, ..Self::lost(cause) }
    }

    /// The outage of two connections: since when both are down, and why. The cause is that of the newest attempt. A
    /// connection that was only lost knows no better cause.
    pub(crate) fn and(self, other: Self) -> Self {
        let since = self.since.max(other.since);
        let newest = if (self.attempted, self.since) < (other.attempted, other.since) { other } else { self };
        Self { since, ..newest }
    }
}

impl Failure {
    /// Sorts an error of the client.
    pub(crate) fn of(error: &RedisError, secrets: &Secrets, limit: Duration) -> Self {
        let cause = secrets.cause(error);
        if error.is_timeout() {
            return Self::Timeout(limit);
        }
        if is_fatal(error) {
            return Self::Broken(cause);
        }
        if is_forbidden(error) {
            return Self::Forbidden(cause);
        }
        let (mut code, detail) = (server_error_code(error), server_error_detail(error));
        for inner in ["OOM", "MISCONF"] {
            if quotes(error, inner) {
                inner.clone_into(&mut code);
            }
        }
        Self::Refused { code, detail: secrets.cause(detail).to_string(), cause }
    }
}

/// Whether the user lacks a right. For the commands of a script, servers say so without the code: Redis 6 and 7.0 in
/// the first words, later ones and Valkey in the second.
pub(crate) fn is_forbidden(error: &RedisError) -> bool {
    let detail = server_error_detail(error);
    server_error_code(error) == "NOPERM"
        || ["NOPERM", "The user executing the script", "ACL failure in script"]
            .iter()
            .any(|words| detail.contains(words))
}

/// Whether a command of a script got this answer, which Redis 6 quotes in the text of another error.
fn quotes(error: &RedisError, inner: &str) -> bool {
    let code = server_error_code(error);
    (code == "ERR" || code.starts_with("@user_script"))
        && server_error_detail(error).contains(&format!("-{inner} "))
}

/// Whether the connection an error came from must be replaced.
fn is_fatal(error: &RedisError) -> bool {
    if quotes(error, "READONLY") {
        return true;
    }
    match error.kind() {
        // A demoted or loading server answers, but cannot serve.
        Redis::Server(kind) => matches!(
            kind,
            ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown
        ),
        // The last is our own: another node has found that the server process is another one.
        Redis::Extension => {
            matches!(server_error_code(error).as_str(), "NOAUTH" | "WRONGPASS" | OTHER_RUN)
        }
        Redis::Io => true,
        _ => error.is_unrecoverable_error(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_a_connection() {
        let of = |error: RedisError| Failure::of(&error, &Secrets::default(), Duration::ZERO);
        let io = |kind: std::io::ErrorKind| RedisError::from(std::io::Error::from(kind));
        assert!(matches!(of(io(std::io::ErrorKind::BrokenPipe)), Failure::Broken(_)));
        assert!(matches!(of(io(std::io::ErrorKind::TimedOut)), Failure::Timeout(_)));
        let server = |code: &str| redis::make_extension_error(code.to_owned(), Some("x".to_owned()));
        assert!(matches!(of(server("NOAUTH")), Failure::Broken(_)));
        assert!(matches!(of(server("LATE")), Failure::Refused { code, .. } if code == "LATE"));
        // As Redis 6 says it, for `redis.call` and for `redis.pcall`.
        let quoted = |code: &str, text: &str| {
            of(redis::make_extension_error(code.to_owned(), Some(format!("1: @user_script: 1: {text}"))))
        };
        for code in ["ERR", "@user_script:"] {
            assert!(matches!(quoted(code, "-READONLY You can't write"), Failure::Broken(_)), "{code}");
            let full = quoted(code, "-OOM command not allowed");
            assert!(matches!(full, Failure::Refused { code, .. } if code == "OOM"), "{code}");
        }
    }
}
