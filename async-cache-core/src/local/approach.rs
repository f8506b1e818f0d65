//! What a lookup wants of the flight of its key.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::Token;

/// A value, or a known absence.
pub(crate) type Answer<V> = Option<Arc<V>>;

/// With what a lookup comes to the flight of its key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Approach {
    pub(crate) reuse: Reuse,
    pub(crate) want: Want,
    pub(crate) joins: Joins,
    /// Cap on the life in L1 of what it ends with.
    pub(crate) l1_ttl: Option<Duration>,
    /// How long a flight may take that it leads.
    pub(crate) limit: Duration,
}

/// Which flights a lookup joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joins {
    Any,
    /// Those that end with a value, or with an error: it has waited in vain for one that did not.
    WithValue,
}

/// Whether a cached absence answers the lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Value,
    ValueOrAbsence,
}

impl Want {
    pub(crate) fn accepts<V>(self, answer: &Answer<V>) -> bool {
        self == Self::ValueOrAbsence || answer.is_some()
    }
}

/// Whether what is cached answers the lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    Cached,
    /// Anything but the value with this token, which is to be refreshed: another node may have
    /// done it.
    Newer(Token),
    /// Load whatever is cached, and let every node know of the new value.
    Nothing,
}
