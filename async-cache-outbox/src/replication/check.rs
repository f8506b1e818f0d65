//! Whether the server, the publication and its tables let no change pass unseen.

use std::collections::{BTreeSet, HashMap};

use sqlx::{PgConnection, Row as _};

use crate::relay::pass::step;
use crate::replication::LogNames;
use crate::replication::coverage::PARTITIONS;
use crate::replication::trouble::{Trouble, unwatched};
use crate::replication::watch::{TableName, Watch};
use crate::replication::wire::Relation;
use crate::table::Table;

/// A table that a reader watches, as the server knows it.
struct Found {
    name: TableName,
    /// Its object id and those of its partitions.
    ids: Vec<i64>,
    /// Whether it and all its partitions have a replica identity.
    is_identified: bool,
    /// Whether they have it by the same rule.
    is_uniform: bool,
}

/// The watches on each table. A name is that of a table which may have had another object id: one that was created again. An id is
/// that of a table which may have had another name, or of a partition that was published by itself.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    names: HashMap<TableName, BTreeSet<usize>>,
    ids: HashMap<u32, BTreeSet<usize>>,
}

impl Tables {
    /// The watches on a table that the log describes.
    pub(crate) fn watches(&self, relation: &Relation) -> BTreeSet<usize> {
        let named = self.names.get(&(relation.schema.clone(), relation.name.clone()));
        named.into_iter().chain(self.ids.get(&relation.id)).flatten().copied().collect()
    }

    pub(crate) fn add(&mut self, name: TableName, ids: impl IntoIterator<Item = u32>, watch: usize) {
        self.names.entry(name).or_default().insert(watch);
        for id in ids {
            self.ids.entry(id).or_default().insert(watch);
        }
    }
}

/// The tables that are watched.
///
/// A reader that lets changes of a table of the publication pass would acknowledge them. Another instance of the service, of a newer
/// version, may watch that table. So a reader that does not watch all of them does not work.
pub(crate) async fn check(
    connection: &mut PgConnection,
    names: &LogNames,
    watches: &[Watch],
) -> Result<Tables, Trouble> {
    level(connection).await?;
    let publication = &names.publication;
    publishes_all(connection, publication, watches).await?;
    let sql = "SELECT schemaname::text, tablename::text FROM pg_publication_tables WHERE pubname = $1";
    let published = sqlx::query_as(sql).bind(publication).fetch_all(&mut *connection);
    let published: Vec<TableName> = step("reading the tables of the publication", published).await?;
    let mut watched = Tables::default();
    for (index, Watch { table, .. }) in watches.iter().enumerate() {
        let found = find(connection, table).await?;
        judge(table, &found, publication, &published)?;
        let ids = found.ids.into_iter().filter_map(|id| u32::try_from(id).ok());
        watched.add(found.name, ids, index);
    }
    match published.into_iter().find(|name| !watched.names.contains_key(name)) {
        None => Ok(watched),
        Some((schema, name)) => Err(Trouble::Refused(format!(
            "the publication `{publication}` has the table `{schema}.{name}`, which this reader does not watch: \
             {}",
            unwatched(&schema, &name)
        ))),
    }
}

async fn level(connection: &mut PgConnection) -> Result<(), Trouble> {
    let sql = "SELECT current_setting('wal_level')";
    let level: String = step("reading a setting", sqlx::query_scalar(sql).fetch_one(connection)).await?;
    match level.as_str() {
        "logical" => Ok(()),
        _ => Err(Trouble::Refused(format!(
            "`wal_level` is `{level}`: set `wal_level = logical`, and start PostgreSQL again"
        ))),
    }
}

async fn publishes_all(
    connection: &mut PgConnection,
    publication: &str,
    watches: &[Watch],
) -> Result<(), Trouble> {
    let sql =
        "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_publication WHERE pubname = $1";
    let all = sqlx::query_scalar(sql).bind(publication).fetch_optional(connection);
    match step("looking for the publication", all).await? {
        Some(true) => Ok(()),
        Some(false) => Err(Trouble::Refused(format!(
            "the publication `{publication}` leaves kinds of changes out: \
             ALTER PUBLICATION \"{publication}\" SET (publish = 'insert, update, delete, truncate')"
        ))),
        None => {
            let tables: Vec<String> = watches.iter().map(|watch| watch.table.quoted('"')).collect();
            Err(Trouble::Refused(format!(
                "this database has no publication `{publication}`: CREATE PUBLICATION \"{publication}\" FOR TABLE {}",
                tables.join(", ")
            )))
        }
    }
}

async fn find(connection: &mut PgConnection, table: &Table) -> Result<Found, Trouble> {
    let sql = format!(
        "WITH RECURSIVE root AS (SELECT to_regclass($1)::oid AS oid), parts AS (SELECT oid FROM root UNION {PARTITIONS}), \
         rules AS (SELECT relreplident AS rule, CASE relreplident WHEN 'f' THEN true \
         WHEN 'd' THEN EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary) \
         WHEN 'i' THEN EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisreplident) \
         ELSE false END AS is_identified FROM pg_class c WHERE c.oid IN (SELECT oid FROM parts)) \
         SELECT nspname::text, relname::text, (SELECT bool_and(is_identified) FROM rules), \
         (SELECT count(DISTINCT rule) = 1 FROM rules), \
         (SELECT array_agg(oid::bigint) FROM parts) \
         FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE pg_class.oid = (SELECT oid FROM root)"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(table.quoted('"')).fetch_optional(connection);
    let Some(row) = step("looking for a table", row).await? else {
        return Err(Trouble::Refused(format!("there is no table `{table}` that this user can see")));
    };
    let name = (row.try_get(0)?, row.try_get(1)?);
    let (is_identified, is_uniform) = (row.try_get(2)?, row.try_get(3)?);
    Ok(Found { name, ids: row.try_get(4)?, is_identified, is_uniform })
}

fn judge(table: &Table, found: &Found, publication: &str, published: &[TableName]) -> Result<(), Trouble> {
    let quoted = table.quoted('"');
    let wrong = if !published.contains(&found.name) {
        format!(
            "the publication `{publication}` does not have the table `{table}`: ALTER PUBLICATION \"{publication}\" ADD TABLE \
             {quoted} (for a table with partitions SET (publish_via_partition_root = true), too)"
        )
    } else if !found.is_identified {
        format!(
            "the table `{table}` has no replica identity, so nobody can learn which of its rows change: give it a primary key, \
             or ALTER TABLE {quoted} REPLICA IDENTITY FULL (each partition)"
        )
    } else if !found.is_uniform {
        format!(
            "the partitions of the table `{table}` have different replica identities: set the same one for the table and each \
             partition"
        )
    } else {
        return Ok(());
    };
    Err(Trouble::Refused(wrong))
}
