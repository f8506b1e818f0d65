//! What the outbox asks of a database. Each database has a file of its own.

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "mysql", feature = "sqlite"))]
mod statements;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Database, Pool};

use crate::change::Change;
use crate::outbox::Wake;
use crate::table::Table;
use crate::trigger::{Column, Plan, Statements};

/// A database that can hold an outbox: `sqlx::Postgres`, `sqlx::MySql` or `sqlx::Sqlite`, each with its feature.
pub trait OutboxDatabase: Dialect {}

impl<DB: Dialect> OutboxDatabase for DB {}

/// The statements of one database. It is not exported, so no other crate implements it.
#[async_trait]
pub trait Dialect: Database {
    /// The statements that create the table.
    #[doc(hidden)]
    fn create(table: &Table) -> Vec<String>;

    /// Creates the table. Instances may do so at the same time.
    #[doc(hidden)]
    async fn migrate(connection: &mut Self::Connection, table: &Table) -> sqlx::Result<()>;

    /// Writes rows. `changes` is not empty.
    #[doc(hidden)]
    async fn insert(
        connection: &mut Self::Connection,
        table: &Table,
        wake: Wake,
        changes: Vec<Change>,
    ) -> sqlx::Result<()>;

    /// The statements that install and remove triggers.
    #[doc(hidden)]
    fn trigger(plan: &Plan) -> Statements;

    /// Refuses a trigger that this database cannot have.
    #[doc(hidden)]
    fn check_trigger(plan: &Plan) -> Result<(), String> {
        let _ = plan;
        Ok(())
    }

    /// The columns of a table of the user, none if there is no such table.
    #[doc(hidden)]
    async fn columns(connection: &mut Self::Connection, table: &Table) -> sqlx::Result<Vec<Column>>;

    /// Runs statements.
    #[doc(hidden)]
    async fn execute(connection: &mut Self::Connection, sql: String) -> sqlx::Result<()>;

    /// The relay's access to the table.
    #[doc(hidden)]
    fn store(pool: &Pool<Self>, table: &Table) -> Arc<dyn Store>;
}

/// Opens sessions of a relay.
#[async_trait]
pub trait Store: Send + Sync {
    /// The table, as text for errors.
    fn table(&self) -> String;

    /// How long a relay that holds the lead may be silent, if the user does not set it.
    fn session_timeout(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// Connects. The caller sets the deadline. After a silence of `session_timeout` the database ends the session.
    async fn connect(&self, session_timeout: Duration) -> sqlx::Result<Box<dyn Session>>;
}

/// One connection of a relay. After an error it is dropped, and with it the lead.
#[async_trait]
pub trait Session: Send {
    /// Tries to become, or to stay, the one relay at work.
    async fn lead(&mut self) -> sqlx::Result<Lead>;

    /// Gives the lead back.
    async fn release(&mut self) -> sqlx::Result<()>;

    /// Rows of these namespaces with ids above `page.after`, in the order of their ids.
    async fn page(&mut self, page: &Page<'_>) -> sqlx::Result<Vec<Row>>;

    /// Deletes rows whose invalidations have landed.
    async fn delete(&mut self, ids: &[i64]) -> sqlx::Result<()>;

    /// Counts an attempt at rows that cannot be read, and notes the reason.
    async fn refuse(&mut self, ids: &[i64], reason: &str) -> sqlx::Result<()>;

    /// Makes the rows that are out of attempts due again.
    async fn revive(&mut self) -> sqlx::Result<()>;

    /// Looks at the oldest rows, [`BACKLOG_COUNT`](crate::BACKLOG_COUNT) at most.
    async fn figures(&mut self, known: &[String]) -> sqlx::Result<Figures>;

    /// Up to ten namespaces of rows that this relay does not know.
    async fn unknown_namespaces(&mut self, known: &[String]) -> sqlx::Result<Vec<String>>;

    /// Waits for a notification of the database, for at most this time.
    async fn wait(&mut self, limit: Duration) -> sqlx::Result<()> {
        tokio::time::sleep(limit).await;
        Ok(())
    }
}

/// Whether this relay is the one at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lead {
    /// This one is.
    Held,
    /// Another one is.
    Elsewhere,
}

/// Which rows to read.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The last id of the page before.
    pub after: i64,
    /// The namespaces to read, at least one.
    pub namespaces: &'a [String],
    /// The most rows.
    pub limit: u32,
}

/// A row as it is stored.
#[derive(Debug)]
pub struct Row {
    pub(crate) id: i64,
    pub(crate) namespace: String,
    pub(crate) kind: String,
    pub(crate) data: Vec<u8>,
}

/// The figures of the table.
#[derive(Debug, Default, Clone, Copy)]
pub struct Figures {
    pub(crate) rows: i64,
    pub(crate) unreadable: i64,
    pub(crate) unknown: i64,
    pub(crate) oldest_ms: i64,
}
