//! MySQL and MariaDB: one connection for the relay, and `GET_LOCK` for the lead.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::mysql::MySqlRow;
use sqlx::pool::PoolOptions;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection, MySqlPool, Row as _};

use super::{Dialect, Figures, Lead, Page, Row, Session, Store, statements};
use crate::change::Change;
use crate::outbox::Wake;
use crate::relay::{BACKLOG_COUNT, CONNECT_TIMEOUT, MAX_ATTEMPTS};
use crate::table::Table;
use crate::trigger::{self, Column, Plan, Statements};

#[async_trait]
impl Dialect for MySql {
    fn create(table: &Table) -> Vec<String> {
        let name = table.quoted('`');
        vec![format!(
            "CREATE TABLE IF NOT EXISTS {name} (\n\
             \x20   id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,\n\
             \x20   namespace VARBINARY(128) NOT NULL,\n\
             \x20   kind VARCHAR(16) CHARACTER SET ascii NOT NULL,\n\
             \x20   data VARBINARY(2048) NOT NULL,\n\
             \x20   created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),\n\
             \x20   attempts INT NOT NULL DEFAULT 0,\n\
             \x20   error VARCHAR(200) CHARACTER SET utf8mb4\n\
             ) ENGINE = InnoDB"
        )]
    }

    async fn migrate(connection: &mut MySqlConnection, table: &Table) -> sqlx::Result<()> {
        for statement in Self::create(table) {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await?;
        }
        Ok(())
    }

    async fn insert(
        connection: &mut MySqlConnection,
        table: &Table,
        _: Wake,
        changes: Vec<Change>,
    ) -> sqlx::Result<()> {
        // As text in one round trip. A prepared statement takes several, and each number of rows needs another one.
        for part in changes.chunks(INSERT_ROWS) {
            let rows = part.iter().map(|Change { namespace, kind, data }| {
                format!("(x'{}','{}',x'{}')", hex(namespace.as_bytes()), kind.text(), hex(data))
            });
            let rows: Vec<String> = rows.collect();
            let table = table.quoted('`');
            let sql = format!("INSERT INTO {table} (namespace, kind, data) VALUES {}", rows.join(","));
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await?;
        }
        Ok(())
    }

    fn trigger(plan: &Plan) -> Statements {
        trigger::mysql::statements(plan)
    }

    fn check_trigger(plan: &Plan) -> Result<(), String> {
        trigger::mysql::check(plan)
    }

    async fn columns(connection: &mut MySqlConnection, table: &Table) -> sqlx::Result<Vec<Column>> {
        trigger::mysql::columns(connection, table).await
    }

    async fn execute(connection: &mut MySqlConnection, sql: String) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
    }

    fn store(pool: &MySqlPool, table: &Table) -> Arc<dyn Store> {
        Arc::new(MySqlStore { pool: pool.clone(), table: table.clone() })
    }
}

/// The most rows of one INSERT. With the longest keys it stays below the usual limit of a packet, 16 MiB.
const INSERT_ROWS: usize = 2_000;

/// Bytes in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Namespaces are stored as bytes, because comparisons of texts ignore case and trailing spaces.
fn bytes(name: &str) -> Vec<u8> {
    name.as_bytes().to_vec()
}

struct MySqlStore {
    pool: MySqlPool,
    table: Table,
}

#[async_trait]
impl Store for MySqlStore {
    fn table(&self) -> String {
        self.table.to_string()
    }

    async fn connect(&self, session_timeout: Duration) -> sqlx::Result<Box<dyn Session>> {
        let one: PoolOptions<MySql> = self.pool.options().clone();
        let one = one.min_connections(0).max_connections(1).max_lifetime(None).idle_timeout(None);
        let one = one.acquire_timeout(CONNECT_TIMEOUT);
        let one = one.connect_lazy_with(self.pool.connect_options().as_ref().clone());
        let mut connection = one.acquire().await?.detach();
        // The server ends a session that is silent for this time, and with it the lead of a relay that is gone.
        let silence = session_timeout.as_secs_f64().ceil();
        let settings =
            format!("SET SESSION wait_timeout = {silence}, SESSION transaction_isolation = 'READ-COMMITTED'");
        let older = format!("SET SESSION wait_timeout = {silence}, SESSION tx_isolation = 'READ-COMMITTED'");
        if sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut connection).await.is_err() {
            // MariaDB before 11.1 has the variable under its older name.
            sqlx::raw_sql(AssertSqlSafe(older)).execute(&mut connection).await?;
        }
        let table = self.table.quoted('`');
        Ok(Box::new(MySqlSession { connection, name: self.table.to_string(), table, lead: Lead::Elsewhere }))
    }
}

