//! The errors of a region: the operation, the reason, and the remedy.

use std::fmt;
use std::time::Duration;

use async_cache_core::{Error, ErrorKind};

use crate::connection::failure::{Cause, Failure};
use crate::connection::rights;
use crate::reply::REDIRECTIONS;

/// A node of a cluster has executed nothing, because it does not have the slot, or not all keys of it.
#[derive(Debug)]
pub(crate) struct Redirected(Cause);

impl fmt::Display for Redirected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Redirected {}

/// The duration of an outage, for people.
fn duration(outage: Duration) -> String {
    match outage.as_secs() {
        0 => "less than a second".to_owned(),
        _ => format!("{outage:.1?}"),
    }
}

/// The names that the errors of one region mention.
pub(super) struct Errors {
    pub(super) server: String,
    pub(super) namespace: String,
    /// The record that this node was built with.
    pub(super) record: String,
    /// The key that holds the record of the namespace.
    pub(super) meta: String,
}

impl Errors {
    /// The error for a command that gave no answer.
    pub(super) fn of(&self, doing: &str, failure: Failure) -> Error {
        let server = &self.server;
        let error = match failure {
            Failure::Down(outage) if outage.lasting => config(format!(
                "{doing}: not tried, Redis at {server} cannot be used with these settings ({})",
                outage.cause
            ))
            .with_source(outage.cause),
            Failure::Down(outage) => backend(format!(
                "{doing}: not tried, Redis at {server} has been unreachable for {}",
                duration(outage.since.elapsed())
            ))
            .with_source(outage.cause),
            Failure::Timeout(limit) => backend(format!(
                "{doing}: Redis at {server} did not answer within {limit:?}; the command may yet be executed"
            )),
            Failure::Broken(cause) => {
                backend(format!("{doing}: the connection to Redis at {server} was lost")).with_source(cause)
            }
            Failure::Forbidden(cause) => config(format!(
                "{doing}: Redis at {server} does not permit it to this user; {}",
                rights::remedy(&self.namespace)
            ))
            .with_source(cause),
            Failure::Refused { code, detail, cause } => self.refused(doing, &code, &detail, cause),
        };
        error.in_namespace(&self.namespace)
    }

    /// The error for an answer of the server that is an error.
    fn refused(&self, doing: &str, code: &str, detail: &str, cause: Cause) -> Error {
        let server = &self.server;
        match code {
            "BADRECORD" => config(format!(
                "{doing}: this node is built as `{}`, the namespace in Redis as `{detail}`; use another \
                 namespace, or if it is the same type under another name `.schema(\"..\")` with the one it \
                 had, or delete the key `{}` in Redis once no node uses the old one",
                self.record, self.meta,
            )),
            "BADFENCE" => config(format!(
                "{doing}: the other nodes of this namespace identify the server by its scripts, this one by INFO: set \
                 `IdentifyBy::Scripts` here, too, or delete the key `{}` in Redis once no node uses the old setting",
                self.meta,
            )),
            "BADSTATE" => config(format!(
                "{doing}: the key `{detail}` in Redis is not a hash, so another program uses it; delete \
                 it or use another namespace"
            )),
            code if REDIRECTIONS.contains(&code) => backend(format!(
                "{doing}: the slot of the keys is not served by Redis at {server} now; nothing was changed"
            ))
            .with_source(Redirected(cause))
            .with_known_effect(),
            "LATE" => backend(format!("{doing}: expired before it was executed, nothing was changed"))
                .with_known_effect(),
            // The server answers both to the first write of a script.
            "OOM" => backend(format!("{doing}: Redis at {server} has no memory left, nothing was changed"))
                .with_source(cause)
                .with_known_effect(),
            "MISCONF" => {
                backend(format!("{doing}: Redis at {server} cannot write to its disk, nothing was changed"))
                    .with_source(cause)
                    .with_known_effect()
            }
            _ => backend(format!("{doing}: Redis at {server} answered with an error")).with_source(cause),
        }
    }

    /// The error for an answer that no version of our scripts gives.
    pub(super) fn unexpected_reply(&self, doing: &str) -> Error {
        let message = format!("{doing}: Redis at {} gave an answer of another shape", self.server);
        backend(message).in_namespace(&self.namespace)
    }
}

fn backend(message: String) -> Error {
    Error::new(ErrorKind::Backend, message)
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}
