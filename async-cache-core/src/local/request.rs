//! What a lookup asks for.

use std::fmt;
use std::sync::Arc;

use crate::backend::{Born, Entry, Token};
use crate::format::key::Key;
use crate::liveness::stamp::Stamp;
use crate::options::Options;

/// A value, or a known absence.
pub(crate) type Answer<V> = Option<Arc<V>>;

/// Where the answer of a lookup was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// In the tier of this process.
    L1,
    /// In the tier that the fleet shares.
    L2,
    /// Another lookup of the key brought it, of this process or of another node, and this one waited for that.
    Wait,
    /// This lookup loaded it.
    Load,
    /// In either tier, but it has expired, or L2 could not be asked whether it is still valid. The options and
    /// the outage policy allow that. [`Stats::stale_served`](crate::observe::Stats::stale_served) counts such
    /// answers.
    Stale,
    /// Nowhere: neither tier has the key, and there is no loader.
    Nowhere,
}

/// One word in lower case, as for a header: `l1`, `l2`, `wait`, `load`, `stale`, `nowhere`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::Wait => "wait",
            Self::Load => "load",
            Self::Stale => "stale",
            Self::Nowhere => "nowhere",
        })
    }
}

/// The answer of a lookup, and where it was found.
#[derive(Debug)]
pub(crate) struct Found<V> {
    pub(crate) answer: Answer<V>,
    pub(crate) source: Source,
    /// When the value was stored. `None` if it was stored nowhere.
    pub(crate) born: Option<Born>,
}

impl<V> Found<V> {
    pub(crate) fn of(entry: Entry<V>, source: Source) -> Self {
        Self { born: Some(entry.life.born()), answer: entry.value, source }
    }

    /// The answer of an entry that goes on to L1.
    pub(crate) fn copied(entry: &Entry<V>, source: Source) -> Self {
        Self { born: Some(entry.life.born()), answer: entry.value.clone(), source }
    }

    /// No tier has the key.
    pub(crate) const NOTHING: Self = Self { answer: None, source: Source::Nowhere, born: None };
}

/// The tier at which a lookup begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FirstTier {
    L1,
    /// L1 is not asked, and gets what L2 has.
    L2,
}

/// What a lookup with a loader asks for. The caller, its flight and the task of its load share it.
#[derive(Debug, Clone)]
pub(crate) struct LookupRequest {
    pub(crate) key: Key,
    /// The answer must not be older than this stamp.
    pub(crate) min_stamp: Option<Stamp>,
    pub(crate) mode: CacheMode,
    /// Whether a cached absence answers.
    pub(crate) absent_ok: bool,
    pub(crate) first_tier: FirstTier,
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
    /// A lookup that any cached value answers, from L1 on.
    pub(crate) fn of(key: Key, options: Options) -> Self {
        let (mode, first_tier) = (CacheMode::Use, FirstTier::L1);
        Self { key, min_stamp: None, mode, absent_ok: false, first_tier, background: false, options }
    }

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

    /// The same lookup, which may also take what L1 has.
    pub(crate) fn asking_l1(&self) -> Self {
        Self { first_tier: FirstTier::L1, ..self.clone() }
    }

    /// The refresh in the background of the value with this token.
    pub(crate) fn behind(&self, token: Token) -> Self {
        let mode = CacheMode::Revalidate(token);
        Self { mode, background: true, min_stamp: None, ..self.asking_l1() }
    }

    /// The sequence number that the answer must reflect, in the partition of the key.
    pub(crate) fn min_seq(&self, partition: u16) -> u64 {
        self.min_stamp.as_ref().map_or(0, |stamp| stamp.seq(partition))
    }
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn a_source_is_one_word_for_a_header() {
        let all = [Source::L1, Source::L2, Source::Wait, Source::Load, Source::Stale, Source::Nowhere];
        assert_eq!(all.map(|source| source.to_string()), ["l1", "l2", "wait", "load", "stale", "nowhere"]);
    }
}
