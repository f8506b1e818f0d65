//! The tables that a reader watches, and what their changes invalidate.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use async_cache_core::key::CacheKey;

use crate::change::Change;
use crate::database::Row;
use crate::replication::check::Tables;
use crate::replication::row::{RowChange, quoted};
use crate::replication::trouble::unwatched;
use crate::replication::wire::{Malformed, Message, Relation, RowMessage};
use crate::table::Table;

/// An error of the user's function.
pub(crate) type Refusal = Box<dyn std::error::Error + Send + Sync>;
type Map = dyn Fn(&RowChange<'_>, &mut Invalidations<'_>) -> Result<(), Refusal> + Send + Sync;

/// What a changed row invalidates, in one cache.
///
/// A key or tag over the limits of a cache (1,024 bytes, 128 for a tag) is left out: no entry can have it.
pub struct Invalidations<'a> {
    namespace: &'a str,
    rows: &'a mut Vec<Row>,
}

impl Invalidations<'_> {
    /// Invalidates a key. Its type must be that of the cache, or have the same text: `"42"` for a number.
    pub fn key<Q: CacheKey + ?Sized>(&mut self, key: &Q) {
        self.add(Change::key(self.namespace, key));
    }

    /// Invalidates all entries with a tag.
    pub fn tag(&mut self, tag: impl AsRef<str>) {
        self.add(Change::tag(self.namespace, tag));
    }

    /// Invalidates all entries of the cache.
    pub fn all(&mut self) {
        self.add(Change::all(self.namespace));
    }

    /// The namespace of the cache.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace
    }

    fn add(&mut self, change: Result<Change, crate::Error>) {
        if let Ok(Change { namespace, kind, data }) = change {
            self.rows.push(Row { id: 0, namespace, kind: kind.text().to_owned(), data });
        }
    }
}

impl fmt::Debug for Invalidations<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidations").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// A table and a cache that depends on it.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) table: Table,
    pub(crate) namespace: String,
    pub(crate) map: Arc<Map>,
}

impl Watch {
    /// Adds what a change invalidates. If the function refuses or panics, that is the whole namespace, and the reason is returned:
    /// nothing that it may have meant stays.
    fn add(&self, change: &RowChange<'_>, rows: &mut Vec<Row>) -> Option<String> {
        let mut out = Invalidations { namespace: &self.namespace, rows };
        let done = catch_unwind(AssertUnwindSafe(|| (self.map)(change, &mut out)));
        let why = match done {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it panicked".to_owned(),
        };
        out.all();
        let (table, namespace) = (&self.table, &self.namespace);
        Some(format!("the function for the table `{table}` and the namespace `{namespace}` failed: {why}"))
    }
}

/// A table by its schema and its name.
pub(crate) type TableName = (String, String);

/// A table as the log describes it, and the watches on it.
struct Described {
    relation: Relation,
    watches: BTreeSet<usize>,
}

/// What to do with a change of a table that is not watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unwatched {
    /// The publication may have the table. A newer instance of the service may need the change.
    Stop,
    /// The publication no longer has the table. Nobody can tell whether something depends on it: all namespaces are invalidated.
    Invalidate,
}

/// The changes of a part of the log, and what they invalidate.
pub(crate) struct Changes<'a> {
    watches: &'a [Watch],
    tables: &'a Tables,
    unwatched: Unwatched,
    relations: HashMap<u32, Described>,
    /// What is to be invalidated.
    pub(crate) rows: Vec<Row>,
    /// All namespaces are among the rows.
    has_all: bool,
    /// Changes of rows.
    pub(crate) count: u64,
    /// Changes whose function failed, and the last reason.
    pub(crate) refused: u64,
    pub(crate) reason: Option<String>,
}

