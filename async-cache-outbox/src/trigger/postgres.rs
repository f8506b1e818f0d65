//! Triggers of PostgreSQL: one function, called for each changed row and after a TRUNCATE.

use sqlx::PgConnection;

use crate::outbox::Wake;
use crate::table::Table;
use crate::trigger::rows::{Side, Syntax};
use crate::trigger::{Column, Content, Plan, Statements};

const SYNTAX: Syntax = Syntax {
    quote: '"',
    text: |column| format!("{column}::text"),
    escaped: |text| format!("replace(replace({text}, chr(92), chr(92) || chr(92)), ':', chr(92) || ':')"),
    odd_text: |hex| format!("convert_from(decode('{hex}', 'hex'), 'UTF8')"),
    joined: |parts| parts.join(" || "),
    bytes: |text| format!("convert_to({text}, 'UTF8')"),
};

/// The function runs as the user that creates it, so writers need no right to the outbox, and finds the outbox whatever the
/// writer's `search_path` is: its schema is looked up when the function is created.
pub(crate) fn statements(plan: &Plan) -> Statements {
    let table = plan.table.quoted('"');
    let function = match plan.table.schema() {
        Some(schema) => format!("\"{schema}\".\"{}\"", plan.name),
        None => format!("\"{}\"", plan.name),
    };
    let (row, truncate) = (format!("\"{}\"", plan.name), format!("\"{}_truncate\"", plan.name));
    let namespace = SYNTAX.literal(&plan.namespace);
    let wake = match plan.wake {
        Wake::Notify => format!("\n  IF FOUND THEN PERFORM pg_notify('{}', ''); END IF;", plan.outbox.name()),
        Wake::Poll => String::new(),
    };
    let rows = SYNTAX.select(plan, &[Side::Old, Side::New]);
    let create = format!(
        "DO $do$
DECLARE
  outbox text := (SELECT format('%I.%I', nspname, relname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
                  WHERE pg_class.oid = '{}'::regclass);
BEGIN
EXECUTE format($create$
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    INSERT INTO %1$s (namespace, kind, data) VALUES ({namespace}, 'all', '');
  ELSE
    INSERT INTO %1$s (namespace, kind, data)
  {rows};
  END IF;{wake}
  RETURN NULL;
END $function$
$create$, outbox);
END $do$",
        plan.outbox.quoted('"')
    );
    let drop_triggers = [
        format!("DROP TRIGGER IF EXISTS {row} ON {table}"),
        format!("DROP TRIGGER IF EXISTS {truncate} ON {table}"),
    ];
    let create_triggers = [
        format!(
            "CREATE TRIGGER {row} AFTER INSERT OR UPDATE OR DELETE ON {table}\n\
             FOR EACH ROW EXECUTE FUNCTION {function}()"
        ),
        format!(
            "CREATE TRIGGER {truncate} AFTER TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        ),
    ];
    let revoke = format!("REVOKE ALL ON FUNCTION {function}() FROM PUBLIC");
    let mut remove = drop_triggers.to_vec();
    remove.push(format!("DROP FUNCTION IF EXISTS {function}()"));
    let create = [create, revoke].into_iter().chain(drop_triggers).chain(create_triggers).collect();
    Statements { check: Some(SYNTAX.check(plan)), create, remove, after_replacement: None }
}

pub(crate) async fn columns(connection: &mut PgConnection, table: &Table) -> sqlx::Result<Vec<Column>> {
    // The type behind a domain.
    let sql = "SELECT attname::text, CASE WHEN typtype = 'e' THEN 'enum' WHEN typbasetype <> 0 \
               THEN format_type(typbasetype, typtypmod) ELSE format_type(pg_type.oid, atttypmod) END \
               FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid \
               WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
    let columns: Vec<(String, String)> =
        sqlx::query_as(sql).bind(table.quoted('"')).fetch_all(connection).await?;
    let read = |(name, type_name): (String, String)| {
        let content = content(&type_name);
        Column { name, type_name, content }
    };
    Ok(columns.into_iter().map(read).collect())
}

/// `character(n)` is not among them: its text has lost the spaces at the end that a program reads.
pub(crate) fn content(type_name: &str) -> Content {
    let whole = type_name.starts_with("numeric(") && type_name.ends_with(",0)");
    match type_name {
        "smallint" | "integer" | "bigint" | "text" | "uuid" | "boolean" | "enum" | "name" => Content::Text,
        _ if whole || type_name.starts_with("character varying") => Content::Text,
        _ => Content::Other,
    }
}
