//! Failed refreshes of keys without an entry in L1: there is no L1, or it has dropped the entry.

use std::collections::HashMap;

use crate::backend::Tick;
use crate::format::key::Key;

/// The maximum number of keys in one stripe. When it is reached, keys whose pause is over are removed. If
/// there are none, the new key is not noted.
const MOST: usize = 64;

/// For each key the time of the next attempt, and the number of failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Postponed(HashMap<Key, (Tick, u32)>);

impl Postponed {
    pub(crate) fn note(&mut self, key: &Key, now: Tick, retry: Tick) {
        if let Some((until, failures)) = self.0.get_mut(key.as_bytes()) {
            (*until, *failures) = (retry, failures.saturating_add(1));
            return;
        }
        if self.0.len() >= MOST {
            self.0.retain(|_, (until, _)| *until > now);
        }
        if self.0.len() < MOST {
            self.0.insert(key.clone(), (retry, 1));
        }
    }

    pub(crate) fn of(&self, key: &[u8]) -> Option<(Tick, u32)> {
        self.0.get(key).copied()
    }

    /// Removes a key that has been loaded.
    pub(crate) fn forget(&mut self, key: &[u8]) {
        // The map is nearly always empty. Then the key need not be hashed.
        if !self.0.is_empty() {
            self.0.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_limited_and_what_has_passed_makes_room() {
        let mut postponed = Postponed::default();
        let key = |n: usize| Key::encode(&n).unwrap();
        (0..2 * MOST).for_each(|n| postponed.note(&key(n), Tick(1), Tick(10)));
        assert_eq!(postponed.0.len(), MOST);
        assert_eq!(postponed.of(key(2 * MOST).as_bytes()), None);
        postponed.note(&key(0), Tick(5), Tick(20));
        assert_eq!(postponed.of(key(0).as_bytes()), Some((Tick(20), 2)));
        postponed.note(&key(2 * MOST), Tick(10), Tick(30));
        assert_eq!(postponed.0.len(), 2);
        postponed.forget(key(0).as_bytes());
        assert_eq!(postponed.of(key(0).as_bytes()), None);
    }
}
