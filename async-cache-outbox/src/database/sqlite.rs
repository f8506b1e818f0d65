//! SQLite: connections of the pool, and a lease row for the lead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, QueryBuilder, Row as _, Sqlite, SqliteConnection, SqlitePool};

use super::{Dialect, Figures, Lead, Page, Row, Session, Store, statements};
use crate::change::Change;
use crate::outbox::Wake;
use crate::relay::MAX_ATTEMPTS;
use crate::table::Table;
use crate::trigger::{self, Column, Plan, Statements};

/// The most rows of one INSERT: three parameters each, and SQLite takes 32,766.
const INSERT_ROWS: usize = 5_000;

/// The time in milliseconds since 1970, as SQL.
const NOW: &str = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)";

#[async_trait]
impl Dialect for Sqlite {
    fn create(table: &Table) -> Vec<String> {
        let (name, lease) = (table.quoted('"'), table.with_suffix('"', "_lease"));
        vec![
            format!(
                "CREATE TABLE IF NOT EXISTS {name} (\n\
                 \x20   id INTEGER PRIMARY KEY AUTOINCREMENT,\n\
                 \x20   namespace TEXT NOT NULL,\n\
                 \x20   kind TEXT NOT NULL,\n\
                 \x20   data BLOB NOT NULL,\n\
                 \x20   created_at INTEGER NOT NULL DEFAULT ({NOW}),\n\
                 \x20   attempts INTEGER NOT NULL DEFAULT 0,\n\
                 \x20   error TEXT\n)"
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS {lease} (\n\
                 \x20   id INTEGER PRIMARY KEY,\n\
                 \x20   holder TEXT NOT NULL,\n\
                 \x20   until_ms INTEGER NOT NULL\n)"
            ),
        ]
    }

    async fn migrate(connection: &mut SqliteConnection, table: &Table) -> sqlx::Result<()> {
        for statement in Self::create(table) {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await?;
        }
        Ok(())
    }

    async fn insert(
        connection: &mut SqliteConnection,
        table: &Table,
        _: Wake,
        changes: Vec<Change>,
    ) -> sqlx::Result<()> {
        let table = table.quoted('"');
        for part in changes.chunks(INSERT_ROWS) {
            let mut query = QueryBuilder::new(format!("INSERT INTO {table} (namespace, kind, data) "));
            query.push_values(part, |mut row, change| {
                row.push_bind(change.namespace.clone());
                row.push_bind(change.kind.text()).push_bind(change.data.clone());
            });
            query.build().persistent(part.len() == 1).execute(&mut *connection).await?;
        }
        Ok(())
    }

    fn trigger(plan: &Plan) -> Statements {
        trigger::sqlite::statements(plan)
    }

    fn check_trigger(plan: &Plan) -> Result<(), String> {
        trigger::sqlite::check(plan)
    }

    async fn columns(connection: &mut SqliteConnection, table: &Table) -> sqlx::Result<Vec<Column>> {
        trigger::sqlite::columns(connection, table).await
    }

    async fn execute(connection: &mut SqliteConnection, sql: String) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
    }

    fn store(pool: &SqlitePool, table: &Table) -> Arc<dyn Store> {
        Arc::new(SqliteStore { pool: pool.clone(), table: table.clone() })
    }
}

struct SqliteStore {
    pool: SqlitePool,
    table: Table,
}

#[async_trait]
impl Store for SqliteStore {
    fn table(&self) -> String {
        self.table.to_string()
    }

