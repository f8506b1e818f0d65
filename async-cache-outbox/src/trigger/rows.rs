//! The rows that a trigger writes, as SQL.

use std::fmt::Write as _;

use async_cache_core::key::MAX_KEY_BYTES;
use async_cache_core::tags::MAX_TAG_BYTES;

use crate::trigger::Plan;

/// How a database writes what the triggers need.
pub(super) struct Syntax {
    /// The quote of names.
    pub(super) quote: char,
    /// The text of a column, from its name.
    pub(super) text: fn(&str) -> String,
    /// `\` and `:` in a text escaped by `\`, as in a tuple of the cache.
    pub(super) escaped: fn(&str) -> String,
    /// A literal of a text that has characters other than the plain ones, from its hexadecimal digits.
    pub(super) odd_text: fn(&str) -> String,
    /// One text of many.
    pub(super) joined: fn(&[String]) -> String,
    /// The bytes of a text in UTF-8.
    pub(super) bytes: fn(&str) -> String,
}

/// One of the rows that a change has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Old,
    New,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Old => "OLD",
            Self::New => "NEW",
        }
    }
}

impl Syntax {
    /// The rows of a change as `SELECT namespace, kind, data ..`.
    ///
    /// `UNION` leaves each row once. A column that is NULL makes `data` NULL, and the comparison drops the row.
    pub(super) fn select(&self, plan: &Plan, sides: &[Side]) -> String {
        let mut rows = String::new();
        for side in sides {
            for (kind, data) in self.data(plan, *side) {
                let (union, names) = match rows.is_empty() {
                    true => ("", [" AS kind", " AS data"]),
                    false => ("\n    UNION ", ["", ""]),
                };
                let _ = write!(rows, "{union}SELECT '{kind}'{}, {data}{}", names[0], names[1]);
            }
        }
        format!(
            "SELECT {}, kind, data FROM (\n    {rows}\n  ) AS changed\n  \
             WHERE (kind = 'key' AND LENGTH(data) <= {MAX_KEY_BYTES}) OR (kind = 'tag' AND LENGTH(data) BETWEEN 1 AND {MAX_TAG_BYTES})",
            self.literal(&plan.namespace)
        )
    }

    /// The kind and the data of each invalidation.
    fn data(&self, plan: &Plan, side: Side) -> Vec<(&'static str, String)> {
        let column = |name: &String| (self.text)(&format!("{}.{q}{name}{q}", side.name(), q = self.quote));
        let key = match plan.key.as_slice() {
            [] => None,
            [one] => Some(column(one)),
            many => {
                let mut parts = Vec::new();
                for (index, name) in many.iter().enumerate() {
                    if index > 0 {
                        parts.push("':'".to_owned());
                    }
                    parts.push((self.escaped)(&column(name)));
                }
                Some((self.joined)(&parts))
            }
        };
        let tags = plan.tags.iter().map(|tag| match tag.prefix.is_empty() {
            true => column(&tag.column),
            false => (self.joined)(&[self.literal(&tag.prefix), column(&tag.column)]),
        });
        let key = key.into_iter().map(|key| ("key", (self.bytes)(&key)));
        key.chain(tags.map(|tag| ("tag", (self.bytes)(&tag)))).collect()
    }

    /// A literal. Only harmless characters are written as they are: how others are read depends on settings of the session.
    pub(super) fn literal(&self, text: &str) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/ ".contains(&byte);
        if text.bytes().all(plain) {
            return format!("'{text}'");
        }
        (self.odd_text)(&text.bytes().fold(String::new(), |mut digits, byte| {
            let _ = write!(digits, "{byte:02x}");
            digits
        }))
    }

    /// Fails if the table does not have the columns.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn check(&self, plan: &Plan) -> String {
        let mut columns: Vec<String> =
            plan.columns().map(|name| format!("t.{q}{name}{q}", q = self.quote)).collect();
        columns.sort_unstable();
        columns.dedup();
        format!("SELECT {} FROM {} AS t LIMIT 0", columns.join(", "), plan.table.quoted(self.quote))
    }
}
