//! What a partition learns means for its node.

/// What a piece of news means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum News {
    /// Nothing further.
    Expected,
    /// Changes were missed: take a new baseline.
    Gap,
}

/// Who answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Server {
    /// The server process that this node's knowledge is about.
    Known,
    /// Another one, and what that means.
    Other(News),
}

/// Outcome of [`Partition::baseline`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Baseline {
    /// Serving; nothing had been missed.
    Continued,
    /// Serving; everything held before is to be verified on its next use.
    Flushed,
    /// Not subscribed, or already serving: nothing to do now.
    NotNow,
    /// The changes heard do not join the baseline: read the state again.
    Again,
}
