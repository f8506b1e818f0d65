//! The name of the outbox table.

use std::fmt;

use crate::error::Error;

/// The table of [`Outbox::new`](crate::Outbox::new).
pub const DEFAULT_TABLE: &str = "async_cache_outbox";

/// The longest name of a table or schema, in bytes. With the suffix of the lease table it stays below the limits of the
/// databases (63 bytes in PostgreSQL, 64 characters in MySQL).
pub const MAX_NAME_BYTES: usize = 48;

/// A checked name, with an optional schema. It consists of letters, digits and `_`, so it can be quoted as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    schema: Option<String>,
    name: String,
}

impl Table {
    /// Reads `table` or `schema.table`.
    pub(crate) fn new(text: &str) -> Result<Self, Error> {
        let (schema, name) = match text.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, text),
        };
        for part in schema.into_iter().chain([name]) {
            check(part, text)?;
        }
        Ok(Self { schema: schema.map(ToOwned::to_owned), name: name.to_owned() })
    }

    /// The name without the schema.
    #[cfg(feature = "postgres")]
    pub(crate) fn name(&self) -> &str {
        &self.name
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

fn check(part: &str, text: &str) -> Result<(), Error> {
    let letters = part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !letters
        || part.is_empty()
        || part.len() > MAX_NAME_BYTES
        || part.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err(Error::Config(format!(
            "`{}` cannot name an outbox table: use `table` or `schema.table`, each part of 1 to {MAX_NAME_BYTES} ASCII \
             letters, digits and `_`, not beginning with a digit",
            text.escape_debug()
        )));
    }
    Ok(())
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