    fn session_timeout(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn connect(&self, session_timeout: Duration) -> sqlx::Result<Box<dyn Session>> {
        Ok(Box::new(SqliteSession {
            pool: self.pool.clone(),
            table: self.table.quoted('"'),
            lease: self.table.with_suffix('"', "_lease"),
            holder: format!("{:032x}", fastrand::u128(..)),
            renewed: None,
            life: session_timeout,
        }))
    }
}

/// Takes a connection of the pool for each statement: a pool may have one connection only.
struct SqliteSession {
    pool: SqlitePool,
    table: String,
    lease: String,
    holder: String,
    renewed: Option<Instant>,
    /// How long the lead lasts without being renewed.
    life: Duration,
}

impl SqliteSession {
    async fn run(&self, sql: String) -> sqlx::Result<u64> {
        Ok(sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(&self.pool).await?.rows_affected())
    }
}

#[async_trait]
impl Session for SqliteSession {
    async fn lead(&mut self) -> sqlx::Result<Lead> {
        if self.renewed.is_some_and(|renewed| renewed.elapsed() < self.life / 3) {
            return Ok(Lead::Held);
        }
        let (lease, holder, life) = (&self.lease, &self.holder, self.life.as_millis());
        let asked = Instant::now();
        // A lease that ends too late was made before the clock was set back. It counts as expired.
        let free = format!("{lease}.until_ms NOT BETWEEN {NOW} AND {NOW} + 2 * {life}");
        // The lease is read first, because even a refused INSERT takes the lock of the writer.
        let look =
            format!("SELECT COUNT(*) FROM {lease} WHERE id = 1 AND holder <> '{holder}' AND NOT ({free})");
        let elsewhere: i64 = sqlx::query_scalar(AssertSqlSafe(look)).fetch_one(&self.pool).await?;
        let taken = match elsewhere {
            0 => {
                self.run(format!(
                    "INSERT INTO {lease} (id, holder, until_ms) VALUES (1, '{holder}', {NOW} + {life}) \
                     ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms \
                     WHERE {lease}.holder = excluded.holder OR {free}"
                ))
                .await?
            }
            _ => 0,
        };
        self.renewed = (taken > 0).then_some(asked);
        Ok(if taken > 0 { Lead::Held } else { Lead::Elsewhere })
    }

    async fn release(&mut self) -> sqlx::Result<()> {
        self.renewed = None;
        self.run(format!("DELETE FROM {} WHERE holder = '{}'", self.lease, self.holder)).await.map(drop)
    }

    async fn page(&mut self, page: &Page<'_>) -> sqlx::Result<Vec<Row>> {
        let mut query = statements::page::<Sqlite, _>(&self.table, page, str::to_owned);
        let rows = query.build().fetch_all(&self.pool).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            // A trigger may have stored a text in the column of bytes.
            let data = row.try_get_unchecked(3)?;
            Ok(Row { id: row.try_get(0)?, namespace: row.try_get(1)?, kind: row.try_get(2)?, data })
        };
        rows.iter().map(read).collect()
    }

    async fn delete(&mut self, ids: &[i64]) -> sqlx::Result<()> {
        let ids = listed(ids);
        self.run(format!("DELETE FROM {} WHERE id IN ({ids})", self.table)).await.map(drop)
    }

    async fn refuse(&mut self, ids: &[i64], reason: &str) -> sqlx::Result<()> {
        let (table, ids) = (&self.table, listed(ids));
        let sql = format!("UPDATE {table} SET attempts = attempts + 1, error = ? WHERE id IN ({ids})");
        sqlx::query(AssertSqlSafe(sql)).bind(reason).persistent(false).execute(&self.pool).await.map(drop)
    }

    async fn revive(&mut self) -> sqlx::Result<()> {
        let table = &self.table;
        self.run(format!("UPDATE {table} SET attempts = 0 WHERE attempts >= {MAX_ATTEMPTS}")).await.map(drop)
    }

    async fn figures(&mut self, known: &[String]) -> sqlx::Result<Figures> {
        let age = format!("{NOW} - created_at");
        let mut query = statements::figures::<Sqlite, _>(&self.table, known, str::to_owned, &age, "INTEGER");
        let (rows, unreadable, unknown, oldest_ms) = query.build_query_as().fetch_one(&self.pool).await?;
        Ok(Figures { rows, unreadable, unknown, oldest_ms })
    }

    async fn unknown_namespaces(&mut self, known: &[String]) -> sqlx::Result<Vec<String>> {
        let mut query = statements::unknown::<Sqlite, _>(&self.table, known, str::to_owned);
        query.build_query_scalar().fetch_all(&self.pool).await
    }
}

/// Ids as a list in SQL.
fn listed(ids: &[i64]) -> String {
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    ids.join(",")
}
