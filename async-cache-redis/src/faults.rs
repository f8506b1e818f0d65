//! Faults for tests: rules of the tier that are broken, to show that a proof objects.

use std::sync::LazyLock;

use crate::lua::{CHANGE, Scripts};

/// A rule of the Redis tier to be broken. The tier is then wrong, and a proof must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mutant {
    /// A change whose announcement is refused keeps the number it took.
    RefusedChangeKeepsNumber,
}

impl Mutant {
    /// The scripts without the rule.
    pub(crate) fn scripts(self) -> &'static Scripts {
        static NUMBER_KEPT: LazyLock<Scripts> = LazyLock::new(|| {
            const TAKEN_BACK: &str = "    redis.call('HSET', M, 's', whole(s))\n";
            assert!(CHANGE.contains(TAKEN_BACK), "what the mutant takes out is not there");
            Scripts::new(CHANGE.replace(TAKEN_BACK, ""))
        });
        match self {
            Self::RefusedChangeKeepsNumber => &NUMBER_KEPT,
        }
    }
}
