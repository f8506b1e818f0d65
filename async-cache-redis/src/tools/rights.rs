//! The rights of a user, as they turn out one by one.

use std::collections::BTreeMap;

use redis::RedisResult;

use crate::connection::channels::Channels;
use crate::connection::rights::{Lack, no_command_for};
use crate::reply::server_error_text;

/// One right that a node needs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Right {
    /// The right, as `ACL SETUSER` takes it: `+get`, `~{users:*`, `&{users:*`.
    pub name: String,
    /// Whether the user has it.
    pub state: RightState,
}

/// Whether a user has a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RightState {
    /// It has the right.
    Granted,
    /// It lacks the right, which every node needs.
    Missing,
    /// It lacks the right. Nodes do without it, at a cost.
    Forgone,
    /// This cannot be tried, because another right is missing.
    Unknown,
}

/// What nodes can do without: one reads key by key, or hears messages in RESP2.
const OPTIONAL: [&str; 2] = ["mget", "hello"];

pub(super) struct Rights {
    channels: Channels,
    commands: BTreeMap<String, RightState>,
    no_keys: bool,
    no_channels: bool,
}

impl Rights {
    pub(super) fn new(channels: Channels) -> Self {
        Self { channels, commands: BTreeMap::new(), no_keys: false, no_channels: false }
    }

    /// Notes the outcome of a command.
    pub(super) fn note<T>(&mut self, right: &str, outcome: RedisResult<T>) {
        let error = outcome.err().map(|error| match server_error_text(&error) {
            text if text.trim().is_empty() => error.to_string(),
            text => text,
        });
        self.note_text(right, error.as_deref());
    }

    /// Notes the outcome of a command, by the text of its error.
    pub(super) fn note_text(&mut self, right: &str, error: Option<&str>) {
        let lack = error.and_then(Lack::of);
        self.no_keys |= lack == Some(Lack::Key);
        self.no_channels |= lack == Some(Lack::Channel);
        let is_missing = error.is_some_and(|text| no_command_for(right, text).is_some());
        let state = match is_missing {
            // The channels of a cluster need RESP3.
            true if right == "hello" && self.channels != Channels::Plain => RightState::Missing,
            true if OPTIONAL.contains(&right) => RightState::Forgone,
            true => RightState::Missing,
            false => RightState::Granted,
        };
        let known = self.commands.entry(right.to_owned()).or_insert(state);
        if state != RightState::Granted {
            *known = state;
        }
    }

    /// Notes that a command cannot be tried.
    pub(super) fn unknown(&mut self, right: &str) {
        self.commands.entry(right.to_owned()).or_insert(RightState::Unknown);
    }

    /// All rights: first the names of the namespace, if it is known, then the commands.
    pub(super) fn list(self, namespace: Option<&str>) -> Vec<Right> {
        let mut list = Vec::new();
        if let Some(namespace) = namespace {
            for (sign, lacking) in [('~', self.no_keys), ('&', self.no_channels)] {
                let state = if lacking { RightState::Missing } else { RightState::Granted };
                list.push(Right { name: format!("{sign}{{{namespace}:*"), state });
            }
        }
        let commands = self.commands.into_iter();
        list.extend(commands.map(|(name, state)| Right { name: format!("+{name}"), state }));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lacking_name_is_not_a_lacking_command() {
        let mut rights = Rights::new(Channels::Plain);
        rights.note_text("get", Some("NOPERM No permissions to access a key"));
        rights.note_text("hset", Some("NOPERM User app has no permissions to run the 'hset' command"));
        rights.note_text("mget", Some("NOPERM User app has no permissions to run the 'mget' command"));
        rights.note_text("rename", Some("ERR no such key"));
        rights.unknown("time");
        let list: Vec<_> = rights.list(Some("users")).into_iter().map(|r| (r.name, r.state)).collect();
        let expected = [
            ("~{users:*", RightState::Missing),
            ("&{users:*", RightState::Granted),
            ("+get", RightState::Granted),
            ("+hset", RightState::Missing),
            ("+mget", RightState::Forgone),
            ("+rename", RightState::Granted),
            ("+time", RightState::Unknown),
        ];
        assert_eq!(list, expected.map(|(name, state)| (name.to_owned(), state)));
    }
}
