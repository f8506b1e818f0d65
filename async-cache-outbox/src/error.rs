//! The error type.

/// An error of the outbox. Its text names what was being done. It contains no key, no value and no password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database failed or refused. Roll the transaction back: the change must not be committed without its
    /// invalidation.
    #[error("{doing}: {source}")]
    Database {
        /// What was being done, to which table.
        doing: String,
        /// What the database said.
        source: sqlx::Error,
    },
    /// A key cannot be encoded, or a tag or namespace is outside its limits. Nothing was written.
    #[error(transparent)]
    Cache(#[from] async_cache_core::Error),
    /// A setting is wrong. The text says which, and what to set.
    #[error("{0}")]
    Config(String),
}

impl Error {
    pub(crate) fn database(doing: impl Into<String>, source: sqlx::Error) -> Self {
        Self::Database { doing: doing.into(), source }
    }
}
