//! The statements that MySQL and SQLite share.

use sqlx::{Database, Encode, QueryBuilder, Type};

use crate::database::Page;
use crate::relay::{BACKLOG_COUNT, MAX_ATTEMPTS};

/// The text depends on the number of namespaces only, so the connection can keep the statement.
pub(super) fn page<'q, DB, N>(table: &str, page: &Page<'_>, name: fn(&str) -> N) -> QueryBuilder<DB>
where
    DB: Database,
    N: Encode<'q, DB> + Type<DB>,
    i64: Encode<'q, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(format!("SELECT id, namespace, kind, data FROM {table} WHERE id > "));
    query.push_bind(page.after);
    query.push(format_args!(" AND attempts < {MAX_ATTEMPTS} AND namespace IN ("));
    push_names(&mut query, page.namespaces, name);
    query.push(") ORDER BY id LIMIT ").push_bind(i64::from(page.limit));
    query
}

/// The figures of the oldest rows. `age_ms` is the database's expression for the age of a row, `integer` its type.
pub(super) fn figures<'q, DB, N>(
    table: &str,
    known: &[String],
    name: fn(&str) -> N,
    age_ms: &str,
    integer: &str,
) -> QueryBuilder<DB>
where
    DB: Database,
    N: Encode<'q, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(format!(
        "SELECT COUNT(*), CAST(COALESCE(SUM(known AND attempts >= {MAX_ATTEMPTS}), 0) AS {integer}), \
         CAST(COALESCE(SUM(NOT known), 0) AS {integer}), \
         CAST(COALESCE(MAX(CASE WHEN known AND attempts < {MAX_ATTEMPTS} THEN {age_ms} END), 0) AS {integer}) \
         FROM (SELECT attempts, created_at, namespace IN ("
    ));
    push_names(&mut query, known, name);
    query.push(format_args!(") AS known FROM {table} ORDER BY id LIMIT {BACKLOG_COUNT}) AS oldest"));
    query
}

pub(super) fn unknown<'q, DB, N>(table: &str, known: &[String], name: fn(&str) -> N) -> QueryBuilder<DB>
where
    DB: Database,
    N: Encode<'q, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(format!(
        "SELECT DISTINCT namespace FROM (SELECT namespace FROM {table} ORDER BY id LIMIT {BACKLOG_COUNT}) AS oldest \
         WHERE namespace NOT IN ("
    ));
    push_names(&mut query, known, name);
    query.push(") LIMIT 10");
    query
}

fn push_names<'q, DB, N>(query: &mut QueryBuilder<DB>, names: &[String], name: fn(&str) -> N)
where
    DB: Database,
    N: Encode<'q, DB> + Type<DB>,
{
    let mut list = query.separated(", ");
    names.iter().for_each(|text| {
        list.push_bind(name(text));
    });
}
