//! Where a node stands with the bus: `Phase` of `coherence/serving.rs`.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    Deaf,
    /// With the dense run of changes heard since, first and last.
    Syncing(Option<(u8, u8)>),
    Live,
}

impl Phase {
    /// `Partition::heard`: where the node stands after a change, and what it has applied.
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

/// How what was heard while syncing joins the state that was read, and up to where the node has got with
/// both: the heart of `Partition::baseline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// Nothing was missed.
    Whole(u8),
    /// Something may have been.
    Missed(u8),
    /// They do not: the state is to be read again.
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
