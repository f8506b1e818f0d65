//! The one error type.

mod cause;
pub(crate) mod guard;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

pub(crate) use cause::{Carried, Spoken, boxed};

/// A boxed error, as loaders and codecs give it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, coarsely enough to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The shared tier could not be reached, did not answer in time, or refused.
    Backend,
    /// A value could not be encoded or decoded.
    Codec,
    /// The cache was put together wrongly, or disagrees with the other nodes.
    Config,
    /// A key could not be encoded: it is longer than [`MAX_KEY_BYTES`](crate::format::key::MAX_KEY_BYTES), or a path that is
    /// not UTF-8. Or one call has more than 100,000 keys.
    Key,
    /// The loader returned an error.
    Loader,
    /// The loader panicked.
    LoaderPanicked,
    /// The loader took longer than `load_timeout`.
    Timeout,
    /// A loader asked for the key it is loading.
    Reentrant,
    /// The cache was shut down.
    Shutdown,
    /// A limit on what may wait at once was reached.
    Overloaded,
    /// The backend cannot do this.
    Unsupported,
}

/// An error of the cache. Cheap to clone: everyone who waited for a load gets the same one.
///
/// The message says what was being done to which namespace; [`source`](StdError::source) has the
/// cause, and `{:#}` writes both in one line. Neither holds a value, a whole key or a password.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    namespace: Option<String>,
    source: Option<BoxError>,
    effect: Effect,
}

/// What is known of the effect of the operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Unknown,
    /// What the message says: nothing unless it says more.
    Told,
}

impl Error {
    /// An error that says `message`: what was being done, and what to do about it.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            namespace: None,
            source: None,
            effect: Effect::Unknown,
        }))
    }

    /// Names the namespace it happened in, unless one is named already.
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

    /// For a backend: it is known what a change that failed has done, because the backend refused it. That is
    /// nothing, unless the message says more.
    #[must_use]
    pub fn with_known_effect(self) -> Self {
        self.amend(|inner| inner.effect = Effect::Told)
    }

    /// Whether it is known what the change that failed has done: nothing, unless the message says more.
    #[must_use]
    pub fn effect_is_known(&self) -> bool {
        self.0.effect == Effect::Told
    }

    /// Changes an error nobody else holds yet; a shared one is wrapped, so that its cause stays reachable.
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

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The namespace it happened in, if one was concerned.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.0.namespace.as_deref()
    }

    /// Whether the same call may succeed later without any change.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Backend | ErrorKind::Timeout | ErrorKind::Overloaded)
    }

    /// The loader's own error, if the loader failed with an `E`: as it was, in a box or an `Arc`, as a
    /// source of what it failed with, or in an `anyhow::Error` (feature `anyhow`).
    ///
    /// ```
    /// # use async_cache_core::{Error, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # use std::io;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// let load = || async { Err::<String, _>(io::Error::from(io::ErrorKind::NotFound)) };
    /// let error = users.get_or_load(&42, load).await.unwrap_err(); // as everyone gets it who waited
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

    /// What a decorated function failed with.
    pub(crate) fn carried(&self) -> Option<&Carried> {
        let mut at = self;
        loop {
            let source = at.0.source.as_deref()?;
            if let Some(carried) = source.downcast_ref() {
                return Some(carried);
            }
            // An error that was shared when it was amended.
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
    fn amending_a_shared_error_keeps_its_cause_reachable() {
        let error = Error::new(ErrorKind::Loader, "m").with_source(std::io::Error::other("x"));
        let other = error.clone();
        let amended = error.in_namespace("n");
        assert!(amended.loader_error::<std::io::Error>().is_some());
        assert!(other.namespace().is_none());
    }
}
