//! What a lookup asks for.

use std::sync::Arc;

use crate::backend::{Entry, Token};
use crate::format::key::Key;
use crate::liveness::stamp::Stamp;
use crate::options::Options;

/// A value, or a known absence.
pub(crate) type Answer<V> = Option<Arc<V>>;

/// What a lookup with a loader asks for. The caller, its flight and the task of its load share it.
#[derive(Debug, Clone)]
pub(crate) struct LookupRequest {
    pub(crate) key: Key,
    /// The answer must not be older than this stamp.
    pub(crate) min_stamp: Option<Stamp>,
    pub(crate) mode: CacheMode,
    /// Whether a cached absence answers.
    pub(crate) absent_ok: bool,
    /// Whether the lookup refreshes a value in the background. Then no caller waits for it.
    pub(crate) background: bool,
    pub(crate) options: Options,
}

/// Whether a cached value answers the lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheMode {
    /// Any cached value answers.
    Use,
    /// Any cached value except the one with this token, which is to be refreshed. Another node may have
    /// refreshed it already.
    Revalidate(Token),
    /// No cached value answers. The lookup loads, and every node is told of the new value.
    Reload,
}

impl LookupRequest {
    pub(crate) fn accepts<V>(&self, answer: &Answer<V>) -> bool {
        self.absent_ok || answer.is_some()
    }

    pub(crate) fn is_answered_by<V>(&self, entry: &Entry<V>) -> bool {
        self.accepts(&entry.value)
            && match self.mode {
                CacheMode::Use => true,
                CacheMode::Revalidate(old) => entry.token != old,
                CacheMode::Reload => false,
            }
    }

    /// Whether a caller waits, and any cached value answers.
    pub(crate) fn is_plain(&self) -> bool {
        !self.background && self.mode == CacheMode::Use
    }

    /// The refresh in the background of the value with this token.
    pub(crate) fn behind(&self, token: Token) -> Self {
        let mode = CacheMode::Revalidate(token);
        Self { mode, background: true, min_stamp: None, ..self.clone() }
    }

    /// The sequence number that the answer must reflect, in the partition of the key.
    pub(crate) fn min_seq(&self, partition: u16) -> u64 {
        self.min_stamp.as_ref().map_or(0, |stamp| stamp.seq(partition))
    }
}
