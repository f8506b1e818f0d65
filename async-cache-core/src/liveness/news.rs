//! What a message or an answer means for the node.

/// What a message means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum News {
    /// Nothing more to do.
    Expected,
    /// Changes were missed: take a new baseline.
    Gap,
}

/// The server that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Server {
    /// The server process that this node's knowledge is about.
    Known,
    /// Another server process, and what that means for the caller.
    Other(News),
}

/// The outcome of [`Partition::baseline`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Baseline {
    /// The partition serves, and no change was missed.
    Continued,
    /// The partition serves. All older entries must be revalidated on their next use.
    Flushed,
    /// The partition is not subscribed, or serves already. Nothing is to be done now.
    NotNow,
    /// There is a gap between the baseline and the changes received. The baseline must be read again.
    Again,
}
