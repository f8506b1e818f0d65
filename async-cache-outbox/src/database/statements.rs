//! The statements that MySQL and SQLite share. Ids and limits are numbers of ours, and stand in the text. Texts and bytes
//! are bound.

use sqlx::query_builder::Separated;
use sqlx::{Database, Encode, QueryBuilder, Type};

use crate::change::Change;
use crate::database::Page;
use crate::relay::{BACKLOG_COUNT, MAX_ATTEMPTS};

/// The most rows of one INSERT: three parameters each, and SQLite takes 32,766.
pub(super) const INSERT_ROWS: usize = 5_000;

pub(super) fn insert<'q, DB, N>(table: &str, changes: &[Change], name: fn(&str) -> N) -> QueryBuilder<DB>
where
    DB: Database,
    N: Encode<'q, DB> + Type<DB>,
    &'static str: Encode<'q, DB> + Type<DB>,
    Vec<u8>: Encode<'q, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(format!("INSERT INTO {table} (namespace, kind, data) "));
    query.push_values(changes, |mut row: Separated<'_, DB, &'static str>, change| {
        row.push_bind(name(&change.namespace)).push_bind(change.kind.text()).push_bind(change.data.clone());
    });
    query
}

pub(super) fn page<'q, DB, N>(table: &str, page: &Page<'_>, name: fn(&str) -> N) -> QueryBuilder<DB>
where
    DB: Database,
    N: Encode<'q, DB> + Type<DB>,
{
    let Page { after, limit, .. } = page;
    let mut query = QueryBuilder::new(format!(
        "SELECT id, namespace, kind, data FROM {table} \
         WHERE id > {after} AND attempts < {MAX_ATTEMPTS} AND namespace IN ("
    ));
    push_names(&mut query, page.namespaces, name);
    query.push(format_args!(") ORDER BY id LIMIT {limit}"));
    query
}

/// The figures of the oldest rows. `age_ms` is the database's expression for the age of a row.
pub(super) fn figures<'q, DB, N>(
    table: &str,
    known: &[String],
    name: fn(&str) -> N,
    (age_ms, integer): (&str, &str),
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
