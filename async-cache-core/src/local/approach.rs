//! What a lookup wants from the flight of its key.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::Token;

/// A value, or a known absence.
pub(crate) type Answer<V> = Option<Arc<V>>;

/// The wishes of a lookup for the flight of its key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Approach {
    pub(crate) reuse: Reuse,
    pub(crate) want: Want,
    pub(crate) joins: Joins,
    /// The longest time that L1 may use the result without asking L2.
    pub(crate) l1_ttl: Option<Duration>,
    /// How long a flight may take if this lookup leads it.
    pub(crate) limit: Duration,
}

/// Which flights a lookup joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joins {
    Any,
    /// Only a flight that ends with a value or an error. The lookup has already joined a flight that ended
    /// with an absence.
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

/// Whether a cached value answers the lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    Cached,
    /// Any cached value except the one with this token, which is to be refreshed. Another node may have
    /// refreshed it already.
    Newer(Token),
    /// No cached value answers. The lookup loads, and every node is told of the new value.
    Nothing,
}
