//! What is known of changes before a value is read or loaded.

/// What was known when a read or load began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    pub(crate) local: u64,
    pub(crate) remote: u64,
    pub(crate) generation: u64,
    /// Every change up to this one is reflected in what is read from now on.
    pub(crate) seq: u64,
    /// Every change up to this one is reflected in what is loaded from now on.
    pub(crate) reached: u64,
    /// No change known here to have been executed has a higher number.
    pub(crate) last_seq: u64,
}

impl Ticket {
    /// For a read of which nothing is stored here: there is no L1.
    pub(crate) const NONE: Self =
        Self { local: u64::MAX, remote: u64::MAX, generation: 0, seq: 0, reached: 0, last_seq: 0 };
}
