//! Triggers that write the rows of the outbox, for writers that do not call it.

pub(crate) mod builder;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod rows;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use std::fmt;
use std::marker::PhantomData;

use sqlx::Pool;

use crate::database::OutboxDatabase;
use crate::error::Error;
use crate::outbox::Wake;
use crate::table::Table;

/// Triggers on a table that write to an outbox; made by [`Outbox::trigger`](crate::Outbox::trigger).
///
/// An INSERT, UPDATE or DELETE of a row writes the invalidation of the row's key and of its tags, in the transaction of the
/// change. An UPDATE writes those of the old and of the new row, each once. On PostgreSQL a TRUNCATE writes the invalidation
/// of the namespace. A key or tag with a column that is NULL is left out, and so is one that is too long to be cached: no
/// entry can have it.
#[derive(Clone)]
pub struct Trigger<DB> {
    plan: Plan,
    statements: Statements,
    database: PhantomData<fn() -> DB>,
}

/// What the triggers do.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) outbox: Table,
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only PostgreSQL can wake a relay"))]
    pub(crate) wake: Wake,
    pub(crate) table: Table,
    pub(crate) namespace: String,
    /// The name of the triggers, before a suffix for the kind of the change.
    pub(crate) name: String,
    pub(crate) key: Vec<String>,
    pub(crate) tags: Vec<TagColumn>,
}

impl Plan {
    /// The columns of the key and the tags.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.key.iter().chain(self.tags.iter().map(|tag| &tag.column)).map(String::as_str)
    }
}

/// A tag that is a text and the value of a column.
#[derive(Debug, Clone)]
pub(crate) struct TagColumn {
    pub(crate) prefix: String,
    pub(crate) column: String,
}

/// The statements of one database.
#[derive(Debug, Clone)]
pub struct Statements {
    /// Fails with the name of a column that the table does not have. Databases that look when they create a trigger need none.
    pub(crate) check: Option<String>,
    pub(crate) create: Vec<String>,
    pub(crate) remove: Vec<String>,
    /// Where the removal and the creation are no transaction: the invalidation of all that may have changed in between.
    pub(crate) after_replacement: Option<String>,
}

impl Statements {
    fn replace(&self) -> impl Iterator<Item = &String> {
        self.remove.iter().chain(&self.create).chain(&self.after_replacement)
    }
}

/// A column of the user's table.
#[derive(Debug)]
pub struct Column {
    pub(crate) name: String,
    /// The type as the database names it.
    pub(crate) type_name: String,
    pub(crate) content: Content,
}

/// Whether the text of a column's values is how a cache encodes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// It is.
    Text,
    /// It is not, or it depends on settings of a session.
    Other,
}

impl<DB: OutboxDatabase> Trigger<DB> {
    /// The statements that install the triggers, for a service with migrations of its own. The outbox table must exist. They
    /// fail if the table or a column is missing, or if the triggers exist on MySQL and SQLite; on PostgreSQL they replace
    /// them. They do not look at the types of the columns, which [`install`](Self::install) does.
    #[must_use]
    pub fn create_sql(&self) -> String {
        let all: Vec<String> = self.statements.check.iter().chain(&self.statements.create).cloned().collect();
        all.join(";\n\n") + ";\n"
    }

    /// The statements that remove the triggers. They change nothing if the triggers do not exist.
    #[must_use]
    pub fn remove_sql(&self) -> String {
        self.statements.remove.join(";\n") + ";\n"
    }

    /// Installs the triggers, or replaces those of the same name. This locks the table for a moment, so call it when the
    /// schema changes rather than at each start. On MySQL each statement is a transaction of its own: changes between the
    /// removal of an old trigger and the creation of the new one are not noticed, so the call ends with the invalidation of
    /// the whole namespace there.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the table does not exist, or if a column is missing or has a type whose text is not how a cache
    /// encodes it. [`Error::Database`] if the database cannot be reached or refuses.
    pub async fn install(&self, pool: &Pool<DB>) -> Result<(), Error> {
        let failed = |source| Error::database(self.doing("installing"), source);
        let mut tx = {
            let mut connection = pool.acquire().await.map_err(failed)?;
            let columns = DB::columns(&mut connection, &self.plan.table).await.map_err(failed)?;
            self.check(&columns)?;
            drop(connection);
            pool.begin().await.map_err(failed)?
        };
        for statement in self.statements.replace() {
            DB::execute(&mut tx, statement.clone()).await.map_err(failed)?;
        }
        tx.commit().await.map_err(failed)
    }

    /// Removes the triggers. It changes nothing if they do not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Database`] if the database cannot be reached or refuses.
    pub async fn remove(&self, pool: &Pool<DB>) -> Result<(), Error> {
        let failed = |source| Error::database(self.doing("removing"), source);
        let mut tx = pool.begin().await.map_err(failed)?;
        for statement in &self.statements.remove {
            DB::execute(&mut tx, statement.clone()).await.map_err(failed)?;
        }
        tx.commit().await.map_err(failed)
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} the triggers `{}` of the table `{}`", self.plan.name, self.plan.table)
    }

    fn check(&self, columns: &[Column]) -> Result<(), Error> {
        let table = &self.plan.table;
        let wrong = |what: String| Err(Error::Config(format!("{}: {what}", self.doing("installing"))));
        if columns.is_empty() {
            return wrong(format!("there is no table `{table}` that this user can see"));
        }
        for name in self.plan.columns() {
            match columns.iter().find(|column| column.name == name) {
                None => return wrong(format!("the table has no column `{name}`")),
                Some(Column { content: Content::Other, type_name, .. }) => {
                    return wrong(format!(
                        "the column `{name}` has the type `{type_name}`, whose text is not how a cache encodes a key: write \
                         the trigger by hand"
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl<DB> fmt::Debug for Trigger<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trigger")
            .field("name", &self.plan.name)
            .field("table", &self.plan.table.to_string())
            .finish_non_exhaustive()
    }
}
