//! Triggers of SQLite.

use sqlx::SqliteConnection;

use crate::table::Table;
use crate::trigger::rows::{Side, Syntax};
use crate::trigger::{Column, Content, Plan, Statements};

const SYNTAX: Syntax = Syntax {
    // A name in `"` that is no column is a text for SQLite, unless the name of a table is in front of it.
    quote: '"',
    text: |column| format!("CAST({column} AS TEXT)"),
    escaped: |text| format!("replace(replace({text}, char(92), char(92, 92)), ':', char(92, 58))"),
    odd_text: |hex| format!("CAST(x'{hex}' AS TEXT)"),
    joined: |parts| parts.join(" || "),
    bytes: |text| format!("CAST({text} AS BLOB)"),
};

pub(crate) fn statements(plan: &Plan) -> Statements {
    let schema = plan.table.schema().or(plan.outbox.schema());
    // Names in a trigger have no schema: a trigger reaches the tables of its own schema only.
    let (table, outbox) = (plan.table.name(), plan.outbox.name());
    let name = |event: &str| {
        let name = format!("\"{}_{}\"", plan.name, event.to_lowercase());
        schema.map_or_else(|| name.clone(), |schema| format!("\"{schema}\".{name}"))
    };
    let events =
        [("INSERT", &[Side::New] as &[Side]), ("UPDATE", &[Side::Old, Side::New]), ("DELETE", &[Side::Old])];
    let create = events.map(|(event, sides)| {
        let (name, rows) = (name(event), SYNTAX.select(plan, sides));
        format!(
            "CREATE TRIGGER {name} AFTER {event} ON \"{table}\" FOR EACH ROW BEGIN\n  \
             INSERT INTO \"{outbox}\" (namespace, kind, data)\n  {rows};\nEND"
        )
    });
    let remove = events.map(|(event, _)| format!("DROP TRIGGER IF EXISTS {}", name(event)));
    let check = Some(SYNTAX.check(plan));
    Statements { check, create: create.into(), remove: remove.into(), after_replacement: None }
}

pub(crate) fn check(plan: &Plan) -> Result<(), String> {
    let of = |table: &Table| table.schema().unwrap_or("main").to_lowercase();
    if of(&plan.table) == of(&plan.outbox) {
        return Ok(());
    }
    Err(format!(
        "a trigger of SQLite reaches the tables of its own schema only: `{}` and the outbox table `{}` are in two",
        plan.table, plan.outbox
    ))
}

pub(crate) async fn columns(connection: &mut SqliteConnection, table: &Table) -> sqlx::Result<Vec<Column>> {
    let encoding: String = sqlx::query_scalar("PRAGMA encoding").fetch_one(&mut *connection).await?;
    let sql = "SELECT name, type FROM pragma_table_info(?, ?)";
    let query = sqlx::query_as(sql).bind(table.name()).bind(table.schema().unwrap_or("main"));
    let columns: Vec<(String, String)> = query.fetch_all(connection).await?;
    let read = |(name, mut type_name): (String, String)| {
        let mut content = content(&type_name.to_uppercase());
        if encoding != "UTF-8" {
            // The bytes of its texts are not those of a key.
            type_name = format!("{type_name}, in a database of {encoding}");
            content = Content::Other;
        }
        Column { name, type_name, content }
    };
    Ok(columns.into_iter().map(read).collect())
}

/// The rules by which SQLite gives a column the affinity to integers or to texts.
fn content(type_name: &str) -> Content {
    let texts = ["INT", "CHAR", "CLOB", "TEXT"];
    if texts.iter().any(|text| type_name.contains(text)) { Content::Text } else { Content::Other }
}
