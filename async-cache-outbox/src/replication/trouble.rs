//! Why a reader cannot go on, with the remedy.

use std::borrow::Cow;

use crate::relay::CONNECT_TIMEOUT;
use crate::replication::watch::Stop;
use crate::replication::wire::Malformed;

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
        match error.code().as_deref() {
            Some("22021" | "22P05" | "54000") => true,
            // In the language of the server. It may also lack the slot, which was there a moment ago.
            Some("42704") => !error.message().contains("replication slot"),
            _ => false,
        }
    }
}

/// The remedy for a table of the publication that is not watched.
pub(crate) const WATCH_OR_REMOVE: &str =
    "watch it with `.table(..)`, or take it out: ALTER PUBLICATION .. DROP TABLE ..";

/// The error in words, with the remedy where it is known.
pub(crate) fn told(trouble: &Trouble) -> String {
    let error = match trouble {
        Trouble::Refused(what) => return what.clone(),
        Trouble::Stopped(Stop::NotWatched(_)) => return format!("{trouble}: {WATCH_OR_REMOVE}"),
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
        "54000" => Some("the log has a row that is too large".to_owned()),
        "22021" | "22P05" => Some("the log has a row that is no UTF-8".to_owned()),
        "53400" => Some("raise `max_replication_slots`, or remove a slot that nobody uses".to_owned()),
        "55006" => Some("another session uses the slot; it is tried again".to_owned()),
        _ => None,
    }
}
