//! Why a reader cannot go on, with the remedy.

use std::borrow::Cow;

use crate::relay::CONNECT_TIMEOUT;
use crate::replication::watch::Stop;
use crate::replication::wire::Malformed;
use crate::table::Table;

/// What ends a session of a reader.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Stopped(#[from] Stop),
}

impl Trouble {
    /// Whether the server cannot send what is behind the position of the slot, however often it is asked: a row that is no UTF-8 or
    /// too large for a message, or a change that is older than the publication.
    pub(crate) fn is_lasting(&self) -> bool {
        let Self::Database(error) = self else {
            return matches!(self, Self::Stopped(Stop::Malformed(Malformed::NotUtf8)));
        };
        let Some(error) = error.as_database_error() else { return false };
        is_lasting(error.code().as_deref().unwrap_or_default(), error.message())
    }
}

fn is_lasting(code: &str, text: &str) -> bool {
    match code {
        "22021" | "22P05" => true,
        // In the language of the server. It may also lack the slot, which was there a moment ago.
        "42704" => !text.contains("replication slot"),
        _ => is_too_large(code, text),
    }
}

/// Whether the log has a row that no message can hold. For bytes of 512 MB and more the server has no code of its own, and a text that
/// it does not translate.
fn is_too_large(code: &str, text: &str) -> bool {
    code == "54000" || (code == "XX000" && text.contains("invalid memory alloc request size"))
}

const WATCH_OR_REMOVE: &str =
    "watch it with `.table(..)`, or take it out: ALTER PUBLICATION .. DROP TABLE ..";
const REMOVE: &str =
    "`.table(..)` cannot watch a table of this name, so take it out: ALTER PUBLICATION .. DROP TABLE ..";

/// The remedy for a table of the publication that is not watched.
pub(crate) fn unwatched(schema: &str, name: &str) -> &'static str {
    match Table::of_user(&format!("{schema}.{name}"), "") {
        Ok(_) => WATCH_OR_REMOVE,
        Err(_) => REMOVE,
    }
}

/// The error in words, with the remedy where it is known.
pub(crate) fn told(trouble: &Trouble) -> String {
    let error = match trouble {
        Trouble::Refused(what) => return what.clone(),
        Trouble::Stopped(Stop::NotWatched { remedy, .. }) => return format!("{trouble}: {remedy}"),
        Trouble::Stopped(_) => return trouble.to_string(),
        Trouble::Database(sqlx::Error::PoolTimedOut) => {
            return format!("no connection to the database within {CONNECT_TIMEOUT:?}");
        }
        Trouble::Database(error) => error,
    };
    let code = error.as_database_error().and_then(|error| error.code().map(Cow::into_owned));
    let remedy = remedy(code.as_deref().unwrap_or_default(), &error.to_string());
    match remedy {
        Some(remedy) => format!("{error}: {remedy}"),
        None => error.to_string(),
    }
}

fn remedy(code: &str, text: &str) -> Option<String> {
    match code {
        "42501" => Some(
            "the reader's user needs the attribute REPLICATION: ALTER ROLE .. REPLICATION (on managed servers a role with \
             that right)"
                .to_owned(),
        ),
        // The publication was there when the reader looked.
        "42704" if text.contains("publication") => Some("the slot is older than the publication".to_owned()),
        _ if is_too_large(code, text) => Some("the log has a row that is too large".to_owned()),
        "22021" | "22P05" => Some("the log has a row that is no UTF-8".to_owned()),
        "53400" => Some("raise `max_replication_slots`, or remove a slot that nobody uses".to_owned()),
        "55006" => Some("another session uses the slot; it is tried again".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_no_message_can_hold_last_and_are_told_as_a_large_row() {
        let text = "invalid memory alloc request size 1073741827";
        assert!(is_lasting("XX000", text) && is_lasting("54000", "out of memory"));
        assert_eq!(remedy("XX000", text), remedy("54000", "out of memory"));
        assert!(remedy("XX000", text).is_some());
        assert!(!is_lasting("XX000", "cache lookup failed for relation 7"));
        assert_eq!(remedy("XX000", "cache lookup failed for relation 7"), None);
    }

    #[test]
    fn a_table_that_cannot_be_watched_has_to_be_taken_out() {
        assert_eq!(unwatched("public", "teams"), WATCH_OR_REMOVE);
        for (schema, name) in [("public", "my teams"), ("public", "a.b"), ("a.b", "teams")] {
            assert_eq!(unwatched(schema, name), REMOVE);
        }
    }
}
