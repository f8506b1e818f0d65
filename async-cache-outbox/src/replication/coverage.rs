//! What the publication covers. Changes that it did not cover are not in the log.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use crate::relay::pass::step;
use crate::replication::LogNames;
use crate::replication::trouble::Trouble;
use crate::replication::watch::Watch;

/// The first version of PostgreSQL that can publish the tables of a schema.
const SCHEMAS: u32 = 150_000;

/// Adds the partitions to `parts`, the object ids of tables. The functions of the server for that, such as `pg_partition_tree`, take a
/// lock on each partition, and would wait for a transaction that has locked one of them.
pub(crate) const PARTITIONS: &str = "SELECT i.inhrelid FROM parts JOIN pg_class p ON p.oid = parts.oid AND p.relkind = 'p' \
    JOIN pg_inherits i ON i.inhparent = p.oid";

/// The object ids of the table `root`, its partitions, and the tables that it is a partition of.
fn tree() -> String {
    format!(
        "WITH RECURSIVE parts AS (SELECT root.oid::oid AS oid UNION {PARTITIONS}), \
         ancestors AS (SELECT root.oid::oid AS oid UNION SELECT i.inhparent FROM ancestors \
         JOIN pg_class p ON p.oid = ancestors.oid AND p.relispartition JOIN pg_inherits i ON i.inhrelid = p.oid) \
         SELECT oid FROM parts UNION SELECT oid FROM ancestors"
    )
}

/// For each watch a text. It differs whenever changes of the table may have been left out of the log since an earlier look, even if the
/// publication is as it was then: it has the numbers of the transactions that wrote the rows of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Coverage(Vec<String>);

impl Coverage {
    /// Reads it for the tables, their partitions, and the tables that they are partitions of.
    pub(crate) async fn read(
        connection: &mut PgConnection,
        names: &LogNames,
        watches: &[Watch],
    ) -> Result<Self, Trouble> {
        let schema = match has_schemas(connection) {
            true => {
                "(SELECT concat(s.oid, ' ', s.xmin) FROM pg_publication_namespace s \
                 WHERE s.pnnspid = c.relnamespace AND s.pnpubid = (SELECT oid FROM publication))"
            }
            false => "''",
        };
        let tree = tree();
        // The file of a table changes with TRUNCATE and if its rows are written anew, its type with its name and schema.
        let sql = format!(
            "WITH publication AS MATERIALIZED (SELECT oid, xmin FROM pg_publication WHERE pubname = $2) \
             SELECT concat((SELECT concat(oid, ' ', xmin) FROM publication), ', ', (SELECT string_agg(concat(tree.oid, ' ', \
             (SELECT concat(c.relfilenode, ' ', c.relpersistence, ' ', \
             (SELECT t.xmin FROM pg_type t WHERE t.oid = c.reltype), ' ', {schema}) FROM pg_class c WHERE c.oid = tree.oid), ' ', \
             (SELECT concat(r.oid, ' ', r.xmin) FROM pg_publication_rel r \
             WHERE r.prrelid = tree.oid AND r.prpubid = (SELECT oid FROM publication)), ' ', \
             (SELECT string_agg(concat(i.inhparent, ' ', i.xmin), ' ' ORDER BY i.inhseqno) \
             FROM pg_inherits i WHERE i.inhrelid = tree.oid)), ', ' ORDER BY tree.oid) \
             FROM ({tree}) AS tree)) \
             FROM unnest($1::text[]) WITH ORDINALITY AS watched (name, number), to_regclass(watched.name) AS root (oid) \
             ORDER BY number"
        );
        let tables: Vec<String> = watches.iter().map(|watch| watch.table.quoted('"')).collect();
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(tables).bind(&names.publication);
        Ok(Self(step("reading what is published", query.fetch_all(connection)).await?))
    }

    /// The namespaces that depend on a table of which changes may have been left out since `before`.
    pub(crate) fn changed_since(&self, before: &Self, watches: &[Watch]) -> BTreeSet<String> {
        let pairs = self.0.iter().zip(&before.0).zip(watches);
        pairs.filter(|((now, then), _)| now != then).map(|(_, watch)| watch.namespace.clone()).collect()
    }
}

/// The namespaces that depend on a table which an open transaction may have changed before it was published as it is now: the
/// transaction has a lower number than the one that wrote a row of the catalog, and holds the lock of a writer.
pub(crate) async fn open_since_before(
    connection: &mut PgConnection,
    names: &LogNames,
    watches: &[Watch],
) -> Result<BTreeSet<String>, Trouble> {
    let schemas = match has_schemas(connection) {
        true => {
            "UNION ALL SELECT s.xmin FROM pg_publication_namespace s WHERE s.pnpubid = (SELECT oid FROM publication) \
             AND s.pnnspid IN (SELECT c.relnamespace FROM pg_class c WHERE c.oid IN (SELECT oid FROM tree))"
        }
        false => "",
    };
    // `age` of a number, and not the number: numbers begin again after 2^32.
    let sql = format!(
        "WITH publication AS MATERIALIZED (SELECT oid, xmin FROM pg_publication WHERE pubname = $2) \
         SELECT number FROM unnest($1::text[]) WITH ORDINALITY AS watched (name, number), to_regclass(watched.name) AS root (oid) \
         WHERE EXISTS (WITH tree AS MATERIALIZED ({tree}), written AS (SELECT xmin FROM publication \
         UNION ALL SELECT r.xmin FROM pg_publication_rel r WHERE r.prpubid = (SELECT oid FROM publication) \
         AND r.prrelid IN (SELECT oid FROM tree) {schemas} \
         UNION ALL SELECT i.xmin FROM pg_inherits i WHERE i.inhrelid IN (SELECT oid FROM tree)) \
         SELECT FROM pg_locks held JOIN pg_locks own ON own.virtualtransaction = held.virtualtransaction \
         WHERE held.locktype = 'relation' AND held.mode IN ('RowExclusiveLock', 'AccessExclusiveLock') AND held.granted \
         AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         AND held.relation IN (SELECT oid FROM tree) \
         AND own.locktype = 'transactionid' AND own.mode = 'ExclusiveLock' AND own.granted \
         AND age(own.transactionid) > (SELECT min(age(xmin)) FROM written))",
        tree = tree()
    );
    let tables: Vec<String> = watches.iter().map(|watch| watch.table.quoted('"')).collect();
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(tables).bind(&names.publication);
    let numbers: Vec<i64> = step("looking for open transactions", query.fetch_all(connection)).await?;
    let namespace =
        |number: i64| Some(watches.get(usize::try_from(number).ok()?.checked_sub(1)?)?.namespace.clone());
    Ok(numbers.into_iter().filter_map(namespace).collect())
}

fn has_schemas(connection: &PgConnection) -> bool {
    connection.server_version_num().is_none_or(|version| version >= SCHEMAS)
}
