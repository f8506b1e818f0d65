//! What only tests do to the Redis tier (feature `testing`).

/// A rule of the Redis tier to be broken: what is left is wrong, and a proof must find it so.
#[cfg(feature = "testing")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mutant {
    /// A change whose announcement is refused keeps the number it took.
    RefusedChangeKeepsNumber,
}

/// Which rule is broken; outside of tests, none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Switch {
    #[cfg(feature = "testing")]
    pub(crate) off: Option<Mutant>,
}

#[cfg(feature = "testing")]
impl Switch {
    pub(crate) fn is(self, mutant: Mutant) -> bool {
        self.off == Some(mutant)
    }
}