/// Why a message stops the reader.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    #[error("the log has a message that this version cannot read: {0}")]
    Malformed(#[from] Malformed),
    #[error("the log has a change of a table that it has not described")]
    NotDescribed,
    #[error("the publication has the table {table}, which this reader does not watch")]
    NotWatched { table: String, remedy: &'static str },
}

impl<'a> Changes<'a> {
    pub(crate) fn new(watches: &'a [Watch], tables: &'a Tables, unwatched: Unwatched) -> Self {
        let (relations, rows) = (HashMap::new(), Vec::new());
        Self {
            watches,
            tables,
            unwatched,
            relations,
            rows,
            has_all: false,
            count: 0,
            refused: 0,
            reason: None,
        }
    }

    /// All that was to be invalidated has landed.
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.has_all = false;
    }

    /// Takes a message.
    pub(crate) fn add(&mut self, message: Message<'_>) -> Result<(), Stop> {
        match message {
            Message::Relation(relation) => {
                self.describe(relation);
                Ok(())
            }
            Message::Row(row) => self.change(row),
            Message::Truncate { relations } => relations.into_iter().try_for_each(|id| self.truncate(id)),
            Message::Begin { .. } | Message::Commit { .. } | Message::Other => Ok(()),
        }
    }

    /// Of a table with partitions the log describes these, too, and then has changes of the table alone.
    fn describe(&mut self, relation: Relation) {
        let watches = self.tables.watches(&relation);
        self.relations.insert(relation.id, Described { relation, watches });
    }

    fn change(&mut self, row: RowMessage<'_>) -> Result<(), Stop> {
        let table = self.relations.get(&row.relation).ok_or(Stop::NotDescribed)?;
        if table.watches.is_empty() {
            return self.pass_by(row.relation);
        }
        let change = RowChange::new(&table.relation, row);
        self.count += 1;
        for watch in table.watches.iter().map(|index| &self.watches[*index]) {
            if let Some(reason) = watch.add(&change, &mut self.rows) {
                self.refused += 1;
                self.reason = Some(reason);
            }
        }
        Ok(())
    }

    /// A change of a table that is not watched.
    fn pass_by(&mut self, relation: u32) -> Result<(), Stop> {
        let table = self.relations.get(&relation).ok_or(Stop::NotDescribed)?;
        let name = quoted(&table.relation);
        if self.unwatched == Unwatched::Stop {
            let remedy = unwatched(&table.relation.schema, &table.relation.name);
            return Err(Stop::NotWatched { table: name, remedy });
        }
        self.refused += 1;
        self.reason = Some(format!(
            "the log has a change of the table {name}, which is not watched, and which the publication no longer has: the \
             namespaces were invalidated"
        ));
        // Once is enough: there may be millions of such changes.
        if !std::mem::replace(&mut self.has_all, true) {
            for watch in self.watches {
                Invalidations { namespace: &watch.namespace, rows: &mut self.rows }.all();
            }
        }
        Ok(())
    }

    fn truncate(&mut self, relation: u32) -> Result<(), Stop> {
        let table = self.relations.get(&relation).ok_or(Stop::NotDescribed)?;
        if table.watches.is_empty() {
            return self.pass_by(relation);
        }
        self.count += 1;
        for watch in table.watches.iter().map(|index| &self.watches[*index]) {
            Invalidations { namespace: &watch.namespace, rows: &mut self.rows }.all();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::wire::{Cell, Column, RowKind, Tuple};

    fn watch(map: Arc<Map>) -> [Watch; 1] {
        [Watch { table: Table::of_user("users", "").unwrap(), namespace: "users".to_owned(), map }]
    }

    /// The table has the id 7 now.
    fn tables() -> Tables {
        let mut tables = Tables::default();
        tables.add(("public".to_owned(), "users".to_owned()), [7], 0);
        tables
    }

    fn relation(name: &str) -> Message<'static> {
        let columns = vec![Column { name: "id".to_owned(), type_id: 20, is_identity: true }];
        Message::Relation(Relation { id: 1, schema: "public".to_owned(), name: name.to_owned(), columns })
    }

    fn insert(id: &str) -> Message<'_> {
        let new = Some(Tuple(vec![Cell::Text(id)]));
        Message::Row(RowMessage { relation: 1, kind: RowKind::Insert, old: None, new })
    }

    fn written(changes: &Changes<'_>) -> Vec<(String, Vec<u8>)> {
        changes.rows.iter().map(|row| (row.kind.clone(), row.data.clone())).collect()
    }

    #[test]
    fn a_function_that_refuses_or_panics_invalidates_the_namespace() {
        let watches = watch(Arc::new(|row, out| {
            for [id] in row.values(["id"])? {
                assert_ne!(id, "13", "unlucky");
                out.key(&id.parse::<i64>()?);
                out.tag("");
                out.key("x".repeat(2_000).as_str());
            }
            Ok(())
        }));
        let tables = tables();
        let mut changes = Changes::new(&watches, &tables, Unwatched::Stop);
        changes.add(relation("users")).unwrap();
        changes.add(insert("7")).unwrap();
        assert_eq!(
            written(&changes),
            [("key".to_owned(), b"7".to_vec())],
            "what no entry can have is left out"
        );
        for id in ["no number", "13"] {
            changes.rows.clear();
            changes.add(insert(id)).unwrap();
            assert_eq!(written(&changes), [("all".to_owned(), Vec::new())], "{id}");
        }
        assert_eq!((changes.count, changes.refused), (3, 2));
        assert!(
            changes
                .reason
                .unwrap()
                .contains("the table `users` and the namespace `users` failed: it panicked")
        );
    }

    #[test]
    fn a_truncate_invalidates_the_namespace_without_the_function() {
        let watches = watch(Arc::new(|_, _| unreachable!("it is not asked")));
        let tables = tables();
        let mut changes = Changes::new(&watches, &tables, Unwatched::Stop);
        changes.add(relation("users")).unwrap();
        changes.add(Message::Truncate { relations: vec![1] }).unwrap();
        assert_eq!(written(&changes), [("all".to_owned(), Vec::new())]);
    }

    #[test]
    fn a_change_that_nobody_would_see_stops_the_reader() {
        let watches = watch(Arc::new(|_, _| Ok(())));
        let tables = tables();
        let mut changes = Changes::new(&watches, &tables, Unwatched::Stop);
        assert_eq!(changes.add(insert("1")), Err(Stop::NotDescribed));
        changes.add(relation("teams")).unwrap();
        let stop = changes.add(insert("1")).unwrap_err();
        let table = "\"public\".\"teams\"".to_owned();
        assert_eq!(stop, Stop::NotWatched { table, remedy: unwatched("public", "teams") });
        let mut changes = Changes::new(&watches, &tables, Unwatched::Invalidate);
        changes.add(relation("teams")).unwrap();
        for refused in [2, 4] {
            changes.add(insert("1")).unwrap();
            changes.add(insert("2")).unwrap();
            assert_eq!(written(&changes), [("all".to_owned(), Vec::new())], "once until it has landed");
            assert_eq!(changes.refused, refused);
            changes.clear();
        }
    }
}
