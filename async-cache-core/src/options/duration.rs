//! Durations in configuration files.

use std::fmt;
use std::time::Duration;

use humantime_serde::re::humantime::parse_duration;
use serde::{Deserialize, Deserializer, de};

/// A duration as text. Its errors show how one is written.
struct Text(Duration);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Visitor)
    }
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as `500ms` or `5m`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
        let wrong = |_| E::invalid_value(de::Unexpected::Str(text), &self);
        parse_duration(text).map(Text).map_err(wrong)
    }
}

/// Reads a duration.
///
/// # Errors
///
/// If it is not a text, or not the text of a duration.
pub fn required<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    Text::deserialize(from).map(|Text(span)| span)
}

/// Reads a duration that may be missing.
///
/// # Errors
///
/// If it is not a text, or not the text of a duration.
pub fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    Ok(Option::<Text>::deserialize(from)?.map(|Text(span)| span))
}
