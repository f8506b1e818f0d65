//! What the publication covers. Changes that it did not cover are not in the log.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use crate::relay::pass::step;
use crate::replication::LogNames;
use crate::replication::trouble::Trouble;
use crate::replication::watch::Watch;

/// The first version of PostgreSQL that can publish the tables of a schema.
const SCHEMAS: u32 = 150_000;

/// For each watch a text. It differs whenever changes of the table may have been left out of the log since an earlier look, even if the
/// publication is as it was then: it has the numbers of the transactions that wrote the rows of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Coverage(Vec<Option<String>>);

impl Coverage {
    /// Reads it for the tables, their partitions, and the tables that they are partitions of.
    pub(crate) async fn read(
        connection: &mut PgConnection,
        names: &LogNames,
        watches: &[Watch],
    ) -> Result<Self, Trouble> {
        let has_schemas = connection.server_version_num().is_none_or(|version| version >= SCHEMAS);
        let schemas = match has_schemas {
            true => {
                "(SELECT ROW(s.oid, s.xmin)::text FROM pg_publication_namespace s \
                 WHERE s.pnnspid = c.relnamespace AND s.pnpubid = p.oid)"
            }
            false => "NULL",
        };
        // The file of a table changes with TRUNCATE and if its rows are written anew, its type with its name and schema.
        let sql = format!(
            "SELECT (WITH root AS (SELECT to_regclass(watched.name)::oid AS oid), \
             tree AS (SELECT oid FROM root UNION SELECT relid FROM root, pg_partition_tree(root.oid::regclass) \
             UNION SELECT relid FROM root, pg_partition_ancestors(root.oid::regclass)) \
             SELECT string_agg(ROW(c.oid, c.relfilenode, c.relpersistence, t.xmin, i.inhparent, i.xmin, p.oid, p.xmin, \
             r.oid, r.xmin, {schemas})::text, ' ' ORDER BY c.oid, i.inhparent) \
             FROM tree JOIN pg_class c ON c.oid = tree.oid LEFT JOIN pg_type t ON t.oid = c.reltype \
             LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_publication p ON p.pubname = $2 \
             LEFT JOIN pg_publication_rel r ON r.prrelid = c.oid AND r.prpubid = p.oid) \
             FROM unnest($1::text[]) WITH ORDINALITY AS watched (name, number) ORDER BY number"
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
