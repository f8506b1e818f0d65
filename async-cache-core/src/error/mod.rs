//! The error type of the crate.

mod cause;
pub(crate) mod guard;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

#[cfg(feature = "tracing")]
pub(crate) use cause::without_values;
pub(crate) use cause::{Carried, Spoken, boxed};

/// A boxed error, as loaders and codecs return it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error. Match on it to decide what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// L2 could not be reached, did not answer in time, or refused the operation.
    Backend,
    /// A value could not be encoded or decoded.
    Codec,
    /// The cache was configured wrongly, or its configuration differs from that of other nodes.
    Config,
    /// A key is longer than [`MAX_KEY_BYTES`](crate::format::key::MAX_KEY_BYTES), or is a path that is not
    /// UTF-8. Or one call has more than 100,000 keys.
    Key,
    /// The loader returned an error.
    Loader,
    /// The loader panicked.
    LoaderPanicked,
    /// The loader took longer than `load_timeout`.
    Timeout,
    /// A loader asked for the key that it is loading.
    Reentrant,
    /// The cache was shut down.
    Shutdown,
    /// Too many keys or loads were waiting at once.
    Overloaded,
    /// The backend cannot do this.
    Unsupported,
}

/// An error of the cache. It is cheap to clone: all callers that waited for a load get clones of one error.
///
/// The message says which operation failed, and in which namespace. [`source`](StdError::source) returns the
/// cause, and `{:#}` writes the message and its causes in one line. The messages and causes of this crate
/// contain no value, no whole key and no password.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    namespace: Option<String>,
    source: Option<BoxError>,
    effect: Effect,
}

/// Whether the effect of a failed change is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Unknown,
    /// The failed change did nothing, unless the message says otherwise.
    Told,
}

impl Error {
    /// Makes an error. `message` names the operation that failed, and the remedy.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            namespace: None,
            source: None,
            effect: Effect::Unknown,
        }))
    }

    /// Adds the namespace of the failed operation, unless the error has one already.
    #[must_use]
    pub fn in_namespace(self, namespace: &str) -> Self {
        self.amend(|inner| {
            inner.namespace.get_or_insert_with(|| namespace.to_owned());
        })
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(self, source: impl Into<BoxError>) -> Self {
        let source = source.into();
        self.amend(|inner| inner.source = Some(source))
    }

    /// Marks the failure of a change as known: the backend refused the change. So the change did nothing,
    /// unless the message says otherwise. It is for authors of backends.
    #[must_use]
    pub fn with_known_effect(self) -> Self {
        self.amend(|inner| inner.effect = Effect::Told)
    }

    /// Returns whether the effect of the failed change is known. If it is known, the change did nothing, unless
    /// the message says otherwise.
    #[must_use]
    pub fn effect_is_known(&self) -> bool {
        self.0.effect == Effect::Told
    }

    /// Changes an error. If it is shared, it is wrapped in a new one, so that its cause stays reachable.
    fn amend(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = match Arc::try_unwrap(self.0) {
            Ok(inner) => inner,
            Err(shared) => Inner {
                kind: shared.kind,
                message: shared.message.clone(),
                namespace: shared.namespace.clone(),
                effect: shared.effect,
                source: shared.source.is_some().then(|| Self(shared).into()),
            },
        };
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The namespace of the failed operation, if it had one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.0.namespace.as_deref()
    }

    /// Returns whether the same call may succeed later without any change.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Backend | ErrorKind::Timeout | ErrorKind::Overloaded)
    }

    /// Returns the loader's own error if its type is `E`. It also finds an `E` in a box or an `Arc`, among the
    /// sources of the loader's error, and in an `anyhow::Error` (feature `anyhow`).
    ///
    /// ```
    /// # use async_cache_core::{Error, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # use std::io;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// let load = || async { Err::<String, _>(io::Error::from(io::ErrorKind::NotFound)) };
    /// let error = users.get_or_load(&42, load).await.unwrap_err(); // every waiting caller gets it
    /// assert_eq!(error.loader_error::<io::Error>().map(io::Error::kind), Some(io::ErrorKind::NotFound));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn loader_error<E: StdError + Send + Sync + 'static>(&self) -> Option<&E> {
        match self.0.kind {
            ErrorKind::Loader => cause::find(self.0.source.as_deref()?),
            _ => None,
        }
    }

    /// The error of a decorated function.
    pub(crate) fn carried(&self) -> Option<&Carried> {
        let mut at = self;
        loop {
            let source = at.0.source.as_deref()?;
            if let Some(carried) = source.downcast_ref() {
                return Some(carried);
            }
            // The error was shared when it was changed, so its cause is one level deeper.
            at = source.downcast_ref()?;
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.namespace {
            Some(namespace) => write!(f, "namespace `{namespace}`: {}", self.0.message)?,
            None => f.write_str(&self.0.message)?,
        }
        if f.alternate() { cause::write_sources(self, f) } else { Ok(()) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.to_string())
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| cause::seen(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_and_where_and_keeps_the_cause() {
        let cause = std::io::Error::other("disk on fire");
        let error =
            Error::new(ErrorKind::Loader, "loading a key failed").with_source(cause).in_namespace("users");
        assert_eq!(error.to_string(), "namespace `users`: loading a key failed");
        assert_eq!(error.loader_error::<std::io::Error>().unwrap().to_string(), "disk on fire");
        assert!(error.loader_error::<fmt::Error>().is_none());
        assert_eq!(format!("{error:#}"), "namespace `users`: loading a key failed: disk on fire");
        assert!(!error.is_temporary());
    }

    #[test]
    fn a_cause_that_the_message_has_is_written_once() {
        let cause = std::io::Error::other("disk on fire");
        let error = Error::new(ErrorKind::Backend, "reading: not tried (disk on fire)").with_source(cause);
        assert_eq!(format!("{error:#}"), "reading: not tried (disk on fire)");
    }

    #[test]
    fn the_namespace_of_a_cause_is_written_if_it_is_another_one() {
        let cause = |namespace| Error::new(ErrorKind::Backend, "Redis is away").in_namespace(namespace);
        let error = |cause| Error::new(ErrorKind::Backend, "kept").in_namespace("rows").with_source(cause);
        assert_eq!(format!("{:#}", error(cause("rows"))), "namespace `rows`: kept: Redis is away");
        let other = "namespace `rows`: kept: namespace `users`: Redis is away";
        assert_eq!(format!("{:#}", error(cause("users"))), other);
    }

    #[test]
    fn amending_a_shared_error_keeps_its_cause_reachable() {
        let error = Error::new(ErrorKind::Loader, "m").with_source(std::io::Error::other("x"));
        let other = error.clone();
        let amended = error.in_namespace("n");
        assert!(amended.loader_error::<std::io::Error>().is_some());
        assert!(other.namespace().is_none());
    }
}
