//! The settings of triggers.

use std::fmt;
use std::marker::PhantomData;

use async_cache_core::{MAX_NAMESPACE_BYTES, Tags};

use crate::change::{self, InNamespace};
use crate::database::OutboxDatabase;
use crate::error::Error;
use crate::outbox::Outbox;
use crate::table::{MAX_IDENTIFIER_BYTES, MAX_NAME_BYTES, Table, is_plain};
use crate::trigger::{Plan, TagColumn, Trigger};

/// The most columns of a key: a cache has no longer tuples as keys.
const MAX_KEY_COLUMNS: usize = 8;
/// The most tags of one table: an entry has no more.
const MAX_TAG_COLUMNS: usize = 32;

/// Builds a [`Trigger`]; made by [`Outbox::trigger`](crate::Outbox::trigger).
#[must_use]
pub struct TriggerBuilder<DB> {
    outbox: Outbox<DB>,
    table: String,
    namespace: Option<String>,
    /// Whether the namespace is that of a cache without an L2.
    is_alone: bool,
    name: Option<String>,
    key: Vec<String>,
    tags: Vec<TagColumn>,
}

impl<DB: OutboxDatabase> TriggerBuilder<DB> {
    pub(crate) fn new(outbox: Outbox<DB>, table: &str) -> Self {
        let table = table.to_owned();
        Self {
            outbox,
            table,
            namespace: None,
            is_alone: false,
            name: None,
            key: Vec::new(),
            tags: Vec::new(),
        }
    }

    /// The cache, or its namespace. It is required.
    pub fn namespace(mut self, cache: impl InNamespace) -> Self {
        self.namespace = Some(cache.namespace().to_owned());
        self.is_alone = cache.is_alone();
        self
    }

    /// The column with the cache's key. Of a key that is a tuple, call it once for each part, in the order of the parts. For a
    /// cache whose entries are reached by tags alone, leave it out.
    ///
    /// Columns of integers and texts can be keys; on PostgreSQL `uuid`, `boolean`, enums and `numeric` without decimals, too.
    /// The key of the cache must be spelled as the column spells it, also if the database finds `Ada` by `ada`.
    pub fn key_column(mut self, column: impl Into<String>) -> Self {
        self.key.push(column.into());
        self
    }

    /// Invalidates a tag, too: `prefix` and the value of the column. It may be called for several tags.
    pub fn tag(mut self, prefix: impl Into<String>, column: impl Into<String>) -> Self {
        self.tags.push(TagColumn { prefix: prefix.into(), column: column.into() });
        self
    }

    /// The name of the triggers, to which they add `_insert` and the like. By default `async_cache_<table>`, followed by `_`
    /// and eight hexadecimal digits if the namespace has another name than the table.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the namespace is missing or is that of a cache without an L2, if there is neither a key nor a tag, and for names that are outside their
    /// limits or contain other characters than ASCII letters, digits and `_`.
    pub fn build(self) -> Result<Trigger<DB>, Error> {
        let table = Table::of_user(&self.table, "Write the trigger by hand")?;
        let wrong = |what: String| Err(Error::Config(format!("the triggers of the table `{table}`: {what}")));
        let Some(namespace) = self.namespace else {
            return wrong("the namespace is missing: set it with `.namespace(&cache)`".to_owned());
        };
        if self.is_alone {
            return Err(change::alone(&namespace));
        }
        if !(1..=MAX_NAMESPACE_BYTES).contains(&namespace.len()) {
            let bytes = namespace.len();
            return wrong(format!("a namespace has 1 to {MAX_NAMESPACE_BYTES} bytes, this one has {bytes}"));
        }
        if self.key.is_empty() && self.tags.is_empty() {
            return wrong("they invalidate nothing: add `.key_column(..)` or `.tag(.., ..)`".to_owned());
        }
        if self.key.len() > MAX_KEY_COLUMNS || self.tags.len() > MAX_TAG_COLUMNS {
            return wrong(format!(
                "at most {MAX_KEY_COLUMNS} key columns and {MAX_TAG_COLUMNS} tags are possible"
            ));
        }
        for prefix in self.tags.iter().map(|tag| tag.prefix.as_str()).filter(|prefix| !prefix.is_empty()) {
            Tags::new([prefix])?;
        }
        for column in self.key.iter().chain(self.tags.iter().map(|tag| &tag.column)) {
            if column.len() > MAX_IDENTIFIER_BYTES || !is_plain(column) {
                return wrong(format!(
                    "`{}` is a column that cannot be used: a name has 1 to {MAX_IDENTIFIER_BYTES} ASCII letters, digits and \
                     `_`, and does not begin with a digit. Write the trigger by hand",
                    column.escape_debug()
                ));
            }
        }
        let name = self.name.unwrap_or_else(|| default_name(table.name(), &self.table, &namespace));
        if name.len() > MAX_NAME_BYTES || !is_plain(&name) {
            return wrong(format!(
                "`{}` cannot name them: choose 1 to {MAX_NAME_BYTES} ASCII letters, digits and `_`, not beginning with a \
                 digit, with `.name(..)`",
                name.escape_debug()
            ));
        }
        let Outbox { table: outbox, wake, .. } = self.outbox;
        let (key, tags) = (self.key, self.tags);
        let plan = Plan { outbox, wake, table, namespace, name, key, tags };
        DB::check_trigger(&plan).map_err(Error::Config)?;
        let statements = DB::trigger(&plan);
        Ok(Trigger { plan, statements, database: PhantomData })
    }
}

/// Names of different triggers differ, because a trigger replaces another one of its name. `path` is the table's name with
/// its schema.
fn default_name(table: &str, path: &str, namespace: &str) -> String {
    if namespace == path {
        return format!("async_cache_{table}");
    }
    // FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/
    let bytes = path.bytes().chain([0]).chain(namespace.bytes());
    let digest = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("async_cache_{table}_{digest:08x}")
}

impl<DB> fmt::Debug for TriggerBuilder<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TriggerBuilder")
            .field("table", &self.table)
            .field("namespace", &self.namespace)
            .field("key", &self.key)
            .field("tags", &self.tags)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggers_of_different_tables_or_namespaces_have_different_names() {
        let of =
            [("t", "t"), ("t", "n"), ("t", "n-1"), ("t", "n_1"), ("t_n", "1"), ("s.t", "n"), ("s.t", "t")];
        let name = |(path, namespace): (&str, &str)| {
            default_name(path.rsplit('.').next().unwrap_or(path), path, namespace)
        };
        let names: std::collections::BTreeSet<String> = of.into_iter().map(name).collect();
        assert_eq!(names.len(), of.len(), "{names:?}");
        assert_eq!(name(("users", "users")), "async_cache_users");
    }
}
