//! The rights that the user needs, and the messages for those that it lacks.

use std::collections::HashMap;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, Value, cmd};

use super::failure::is_forbidden;
use crate::reply::{server_error_code, server_error_detail, server_error_text};

/// The name of a key and of a channel to try rights on. No namespace has it: the names of a namespace
/// continue with a colon.
pub(crate) const PROBE: &str = "{async-cache}rights";

/// A right that a user lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    Command,
    Key,
    Channel,
}

impl Lack {
    /// The right that is lacking by the text of an error, whichever version of Redis wrote it; `None` for other
    /// errors.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let says = |part: &str| text.contains(part);
        if says("permissions to run") || says("can't run this command") {
            return Some(Self::Command);
        }
        if !(says("NOPERM") || says("permissions to access") || says("The user executing the script")) {
            return None;
        }
        Some(if says("channel") { Self::Channel } else { Self::Key })
    }
}

/// The rights to give for a namespace.
pub(crate) fn remedy(namespace: &str) -> String {
    format!(
        "permit the keys `~{{{namespace}:*`, the channels `&{{{namespace}:*` and the commands that \
         docs/operations.md lists"
    )
}

/// Why a command that is needed cannot be run, if only a change of settings helps. `right` is the command's
/// name in an ACL.
pub(crate) fn no_command(right: &str, error: &RedisError) -> Option<String> {
    no_command_for(right, &server_error_detail(error)).or_else(|| {
        is_forbidden(error).then(|| format!("the user may not run {}: permit `+{right}`", spelt(right)))
    })
}

/// Why a command that is needed cannot be run, by the text of the error.
pub(crate) fn no_command_for(right: &str, text: &str) -> Option<String> {
    let command = spelt(right);
    let text_low = text.to_ascii_lowercase();
    if text_low.contains("unknown command") || text_low.contains("unknown redis command") {
        return Some(format!(
            "the server does not know the command {command}, which is needed: is it renamed or switched off \
             (`rename-command`), or is this not Redis 6.0 or later?"
        ));
    }
    (Lack::of(text) == Some(Lack::Command))
        .then(|| format!("the user may not run {command}: permit `+{right}`"))
}

fn spelt(right: &str) -> String {
    right.to_ascii_uppercase().replace('|', " ")
}

/// Whether RESP3 cannot be begun, although the server may be used without it.
pub(crate) fn lacks_resp3(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::RESP3NotSupported => true,
        _ if server_error_code(error) == "NOPROTO" => true,
        _ => error.to_string().to_ascii_lowercase().contains("hello") && no_command("hello", error).is_some(),
    }
}

/// Why a namespace receives no changes. `right` is the name of the command that was refused.
pub(crate) fn no_subscription(right: &str, error: &RedisError) -> Arc<str> {
    no_command(right, error)
        .filter(|_| Lack::of(&server_error_text(error)) != Some(Lack::Channel))
        .unwrap_or_else(|| {
            "the user may not hear the channels of this namespace, so it is not told of changes: permit \
             `&{<namespace>:*`"
                .to_owned()
        })
        .into()
}

/// Checks the rights of a user that may not use the probe's names. Returns why it may not use any namespace, or `None`
/// if it may use one, or may not read its own rights.
pub(crate) async fn no_namespace(connection: &mut MultiplexedConnection, lack: Lack) -> Option<String> {
    let user: String = cmd("ACL").arg("WHOAMI").query_async(connection).await.ok()?;
    let rights: RedisResult<HashMap<String, Value>> =
        cmd("ACL").arg("GETUSER").arg(user).query_async(connection).await;
    let mut rights = rights.ok()?;
    // In Redis 7 a user may have further rights in selectors.
    if rights.remove("selectors").is_some_and(|selectors| !words(selectors).is_empty()) {
        return None;
    }
    let (field, what, pattern) = match lack {
        Lack::Key => ("keys", "key", "~{<namespace>:*"),
        Lack::Channel => ("channels", "channel", "&{<namespace>:*"),
        Lack::Command => return None,
    };
    let patterns = words(rights.remove(field)?);
    (!patterns.iter().any(|pattern| covers_a_namespace(pattern)))
        .then(|| format!("the user may use no {what} of any namespace: permit `{pattern}`"))
}

/// Every text in an answer, by words.
fn words(value: Value) -> Vec<String> {
    match value {
        Value::Array(values) | Value::Set(values) => values.into_iter().flat_map(words).collect(),
        Value::Map(pairs) => {
            pairs.into_iter().flat_map(|(key, value)| [words(key), words(value)].concat()).collect()
        }
        Value::BulkString(bytes) => words(Value::SimpleString(String::from_utf8_lossy(&bytes).into_owned())),
        Value::SimpleString(text) => text.split_ascii_whitespace().map(ToOwned::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// Whether a pattern of an ACL may match names that begin with a brace, as all names of namespaces do.
fn covers_a_namespace(pattern: &str) -> bool {
    let bare = pattern.trim_start_matches(['%', 'R', 'W']).trim_start_matches(['~', '&']);
    bare.starts_with(['{', '*', '?', '[', '\\'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_says_what_is_lacking_in_its_own_words() {
        for (text, lack) in [
            ("NOPERM this user has no permissions to run the 'get' command or its subcommand", Lack::Command),
            ("NOPERM User monkey has no permissions to run the 'get' command", Lack::Command),
            ("The user executing the script can't run this command or subcommand", Lack::Command),
            (
                "NOPERM ACL failure in script: User app has no permissions to run the 'hset' command",
                Lack::Command,
            ),
            ("NOPERM No permissions to access a key", Lack::Key),
            (
                "The user executing the script can't access at least one of the keys mentioned in the command arguments",
                Lack::Key,
            ),
            (
                "The user executing the script can't publish to the channel mentioned in the command",
                Lack::Channel,
            ),
            ("NOPERM ACL failure in script: No permissions to access a channel", Lack::Channel),
            (
                "NOPERM this user has no permissions to access one of the channels used as arguments",
                Lack::Channel,
            ),
        ] {
            assert_eq!(Lack::of(text), Some(lack), "{text}");
        }
        for text in ["ERR syntax error", "WRONGTYPE a key", "OOM command not allowed"] {
            assert_eq!(Lack::of(text), None, "{text}");
        }
    }

    #[test]
    fn patterns_that_can_match_no_namespace_are_told() {
        for pattern in ["*", "~*", "~{users:*", "%RW~{users:*", "&{*", "~?users", "~[{]x", "&*"] {
            assert!(covers_a_namespace(pattern), "{pattern}");
        }
        for pattern in ["~app:*", "app:*", "&news", "%R~x"] {
            assert!(!covers_a_namespace(pattern), "{pattern}");
        }
    }
}
