//! The name of the outbox table.

use std::fmt;

use crate::error::Error;

/// The table of [`Outbox::new`](crate::Outbox::new).
pub const DEFAULT_TABLE: &str = "async_cache_outbox";

/// The longest name of a table or schema, in bytes. With the suffix of the lease table it stays below the limits of the
/// databases (63 bytes in PostgreSQL, 64 characters in MySQL).
pub const MAX_NAME_BYTES: usize = 48;

/// The longest name of anything in PostgreSQL, in bytes. MySQL allows one character more.
pub(crate) const MAX_IDENTIFIER_BYTES: usize = 63;

/// A checked name, with an optional schema. It consists of letters, digits and `_`, so it can be quoted as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    schema: Option<String>,
    name: String,
}

impl Table {
    /// Reads `table` or `schema.table` of an outbox.
    pub(crate) fn new(text: &str) -> Result<Self, Error> {
        Self::read(text, MAX_NAME_BYTES).ok_or_else(|| {
            Error::Config(format!(
                "`{}` cannot name an outbox table: use `table` or `schema.table`, each part of 1 to {MAX_NAME_BYTES} ASCII \
                 letters, digits and `_`, not beginning with a digit",
                text.escape_debug()
            ))
        })
    }

    /// Reads `table` or `schema.table` of any table of the user. `instead` says what to do with a table that has another name.
    pub(crate) fn of_user(text: &str, instead: &str) -> Result<Self, Error> {
        Self::read(text, MAX_IDENTIFIER_BYTES).ok_or_else(|| {
            Error::Config(format!(
                "`{}` is a table that cannot be watched: its name has the form `table` or `schema.table`, each part of 1 to \
                 {MAX_IDENTIFIER_BYTES} ASCII letters, digits and `_`, not beginning with a digit. {instead}",
                text.escape_debug()
            ))
        })
    }

    fn read(text: &str, most: usize) -> Option<Self> {
        let (schema, name) = match text.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, text),
        };
        let parts = schema.into_iter().chain([name]);
        let fits = parts.into_iter().all(|part| part.len() <= most && is_plain(part));
        fits.then(|| Self { schema: schema.map(ToOwned::to_owned), name: name.to_owned() })
    }

    /// The name without the schema.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The schema, if the name has one.
    pub(crate) fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The name as SQL, in the database's quotes.
    pub(crate) fn quoted(&self, quote: char) -> String {
        self.with_suffix(quote, "")
    }

    /// A name that begins with the table's, in the same schema.
    pub(crate) fn with_suffix(&self, quote: char, suffix: &str) -> String {
        let name = format!("{quote}{}{suffix}{quote}", self.name);
        match &self.schema {
            Some(schema) => format!("{quote}{schema}{quote}.{name}"),
            None => name,
        }
    }
}

/// Whether a name can be quoted as it is: ASCII letters, digits and `_`, not beginning with a digit.
pub(crate) fn is_plain(name: &str) -> bool {
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    letters && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

impl Default for Table {
    fn default() -> Self {
        Self { schema: None, name: DEFAULT_TABLE.to_owned() }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_bounded() {
        let table = Table::new("shop.cache_outbox").unwrap();
        assert_eq!(table.quoted('"'), "\"shop\".\"cache_outbox\"");
        assert_eq!(table.with_suffix('`', "_lease"), "`shop`.`cache_outbox_lease`");
        assert!(Table::new(&"t".repeat(MAX_NAME_BYTES)).is_ok());
        for wrong in
            ["", ".", "a.", "a.b.c", "1a", "a b", "a\"b", "a`b", "ä", &"t".repeat(MAX_NAME_BYTES + 1)]
        {
            let error = Table::new(wrong).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("1 to 48 ASCII letters"), "{wrong:?}: {error}");
        }
    }
}
