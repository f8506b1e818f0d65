//! A change of a row, as the user's function sees it.

use std::fmt;

use crate::error::Error;
use crate::replication::wire::{Cell, OldTuple, Relation, RowKind, RowMessage, Tuple};

/// A value of a column, as the log tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field<'a> {
    /// The value, as PostgreSQL writes it as text. A boolean is `true` or `false`.
    Value(&'a str),
    /// NULL.
    Null,
    /// A long value that this UPDATE did not change. The log does not contain it (TOAST).
    Unchanged,
    /// The log does not contain it: of a row before its change, it has the columns of the replica identity alone.
    Unknown,
    /// There is no such row: none before an INSERT, none after a DELETE.
    NoRow,
}

/// A committed change of one row.
pub struct RowChange<'a> {
    relation: &'a Relation,
    row: RowMessage<'a>,
}

/// The object id of the type `boolean`.
const BOOLEAN: u32 = 16;

impl<'a> RowChange<'a> {
    pub(crate) fn new(relation: &'a Relation, row: RowMessage<'a>) -> Self {
        Self { relation, row }
    }

    /// The schema of the table.
    #[must_use]
    pub fn schema(&self) -> &'a str {
        &self.relation.schema
    }

    /// The name of the table, without its schema.
    #[must_use]
    pub fn table(&self) -> &'a str {
        &self.relation.name
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> RowKind {
        self.row.kind
    }

    /// The names of the table's columns that are published.
    pub fn columns(&self) -> impl Iterator<Item = &'a str> {
        self.relation.columns.iter().map(|column| column.name.as_str())
    }

    /// A column of the row after the change.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the table has no such column, or does not publish it.
    pub fn after(&self, column: &str) -> Result<Field<'a>, Error> {
        let at = self.position(column)?;
        let Some(new) = &self.row.new else { return Ok(Field::NoRow) };
        Ok(match (self.field(new, at), &self.row.old) {
            // What did not change is what it was before.
            (Field::Unchanged, Some(old)) => match self.old_field(old, at) {
                Field::Unknown => Field::Unchanged,
                known => known,
            },
            (field, _) => field,
        })
    }

    /// A column of the row before the change. With `REPLICA IDENTITY FULL` the log has all columns of it, else those of the
    /// replica identity, by default the primary key.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the table has no such column, or does not publish it.
    pub fn before(&self, column: &str) -> Result<Field<'a>, Error> {
        let at = self.position(column)?;
        match (&self.row.old, self.row.kind) {
            (_, RowKind::Insert) => Ok(Field::NoRow),
            (Some(old), _) => Ok(self.old_field(old, at)),
            // An update without an old row has left the replica identity as it was.
            (None, _) if self.relation.columns[at].is_identity => self.after(column),
            (None, _) => Ok(Field::Unknown),
        }
    }

    /// The values of some columns before and after the change, each once: what a key or tag is made of. A row in which one of
    /// them is NULL is left out.
    ///
    /// ```
    /// # #[cfg(feature = "postgres")] {
    /// use async_cache_outbox::{Error, Invalidations, RowChange};
    ///
    /// fn orders(row: &RowChange<'_>, out: &mut Invalidations<'_>) -> Result<(), Error> {
    ///     for [shop, number] in row.values(["shop", "number"])? {
    ///         out.key(&(shop, number));
    ///     }
    ///     for [customer] in row.values(["customer"])? {
    ///         out.tag(format!("customer:{customer}"));
    ///     }
    ///     Ok(())
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the table has no such column, and if the log does not contain the value; the text names the
    /// remedy. If the function returns the error, the reader invalidates the namespace.
    pub fn values<const N: usize>(&self, columns: [&str; N]) -> Result<Vec<[&'a str; N]>, Error> {
        let mut rows: Vec<[&'a str; N]> = Vec::with_capacity(2);
        for side in [Self::before, Self::after] {
            let mut row = [""; N];
            let mut is_whole = true;
            for (place, column) in row.iter_mut().zip(columns) {
                match side(self, column)? {
                    Field::Value(value) => *place = value,
                    Field::Null | Field::NoRow => is_whole = false,
                    Field::Unchanged | Field::Unknown => return Err(self.not_sent(column)),
                }
            }
            if is_whole && !rows.contains(&row) {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    fn position(&self, column: &str) -> Result<usize, Error> {
        self.relation.columns.iter().position(|other| other.name == column).ok_or_else(|| {
            Error::Config(format!(
                "the table {} has no column `{}`, or its publication leaves the column out",
                quoted(self.relation),
                column.escape_debug()
            ))
        })
    }

    fn field(&self, tuple: &Tuple<'a>, at: usize) -> Field<'a> {
        match tuple.0.get(at) {
            Some(Cell::Text("t")) if self.relation.columns[at].type_id == BOOLEAN => Field::Value("true"),
            Some(Cell::Text("f")) if self.relation.columns[at].type_id == BOOLEAN => Field::Value("false"),
            Some(Cell::Text(text)) => Field::Value(text),
            Some(Cell::Null) => Field::Null,
            Some(Cell::Unchanged) => Field::Unchanged,
            None => Field::Unknown,
        }
    }

    fn old_field(&self, old: &OldTuple<'a>, at: usize) -> Field<'a> {
        match old {
            OldTuple::Whole(tuple) => self.field(tuple, at),
            OldTuple::Identity(tuple) if self.relation.columns[at].is_identity => self.field(tuple, at),
            OldTuple::Identity(_) => Field::Unknown,
        }
    }

    fn not_sent(&self, column: &str) -> Error {
        let (table, column) = (quoted(self.relation), column.escape_debug());
        Error::Config(format!(
            "the log does not contain the column `{column}` of each changed row of the table {table}: \
             ALTER TABLE {table} REPLICA IDENTITY FULL"
        ))
    }
}

/// The name of a table as SQL.
pub(crate) fn quoted(relation: &Relation) -> String {
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    format!("{}.{}", quote(&relation.schema), quote(&relation.name))
}

/// Without values: they may be secret.
impl fmt::Debug for RowChange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowChange")
            .field("table", &format_args!("{}.{}", self.schema(), self.table()))
            .field("kind", &self.row.kind)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::wire::Column;

    /// `users (id, team, about, ok)`, with `id` as its replica identity.
    fn users() -> Relation {
        let column =
            |name: &str, type_id, is_identity| Column { name: name.to_owned(), type_id, is_identity };
        let columns = vec![
            column("id", 20, true),
            column("team", 25, false),
            column("about", 25, false),
            column("ok", BOOLEAN, false),
        ];
        Relation { id: 1, schema: "public".to_owned(), name: "users".to_owned(), columns }
    }

    fn row<'a>(cells: [Cell<'a>; 4]) -> Tuple<'a> {
        Tuple(cells.to_vec())
    }

    fn insert<'a>(relation: &'a Relation, new: Tuple<'a>) -> RowChange<'a> {
        RowChange::new(relation, RowMessage { relation: 1, kind: RowKind::Insert, old: None, new: Some(new) })
    }

    fn update<'a>(relation: &'a Relation, old: Option<OldTuple<'a>>, new: Tuple<'a>) -> RowChange<'a> {
        RowChange::new(relation, RowMessage { relation: 1, kind: RowKind::Update, old, new: Some(new) })
    }

    fn delete<'a>(relation: &'a Relation, old: OldTuple<'a>) -> RowChange<'a> {
        RowChange::new(relation, RowMessage { relation: 1, kind: RowKind::Delete, old: Some(old), new: None })
    }

    use Cell::{Null, Text, Unchanged};

    #[test]
    fn an_update_without_an_old_row_knows_the_old_identity_alone() {
        let users = users();
        let change = update(&users, None, row([Text("1"), Text("a"), Unchanged, Text("t")]));
        assert_eq!(change.before("id").unwrap(), Field::Value("1"));
        assert_eq!(change.before("team").unwrap(), Field::Unknown);
        assert_eq!(change.after("team").unwrap(), Field::Value("a"));
        assert_eq!(change.after("about").unwrap(), Field::Unchanged, "it is not NULL");
        assert_eq!(change.after("ok").unwrap(), Field::Value("true"), "as a cache encodes it");
        assert_eq!(change.values(["id"]).unwrap(), [["1"]]);
        for column in ["team", "about"] {
            let error = change.values(["id", column]).unwrap_err().to_string();
            assert!(error.contains("ALTER TABLE \"public\".\"users\" REPLICA IDENTITY FULL"), "{error}");
        }
        assert!(change.values(["nam"]).unwrap_err().to_string().contains("no column `nam`"));
    }

    #[test]
    fn other_columns_of_an_old_identity_are_unknown_although_they_are_sent_as_null() {
        let users = users();
        let old = || OldTuple::Identity(row([Text("1"), Null, Null, Null]));
        let update = update(&users, Some(old()), row([Text("2"), Text("a"), Null, Null]));
        let delete = delete(&users, old());
        for change in [&update, &delete] {
            assert_eq!(change.before("id").unwrap(), Field::Value("1"));
            assert_eq!(change.before("team").unwrap(), Field::Unknown);
            assert!(change.values(["team"]).is_err());
        }
        assert_eq!(update.values(["id"]).unwrap(), [["1"], ["2"]]);
        assert_eq!(delete.values(["id"]).unwrap(), [["1"]]);
        assert_eq!(delete.after("id").unwrap(), Field::NoRow);
    }

    #[test]
    fn a_whole_old_row_tells_all_columns_also_those_that_did_not_change() {
        let users = users();
        let old = OldTuple::Whole(row([Text("1"), Text("a"), Text("long"), Null]));
        let change = update(&users, Some(old), row([Text("1"), Text("b"), Unchanged, Text("f")]));
        assert_eq!(change.after("about").unwrap(), Field::Value("long"));
        assert_eq!(change.values(["team"]).unwrap(), [["a"], ["b"]]);
        assert_eq!(change.values(["id", "about"]).unwrap(), [["1", "long"]], "each once");
        assert_eq!(change.values(["ok"]).unwrap(), [["false"]], "the old row has NULL");
    }

    #[test]
    fn an_insert_has_no_old_row() {
        let users = users();
        let change = insert(&users, row([Text("1"), Null, Null, Text("f")]));
        assert_eq!((change.kind(), change.before("id").unwrap()), (RowKind::Insert, Field::NoRow));
        assert_eq!(change.values(["id"]).unwrap(), [["1"]]);
        assert!(change.values(["id", "team"]).unwrap().is_empty(), "no entry has a key with NULL");
        assert_eq!(change.columns().collect::<Vec<_>>(), ["id", "team", "about", "ok"]);
        assert!(!format!("{change:?}").contains('1'), "no values");
    }
}
