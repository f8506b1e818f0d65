//! What the user must be permitted, and how to say that it is not.

use std::sync::Arc;

use redis::{ErrorKind, RedisError};

use crate::fault::{is_forbidden, said};

/// What to permit for a namespace.
pub(crate) fn remedy(namespace: &str) -> String {
    format!(
        "permit the keys `~{{{namespace}:*`, the channels `&{{{namespace}:*` and the commands that \
         docs/operations.md lists"
    )
}

/// Why the connection that hears of changes cannot be made, if only a change of settings helps.
pub(crate) fn no_subscriber(error: &RedisError) -> Option<Arc<str>> {
    let unknown = said(error).1.to_ascii_lowercase().contains("unknown command");
    if unknown || error.kind() == ErrorKind::RESP3NotSupported {
        return Some(
            "being told of changes needs the command HELLO, which this server does not know: changes are heard \
             as RESP3 pushes; enable it (`rename-command`?), or use Redis 6.0 or later"
                .into(),
        );
    }
    is_forbidden(error).then(|| "being told of changes needs the right to run HELLO (`+hello`)".into())
}

/// Why a namespace is not told of changes.
pub(crate) fn no_subscription(error: &RedisError) -> Arc<str> {
    let command = said(error).1.contains("command");
    let right = if command {
        "the right to run SUBSCRIBE and UNSUBSCRIBE (`+subscribe +unsubscribe`)"
    } else {
        "the right to its channels: permit `&{<namespace>:*`"
    };
    format!("being told of changes needs {right}").into()
}
