//! What a stripe knew of changes before a value was read or loaded.

/// What a stripe knew of changes when a read or load began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    pub(crate) local: u64,
    pub(crate) remote: u64,
    pub(crate) generation: u64,
    /// A value that is read from now on reflects every change up to this number.
    pub(crate) seq: u64,
    /// A value that is loaded from now on reflects every change up to this number.
    pub(crate) reached: u64,
    /// The highest number of a change of the stripe that this node knows to be executed.
    pub(crate) last_seq: u64,
}

impl Ticket {
    /// The ticket of a read whose value is not stored in L1, because there is no L1.
    pub(crate) const NONE: Self =
        Self { local: u64::MAX, remote: u64::MAX, generation: 0, seq: 0, reached: 0, last_seq: 0 };
}
