//! What L2 refuses this node, and the reasons.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::error::Error;
use crate::observe::Refused;

/// What a node asks L2 for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    /// The subscription to the bus.
    Subscription,
    /// The baseline of a partition. Each partition counts on its own, because its server may refuse what those of
    /// others permit.
    Baseline(u16),
    /// A heartbeat for a partition. Its echo proves that the node has missed no change.
    Heartbeat(u16),
    /// The retry of the pending changes of a partition.
    Retry(u16),
}

impl Asked {
    /// What the node cannot do while this is refused.
    pub(crate) fn needed_for(self) -> Refused {
        match self {
            Self::Subscription | Self::Baseline(_) | Self::Heartbeat(_) => Refused::Serving,
            Self::Retry(_) => Refused::Changes,
        }
    }
}

/// The reason of each refusal that L2 has not taken back.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<Asked, Error>>);

/// What an answer of L2 has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// L2 permits it, as before.
    Permitted,
    /// L2 permits what it had refused.
    Mended,
    /// L2 refuses it. Something that is needed for the same was refused before.
    StillRefused,
    /// L2 refuses it. Nothing else that is needed for the same was refused.
    NewlyRefused,
}

impl Refusals {
    /// Notes the answer of L2: the reason of a refusal, or none.
    pub(crate) fn note(&self, asked: Asked, refusal: Option<Error>) -> Turn {
        let mut refusals = self.0.lock();
        let Some(error) = refusal else {
            return match refusals.remove(&asked) {
                Some(_) => Turn::Mended,
                None => Turn::Permitted,
            };
        };
        let before = refusals.keys().any(|other| other.needed_for() == asked.needed_for());
        refusals.insert(asked, error);
        match before {
            true => Turn::StillRefused,
            false => Turn::NewlyRefused,
        }
    }

    /// Whether L2 refuses anything.
    pub(crate) fn exist(&self) -> bool {
        !self.0.lock().is_empty()
    }

    /// The reason why this node cannot serve, if L2 refuses what that needs.
    pub(crate) fn of_serving(&self) -> Option<Error> {
        let refusals = self.0.lock();
        let mut needed = refusals.iter().filter(|(asked, _)| asked.needed_for() == Refused::Serving);
        needed.next().map(|(_, error)| error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn refusal() -> Option<Error> {
        Some(Error::new(ErrorKind::Config, "no"))
    }

    #[test]
    fn a_refusal_is_new_once_for_what_it_prevents() {
        let refusals = Refusals::default();
        assert_eq!(refusals.note(Asked::Retry(1), refusal()), Turn::NewlyRefused);
        assert_eq!(refusals.note(Asked::Retry(1), refusal()), Turn::StillRefused);
        assert_eq!(refusals.note(Asked::Retry(2), refusal()), Turn::StillRefused);
        assert!(refusals.of_serving().is_none(), "a node serves although its changes are refused");
        assert_eq!(refusals.note(Asked::Heartbeat(0), refusal()), Turn::NewlyRefused);
        assert_eq!(refusals.note(Asked::Baseline(0), refusal()), Turn::StillRefused);
        assert!(refusals.of_serving().is_some());
    }

    #[test]
    fn a_partition_that_permits_it_says_nothing_of_another() {
        for asked in [Asked::Retry, Asked::Heartbeat, Asked::Baseline] {
            let refusals = Refusals::default();
            refusals.note(asked(1), refusal());
            assert_eq!(refusals.note(asked(2), None), Turn::Permitted);
            assert!(refusals.exist());
            assert_eq!(refusals.note(asked(1), None), Turn::Mended);
            assert!(!refusals.exist());
        }
    }
}
