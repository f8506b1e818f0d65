//! Refreshes that have failed of keys that L1 does not hold: there is none, or it has dropped them.

use std::collections::HashMap;

use crate::backend::Tick;
use crate::format::key::Key;

/// Most keys noted in one stripe: beyond, those whose time has passed make room, or else the new one is not noted.
const MOST: usize = 64;

/// When each may be tried again, and how often it has failed in a row.
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

    /// It has been loaded.
    pub(crate) fn forget(&mut self, key: &[u8]) {
        // Nearly always there is none, which needs no hash of the key.
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
