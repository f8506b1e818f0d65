//! Faults for tests (feature `testing`): rules of the L2 that are broken, to show that a test fails then. Without the
//! feature no type carries a fault, and [`fault!`] compiles to the code of the rule.

#[cfg(feature = "testing")]
pub(crate) mod halves;
#[cfg(feature = "testing")]
pub(crate) mod restart;

/// Whether a rule is broken: `fault!(faults, Mutant)`. A limit that tests lower: `fault!(faults, limit or usual)`.
#[cfg(feature = "testing")]
macro_rules! fault {
    ($faults:expr, $limit:ident or $usual:expr) => {
        $faults.$limit.unwrap_or($usual)
    };
    ($faults:expr, $mutant:ident) => {
        $faults.mutant == Some($crate::faults::Mutant::$mutant)
    };
}

/// Without the feature no rule is broken, and no limit lowered.
#[cfg(not(feature = "testing"))]
macro_rules! fault {
    ($faults:expr, $limit:ident or $usual:expr) => {
        $usual
    };
    ($faults:expr, $mutant:ident) => {
        false
    };
}

pub(crate) use fault;

/// Which rule is broken, and which limit lowered.
#[cfg(feature = "testing")]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) mutant: Option<Mutant>,
    /// The maximum number of tags in a partition's table.
    pub(crate) tag_table: Option<usize>,
}

/// A rule of the L2 to be broken. A test must fail then.
#[cfg(feature = "testing")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mutant {
    /// A fill is stored whoever holds the lease.
    UnconditionalFill,
    /// A change does not break the lease of its key.
    InvalidationKeepsLease,
    /// An invalidation is published a moment before the value is removed.
    PublishBeforeDelete,
    /// Memory that was replaced by an older one goes on from its own sequence and floor, whatever
    /// sequence a caller knows.
    FailoverWithoutEpoch,
    /// A fill is stored whatever tags were invalidated since its lease was granted.
    FillIgnoresTags,
    /// The tags of a refresh are checked with the number that its value is stored under, not with its lease's.
    RefreshComparesOwnNumber,
    /// A full table of tags starts anew without raising its floor.
    TagsForgotten,
}
