//! Loads that have failed on this node a moment ago. Their errors answer lookups with `error_ttl`.

use std::collections::HashMap;

use crate::backend::Tick;
use crate::error::Error;
use crate::format::key::Key;

/// The maximum number of keys in one stripe. When it is reached, keys whose time is over are removed. If there are
/// none, the new error is not remembered.
const MOST: usize = 16;

/// A load that has failed.
#[derive(Debug)]
pub(crate) struct FailedLoad {
    pub(crate) error: Error,
    pub(crate) failed: Tick,
    /// The end of the `error_ttl` of the load's own lookup.
    pub(crate) until: Tick,
    /// The generation in which the load began.
    pub(crate) generation: u64,
    /// The load reflected every change up to this number.
    pub(crate) seq: u64,
}

/// The last failed load of each key.
#[derive(Debug, Default)]
pub(crate) struct FailedLoads(HashMap<Key, FailedLoad>);

impl FailedLoads {
    pub(crate) fn note(&mut self, key: &Key, failed: FailedLoad) {
        if self.0.len() >= MOST {
            let now = failed.failed;
            self.0.retain(|_, other| other.until > now);
        }
        if self.0.len() < MOST || self.0.contains_key(key.as_bytes()) {
            self.0.insert(key.clone(), failed);
        }
    }

    /// The failed load of a key whose time is not over.
    pub(crate) fn of(&mut self, key: &[u8], now: Tick) -> Option<&FailedLoad> {
        if self.0.get(key).is_some_and(|failed| failed.until <= now) {
            self.0.remove(key);
        }
        self.0.get(key)
    }

    /// The key has changed on this node, or has been loaded.
    pub(crate) fn forget(&mut self, key: &[u8]) {
        // The map is nearly always empty. Then the key need not be hashed.
        if !self.0.is_empty() {
            self.0.remove(key);
        }
    }

    /// The key has changed, as number `seq`.
    pub(crate) fn changed(&mut self, key: &[u8], seq: u64) {
        if !self.0.is_empty() && self.0.get(key).is_some_and(|failed| failed.seq < seq) {
            self.0.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn until(until: u64) -> FailedLoad {
        let error = Error::new(ErrorKind::Loader, "it failed");
        FailedLoad { error, failed: Tick(until - 10), until: Tick(until), generation: 0, seq: 7 }
    }

    #[test]
    fn they_are_limited_and_what_has_passed_makes_room() {
        let mut all = FailedLoads::default();
        let key = |n: usize| Key::encode(&n).unwrap();
        (0..2 * MOST).for_each(|n| all.note(&key(n), until(20)));
        assert_eq!(all.0.len(), MOST);
        all.note(&key(0), until(29));
        assert_eq!(all.of(key(0).as_bytes(), Tick(28)).unwrap().until, Tick(29), "a later failure counts");
        assert!(all.of(key(1).as_bytes(), Tick(20)).is_none(), "its time is over");
        all.note(&key(2 * MOST), until(40));
        assert_eq!(all.0.len(), MOST);
        all.note(&key(3 * MOST), until(45));
        assert_eq!(all.0.len(), 2);
    }

    #[test]
    fn a_change_that_the_load_reflected_does_not_end_it() {
        let (mut all, key) = (FailedLoads::default(), Key::encode("k").unwrap());
        all.note(&key, until(20));
        all.changed(b"k", 7);
        assert!(all.of(b"k", Tick(11)).is_some());
        all.changed(b"k", 8);
        assert!(all.of(b"k", Tick(11)).is_none());
    }
}
