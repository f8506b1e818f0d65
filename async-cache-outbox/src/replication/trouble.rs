//! Why a reader cannot go on, with the remedy.

use std::borrow::Cow;

use crate::relay::CONNECT_TIMEOUT;
use crate::replication::LogNames;
use crate::replication::watch::Stop;

/// What ends a session of a reader.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("{0}")]
    Refused(String),
}

impl From<Stop> for Trouble {
    fn from(stop: Stop) -> Self {
        Self::Refused(match &stop {
            Stop::NotWatched(_) => format!("{stop}: {WATCH_OR_REMOVE}"),
            Stop::Malformed(_) | Stop::NotDescribed => stop.to_string(),
        })
    }
}

/// The remedy for a table of the publication that is not watched.
pub(crate) const WATCH_OR_REMOVE: &str =
    "watch it with `.table(..)`, or take it out: ALTER PUBLICATION .. DROP TABLE ..";

/// The error in words, with the remedy where it is known.
pub(crate) fn told(trouble: &Trouble, names: &LogNames) -> String {
    let error = match trouble {
        Trouble::Refused(what) => return what.clone(),
        Trouble::Database(sqlx::Error::PoolTimedOut) => {
            return format!("no connection to the database within {CONNECT_TIMEOUT:?}");
        }
        Trouble::Database(error) => error,
    };
    let code = error.as_database_error().and_then(|error| error.code().map(Cow::into_owned));
    let remedy = remedy(code.as_deref().unwrap_or_default(), &error.to_string(), names);
    match remedy {
        Some(remedy) => format!("{error}: {remedy}"),
        None => error.to_string(),
    }
}

fn remedy(code: &str, text: &str, LogNames { slot, publication }: &LogNames) -> Option<String> {
    match code {
        "42501" => Some(
            "the reader's user needs the attribute REPLICATION: ALTER ROLE .. REPLICATION (on managed servers a role with \
             that right)"
                .to_owned(),
        ),
        // The publication was there when the reader looked.
        "42704" if text.contains("publication") => Some(format!(
            "the slot is older than the publication. Remove the slot, SELECT pg_drop_replication_slot('{slot}'), create it \
             again while `{publication}` exists, and clear the namespaces"
        )),
        "53400" => Some("raise `max_replication_slots`, or remove a slot that nobody uses".to_owned()),
        "55006" => Some("another session uses the slot; it is tried again".to_owned()),
        _ => None,
    }
}
