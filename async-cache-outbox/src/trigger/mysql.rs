//! Triggers of MySQL and MariaDB: three, each of one statement, so that a script needs no `DELIMITER`.

use sqlx::MySqlConnection;

use crate::table::Table;
use crate::trigger::rows::{Side, Syntax};
use crate::trigger::{Column, Content, Plan, Statements};

/// Texts are compared as bytes: a collation may take `Ada` and `ada` for one.
const SYNTAX: Syntax = Syntax {
    quote: '`',
    text: |column| format!("CAST(CONVERT({column} USING utf8mb4) AS BINARY)"),
    escaped: |text| format!("REPLACE(REPLACE({text}, x'5c', x'5c5c'), x'3a', x'5c3a')"),
    odd_text: |hex| format!("x'{hex}'"),
    joined: |parts| format!("CAST(CONCAT({}) AS BINARY)", parts.join(", ")),
    bytes: |text| text.to_owned(),
};

pub(crate) fn statements(plan: &Plan) -> Statements {
    let (table, outbox) = (plan.table.quoted('`'), plan.outbox.quoted('`'));
    let name = |event: &str| {
        let name = format!("`{}_{}`", plan.name, event.to_lowercase());
        plan.table.schema().map_or_else(|| name.clone(), |schema| format!("`{schema}`.{name}"))
    };
    let events =
        [("INSERT", &[Side::New] as &[Side]), ("UPDATE", &[Side::Old, Side::New]), ("DELETE", &[Side::Old])];
    let create = events.map(|(event, sides)| {
        let (name, rows) = (name(event), SYNTAX.select(plan, sides));
        format!(
            "CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW\n  INSERT INTO {outbox} (namespace, kind, data)\n  \
             {rows}"
        )
    });
    let remove = events.map(|(event, _)| format!("DROP TRIGGER IF EXISTS {}", name(event)));
    let namespace = SYNTAX.literal(&plan.namespace);
    let all = format!("INSERT INTO {outbox} (namespace, kind, data) VALUES ({namespace}, 'all', '')");
    Statements { check: None, create: create.into(), remove: remove.into(), after_replacement: Some(all) }
}

/// In a trigger a name without a schema is one of the trigger's own schema.
pub(crate) fn check(plan: &Plan) -> Result<(), String> {
    match (plan.table.schema(), plan.outbox.schema()) {
        (Some(schema), None) => Err(format!(
            "the triggers of `{}` would look for the outbox table in the schema `{schema}`: name its schema with \
             `Outbox::in_table(\"schema.{}\")`",
            plan.table, plan.outbox
        )),
        _ => Ok(()),
    }
}

pub(crate) async fn columns(connection: &mut MySqlConnection, table: &Table) -> sqlx::Result<Vec<Column>> {
    let sql = "SELECT CAST(column_name AS CHAR), CAST(data_type AS CHAR), CAST(column_type AS CHAR) \
               FROM information_schema.columns WHERE table_name = ? AND table_schema = COALESCE(?, DATABASE())";
    let columns: Vec<(String, String, String)> =
        sqlx::query_as(sql).bind(table.name()).bind(table.schema()).fetch_all(connection).await?;
    let read = |(name, kind, type_name): (String, String, String)| {
        let content = content(&kind.to_lowercase(), &type_name.to_lowercase());
        Column { name, type_name, content }
    };
    Ok(columns.into_iter().map(read).collect())
}

fn content(kind: &str, full: &str) -> Content {
    let whole = kind == "decimal" && full.contains(",0)");
    match kind {
        _ if full.contains("zerofill") => Content::Other,
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => Content::Text,
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" => Content::Text,
        // Of MariaDB.
        "uuid" => Content::Text,
        _ if whole => Content::Text,
        _ => Content::Other,
    }
}
