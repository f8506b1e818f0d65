//! The configuration file. Errors quote no value of it, because it has passwords.

use std::fmt;
use std::path::Path;

use async_cache::RedisConfig;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use toml::{Table, Value};

use crate::failure::Failure;

/// Reads the settings in this table of a configuration file, or at its top.
pub(crate) fn read(file: &Path, table: Option<&str>) -> Result<RedisConfig, Failure> {
    let wrong = |why: String| Failure::usage(format!("reading the configuration {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    of_text(&text, table).map_err(wrong)
}

fn of_text(text: &str, table: Option<&str>) -> Result<RedisConfig, String> {
    let names: Vec<&str> = table.map(|table| table.split('.').collect()).unwrap_or_default();
    if let Some(table) = table {
        let all: Table = toml::from_str(text).map_err(|error| described(text, &error))?;
        let mut tables = Vec::new();
        list(&all, "", &mut tables);
        if !tables.iter().any(|name| name == table) {
            return Err(absent(table, &tables));
        }
    }
    let settings = toml::Deserializer::parse(text).and_then(|toml| At(&names).deserialize(toml));
    let settings = settings.map_err(|error| described(text, &error))?;
    settings.ok_or_else(|| "it does not have this table".to_owned())
}

/// Adds the names of all tables, each with those of the tables around it.
fn list(table: &Table, around: &str, names: &mut Vec<String>) {
    for (name, value) in table {
        if let Value::Table(inner) = value {
            let name = format!("{around}{name}");
            names.push(name.clone());
            list(inner, &format!("{name}."), names);
        }
    }
}

fn absent(table: &str, tables: &[String]) -> String {
    let quoted: Vec<_> = tables.iter().map(|name| format!("`{name}`")).collect();
    match quoted.is_empty() {
        true => format!("it has no table `{table}`, and no other: leave out --config-table"),
        false => format!("it has no table `{table}`. Its tables are {}", quoted.join(", ")),
    }
}

/// What is wrong, and in which line.
fn described(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let why = match error.message() {
        // It quotes the value, which may be a password.
        why if why.starts_with("invalid") => "the value has a wrong type or form",
        why => why,
    };
    format!("line {}: {why}", before.matches('\n').count() + 1)
}

/// The settings in the table with these names, each the name of a table in the one before. They are read in their place,
/// so that an error knows its line.
struct At<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<RedisConfig>;

    fn deserialize<D: Deserializer<'de>>(self, toml: D) -> Result<Self::Value, D::Error> {
        match self.0.is_empty() {
            true => RedisConfig::deserialize(toml).map(Some),
            false => toml.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<RedisConfig>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut table: M) -> Result<Self::Value, M::Error> {
        let mut settings = None;
        while let Some(name) = table.next_key::<String>()? {
            match self.0.split_first() {
                Some((first, rest)) if name == *first => settings = table.next_value_seed(At(rest))?,
                _ => drop(table.next_value::<IgnoredAny>()?),
            }
        }
        Ok(settings)
    }
}
