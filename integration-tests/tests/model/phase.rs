//! The relation of a node to the bus: `Phase` of `liveness/partition.rs`.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    Deaf,
    /// With the first and the last number of the gapless changes that have arrived since.
    Syncing(Option<(u8, u8)>),
    Live,
}

impl Phase {
    /// `Partition::heard`: the phase after a change, and the number that is applied.
    pub(crate) fn heard(self, seq: u8, applied: u8) -> (Self, u8) {
        match self {
            Self::Deaf => (self, applied),
            Self::Syncing(run) => {
                let run = match run {
                    Some((first, last)) if seq == last + 1 => (first, seq),
                    Some((first, last)) if seq <= last => (first, last),
                    _ => (seq, seq),
                };
                (Self::Syncing(Some(run)), applied)
            }
            Self::Live if seq <= applied => (self, applied),
            Self::Live if seq == applied + 1 => (self, seq),
            Self::Live => (Self::Syncing(Some((seq, seq))), applied),
        }
    }
}

/// How the changes that arrived while syncing fit to the state that was read, and the number that the node has
/// reached with both: the core of `Partition::baseline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// No change was missed.
    Whole(u8),
    /// A change may have been missed.
    Missed(u8),
    /// They do not fit. The state must be read again.
    Again,
}

impl Joined {
    pub(crate) fn of(heard: Option<(u8, u8)>, state: u8, applied: u8) -> Self {
        match heard {
            None if state == applied => Self::Whole(state),
            None => Self::Missed(state),
            Some((first, last)) if first == applied + 1 && last >= state => Self::Whole(last),
            Some((first, last)) if first <= state + 1 => Self::Missed(last.max(state)),
            Some(_) => Self::Again,
        }
    }
}
