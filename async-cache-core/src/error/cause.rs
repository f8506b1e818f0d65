//! The cause of an [`Error`](super::Error). It keeps the error of a loader in a form in which it can be found.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::error::{BoxError, Error};

/// Boxes an error so that its own type can be found.
///
/// `anyhow` boxes an error in a private type, so an `anyhow::Error` is kept as it is.
pub(crate) fn boxed<E: Into<BoxError> + 'static>(error: E) -> BoxError {
    #[cfg(feature = "anyhow")]
    {
        let mut error = Some(error);
        let any: &mut dyn Any = &mut error;
        if let Some(opaque) = any.downcast_mut::<Option<anyhow::Error>>().and_then(Option::take) {
            return Box::new(Opaque(opaque));
        }
        let Some(error) = error else { unreachable!("it was not taken") };
        error.into()
    }
    #[cfg(not(feature = "anyhow"))]
    error.into()
}

#[cfg(feature = "anyhow")]
struct Opaque(anyhow::Error);

#[cfg(feature = "anyhow")]
impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(feature = "anyhow")]
impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(feature = "anyhow")]
impl StdError for Opaque {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.0.as_ref())
    }
}

/// Writes the sources of an error, each after a colon. A text that was written already is left out, and so is the namespace of the
/// error.
pub(super) fn write_sources(error: &Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (mut source, mut written) = (error.source(), error.to_string());
    // The limit is needed because the errors come from the caller and may form a circle.
    for _ in 0..16 {
        let Some(cause) = source else { break };
        let text = match cause.downcast_ref::<Error>() {
            Some(cause) if cause.namespace() == error.namespace() => cause.0.message.clone(),
            _ => cause.to_string(),
        };
        if !written.contains(&text) {
            write!(f, ": {text}")?;
            written = text;
        }
        source = cause.source();
    }
    Ok(())
}

/// The message of a codec without the value that serde quotes: `invalid type: string "Ada", expected u64`.
#[cfg(feature = "tracing")]
pub(crate) fn without_values(text: &str) -> String {
    let quoting = ["invalid type: ", "invalid value: ", "unknown variant "];
    let begin = quoting.iter().filter_map(|form| Some(text.find(form)? + form.len())).min();
    let Some((before, rest)) = begin.and_then(|begin| text.split_at_checked(begin)) else {
        return text.to_owned();
    };
    let kind = rest.split(['"', '`', ',']).next().unwrap_or_default().trim_end();
    let expected = rest.rfind(", expected").map_or("", |at| &rest[at..]);
    let unexpected = format!("{before}{kind}");
    format!("{}{expected}", unexpected.trim_end())
}

/// The error of a loader, and the boxed error that stands for it in messages.
pub(crate) struct Carried {
    pub(crate) own: Box<dyn Any + Send + Sync>,
    pub(crate) shown: BoxError,
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}

impl StdError for Carried {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.shown)
    }
}

type Cause = dyn StdError + 'static;

/// Returns a cause without its wrapper, if it has one.
pub(super) fn seen(cause: &Cause) -> &Cause {
    if let Some(carried) = cause.downcast_ref::<Carried>() {
        return seen(&*carried.shown);
    }
    #[cfg(feature = "anyhow")]
    if let Some(opaque) = cause.downcast_ref::<Opaque>() {
        return opaque.0.as_ref();
    }
    cause
}

/// Returns the first `E` among a cause and its sources. It looks into wrappers, boxes and `Arc`s.
pub(super) fn find<E: StdError + Send + Sync + 'static>(mut cause: &Cause) -> Option<&E> {
    loop {
        if let Some(found) = as_is(cause) {
            return Some(found);
        }
        cause = match cause.downcast_ref::<Error>() {
            Some(Error(inner)) => inner.source.as_deref()?,
            None => match cause.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
                Some(shared) => &**shared,
                None => cause.source()?,
            },
        };
    }
}

fn as_is<E: StdError + Send + Sync + 'static>(cause: &Cause) -> Option<&E> {
    if let Some(carried) = cause.downcast_ref::<Carried>() {
        return carried.own.downcast_ref();
    }
    #[cfg(feature = "anyhow")]
    if let Some(opaque) = cause.downcast_ref::<Opaque>() {
        // This also finds the context of an `anyhow` error.
        return opaque.0.downcast_ref();
    }
    cause
        .downcast_ref::<E>()
        .or_else(|| cause.downcast_ref::<Arc<E>>().map(|shared| &**shared))
        .or_else(|| cause.downcast_ref::<Box<E>>().map(|boxed| &**boxed))
}

/// The messages of an error that was given to its caller, and those of its sources.
pub(crate) struct Spoken {
    display: String,
    debug: String,
    source: Option<BoxError>,
}

impl Spoken {
    pub(crate) fn of(error: &(dyn StdError + 'static)) -> Self {
        // An error of this crate can be cloned.
        let source = error.source().map(|source| match source.downcast_ref::<Error>() {
            Some(ours) => ours.clone().into(),
            None => Self::of(source).into(),
        });
        Self { display: error.to_string(), debug: format!("{error:?}"), source }
    }

    pub(crate) fn of_type(name: &str) -> Self {
        let display = format!("an error of type `{name}`");
        Self { debug: display.clone(), display, source: None }
    }
}

impl fmt::Debug for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.debug)
    }
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display)
    }
}

impl StdError for Spoken {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(all(test, feature = "tracing"))]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_value_is_left_out_of_the_message_of_a_codec() {
        for (text, shown) in [
            ("missing field `email` at line 1 column 9", "missing field `email` at line 1 column 9"),
            ("invalid type: string \"a, expected b\", expected u64", "invalid type: string, expected u64"),
            ("invalid type: map, expected a string", "invalid type: map, expected a string"),
            ("invalid value: integer `7`, expected 1", "invalid value: integer, expected 1"),
            ("unknown variant `Ada`, expected `A` or `B`", "unknown variant, expected `A` or `B`"),
            ("unknown variant `Ada`, there are no variants", "unknown variant"),
        ] {
            assert_eq!(without_values(text), shown);
        }
    }
}
