//! Faults for tests: rules of the tier that are broken, to show that a test fails then.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::lua::{CHANGE, Scripts};

/// A rule of the Redis tier to be broken. A test must fail then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mutant {
    /// A change whose announcement is refused keeps the number it took.
    RefusedChangeKeepsNumber,
    /// Every server process counts as the same one.
    RunsAlike,
    /// A partition stays at the server that had its slot first.
    MapNotFollowed,
    /// The loss of one server's messages counts as the loss of all.
    OneLossLosesAll,
}

/// The mutants of this process that concern connections and maps, one bit for each.
static PLANTED: AtomicU32 = AtomicU32::new(0);

impl Mutant {
    /// Breaks a rule of connections or maps for all backends of this process.
    pub(crate) fn plant(self) {
        PLANTED.fetch_or(1 << self as u32, Ordering::Relaxed);
    }

    pub(crate) fn is_planted(self) -> bool {
        PLANTED.load(Ordering::Relaxed) & 1 << self as u32 != 0
    }

    /// The scripts without the rule, if it is one of scripts.
    pub(crate) fn scripts(self) -> Option<&'static Scripts> {
        static NUMBER_KEPT: LazyLock<Scripts> = LazyLock::new(|| {
            const TAKEN_BACK: &str = "    redis.call('HSET', M, 's', whole(s))\n";
            assert!(CHANGE.contains(TAKEN_BACK), "what the mutant takes out is not there");
            Scripts::new(CHANGE.replace(TAKEN_BACK, ""))
        });
        match self {
            Self::RefusedChangeKeepsNumber => Some(&NUMBER_KEPT),
            _ => None,
        }
    }
}