struct MySqlSession {
    connection: MySqlConnection,
    /// The name without quotes.
    name: String,
    table: String,
    lead: Lead,
}

/// Locks are of the whole server, and their names have 64 characters at most. `?` is the table.
const LOCK: &str = "CONCAT('async_cache_outbox:', SHA1(CONCAT(COALESCE(DATABASE(), ''), '.', ?)))";

/// The most rows that one statement locks.
const LOCKED_ROWS: usize = 500;

/// The rows with these ids, as `o`, each looked up by the primary key. With `WHERE id IN (..)` the optimizer may read the whole
/// table, and then the statement waits for the locks of rows that are not committed yet.
fn looked_up(table: &str, ids: &[i64]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| format!("SELECT {id} AS id")).collect();
    let ids = ids.join(" UNION ALL ");
    format!("({ids}) AS wanted STRAIGHT_JOIN {table} AS o FORCE INDEX (PRIMARY) ON o.id = wanted.id")
}

impl MySqlSession {
    async fn run(&mut self, sql: String) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await.map(drop)
    }
}

#[async_trait]
impl Session for MySqlSession {
    async fn lead(&mut self) -> sqlx::Result<Lead> {
        // The lock ends with the connection, so it needs no renewal.
        if self.lead == Lead::Elsewhere {
            let ask = AssertSqlSafe(format!("SELECT GET_LOCK({LOCK}, 0)"));
            let taken: Option<i64> =
                sqlx::query_scalar(ask).bind(&self.name).fetch_one(&mut self.connection).await?;
            self.lead = if taken == Some(1) { Lead::Held } else { Lead::Elsewhere };
        }
        Ok(self.lead)
    }

    async fn release(&mut self) -> sqlx::Result<()> {
        self.lead = Lead::Elsewhere;
        let give_back = AssertSqlSafe(format!("DO RELEASE_LOCK({LOCK})"));
        sqlx::query(give_back).bind(&self.name).execute(&mut self.connection).await.map(drop)
    }

    async fn page(&mut self, page: &Page<'_>) -> sqlx::Result<Vec<Row>> {
        let mut query = statements::page::<MySql, _>(&self.table, page, bytes);
        let rows = query.build().fetch_all(&mut self.connection).await?;
        let read = |row: &MySqlRow| {
            let namespace = String::from_utf8_lossy(row.try_get(1)?).into_owned();
            Ok(Row { id: row.try_get(0)?, namespace, kind: row.try_get(2)?, data: row.try_get(3)? })
        };
        rows.iter().map(read).collect()
    }

    async fn delete(&mut self, ids: &[i64]) -> sqlx::Result<()> {
        for ids in ids.chunks(LOCKED_ROWS) {
            self.run(format!("DELETE o FROM {}", looked_up(&self.table, ids))).await?;
        }
        Ok(())
    }

    async fn refuse(&mut self, ids: &[i64], reason: &str) -> sqlx::Result<()> {
        for ids in ids.chunks(LOCKED_ROWS) {
            let rows = looked_up(&self.table, ids);
            let sql = format!("UPDATE {rows} SET o.attempts = o.attempts + 1, o.error = ?");
            sqlx::query(AssertSqlSafe(sql))
                .bind(reason)
                .persistent(false)
                .execute(&mut self.connection)
                .await?;
        }
        Ok(())
    }

    async fn revive(&mut self) -> sqlx::Result<()> {
        let table = &self.table;
        // A read locks nothing.
        let find = format!("SELECT id FROM {table} WHERE attempts >= {MAX_ATTEMPTS} LIMIT {BACKLOG_COUNT}");
        let ids: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(find)).fetch_all(&mut self.connection).await?;
        for ids in ids.chunks(LOCKED_ROWS) {
            self.run(format!("UPDATE {} SET o.attempts = 0", looked_up(&self.table, ids))).await?;
        }
        Ok(())
    }

    async fn figures(&mut self, known: &[String]) -> sqlx::Result<Figures> {
        let age = "TIMESTAMPDIFF(MICROSECOND, created_at, NOW(3)) DIV 1000";
        let mut query = statements::figures::<MySql, _>(&self.table, known, bytes, age, "SIGNED");
        let (rows, unreadable, unknown, oldest_ms) =
            query.build_query_as().fetch_one(&mut self.connection).await?;
        Ok(Figures { rows, unreadable, unknown, oldest_ms })
    }

    async fn unknown_namespaces(&mut self, known: &[String]) -> sqlx::Result<Vec<String>> {
        let mut query = statements::unknown::<MySql, _>(&self.table, known, bytes);
        let names: Vec<Vec<u8>> = query.build_query_scalar().fetch_all(&mut self.connection).await?;
        Ok(names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }
}
