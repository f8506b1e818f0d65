//! The algorithm of a lookup: from what is known and what was just learnt to what is done next.
//!
//! Nothing here asks, waits, locks or reads a clock. The two drivers do: [`one`](super::one) performs the actions
//! for one key, [`many`](super::many) for many keys in shared round trips. They decide nothing.

use std::time::Duration;

use crate::backend::{Accept, Lease, Token};
use crate::local::flight::AnsweredBy;
use crate::lookup::loaded::Keep;

/// What is known of the lookup of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Knowledge {
    /// It loads whatever is cached.
    pub(crate) reloads: bool,
    /// Its loader is told of the previous value.
    pub(crate) wants_previous: bool,
    /// L2 has nothing so often that the lease is asked for without a read before.
    pub(crate) skips_read: bool,
    /// What cannot be verified is an error.
    pub(crate) fails_in_outage: bool,
    pub(crate) l2: Access,
    /// What answers in place of the lease.
    pub(crate) accept: Accept,
}

/// Whether L2 may be asked for the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Open,
    /// It may hold what was invalidated here.
    Unsent,
    /// There is none.
    Missing,
}

/// What was just learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learnt {
    L1(InL1),
    L2(InL2),
    Lease(Reply),
    Waited(Woken),
}

/// What L1 holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InL1 {
    Answers,
    /// An entry that answers if L2 confirms its token.
    Unverified(Token),
    /// An entry that does not answer, and is a fallback.
    Fallback(Token),
    Nothing,
}

/// What a read of L2 has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InL2 {
    Answers,
    /// An expired value that answers: its refresh has failed here a moment ago.
    BacksOff,
    /// A value that does not answer, and is a fallback.
    Fallback(Token),
    /// Nothing; and what answers in place of the lease.
    Nothing(Accept),
    Unreachable,
}

/// A reply to the question for the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Granted(Lease),
    Answers,
    BacksOff,
    /// What is stored does not answer; and what does.
    Again(Accept),
    /// Another load holds the lease, which lapses after this time.
    Busy(Duration),
    /// Others hold it, and this node has waited long enough. Whether a stale value is there to make do with.
    OutOfPatience {
        makes_do: bool,
    },
    /// L2 has no value and takes none. What is loaded now reflects every change up to this number.
    NoRoom(u64),
    /// An invalidation has failed here since: nothing that L2 has may be trusted.
    Unsent,
    /// L2 cannot be asked. Whether what L1 holds answers, by the policy for outages.
    Unreachable {
        held_answers: bool,
    },
}

/// The end of a wait for a load elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    Answers,
    /// It is time to ask again.
    Due,
    /// The load elsewhere has failed, and there is a stale value to make do with.
    MakesDo,
}

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    ReadL2,
    Acquire(Accept),
    /// Wait for the load elsewhere, whose lease lapses after this time.
    Wait(Duration),
    Load(Basis),
    Answer(AnsweredBy),
    /// Fail with the error that L2 gave.
    Fail,
    /// Fail because a load elsewhere has failed.
    FailElsewhere,
}

/// On what grounds a key is loaded here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Basis {
    /// The fleet's lease: what is loaded is stored everywhere.
    Leased(Lease),
    /// There is no L2, or it cannot be asked: stored in L1.
    Alone,
    /// L2 takes nothing: stored in L1, as of this number.
    NoRoom(u64),
    /// Others are loading and have let this node wait too long: stored nowhere.
    Uncached,
}

impl Basis {
    /// The number up to which what is loaded reflects every change; `reached` is that of the node.
    pub(crate) fn loaded_at(self, reached: u64) -> u64 {
        match self {
            Self::Leased(lease) => lease.seq,
            Self::NoRoom(seq) => seq,
            Self::Alone | Self::Uncached => reached,
        }
    }

    pub(crate) fn lease(self) -> Option<Lease> {
        match self {
            Self::Leased(lease) => Some(lease),
            Self::Alone | Self::NoRoom(_) | Self::Uncached => None,
        }
    }

    /// Whether what is loaded cannot be stored where others find it, though it could be cached.
    pub(crate) fn is_rejected(self) -> bool {
        matches!(self, Self::NoRoom(_) | Self::Uncached)
    }
}

impl Knowledge {
    /// The lease is next, if L2 may be asked.
    fn acquire(&mut self, accept: Accept) -> Action {
        self.accept = if self.reloads { Accept::Nothing } else { accept };
        match self.l2 {
            Access::Open => Action::Acquire(self.accept),
            Access::Unsent | Access::Missing => Action::Load(Basis::Alone),
        }
    }

    fn in_outage(self) -> Action {
        if self.fails_in_outage { Action::Fail } else { Action::Load(Basis::Alone) }
    }

    /// L1 has no answer.
    fn beyond_l1(&mut self) -> Action {
        let reads = !self.reloads || self.wants_previous && self.accept == Accept::Any;
        match self.l2 {
            Access::Open if !reads || self.skips_read && !self.reloads => self.acquire(self.accept),
            Access::Open | Access::Unsent if reads => Action::ReadL2,
            Access::Open | Access::Unsent | Access::Missing => Action::Load(Basis::Alone),
        }
    }
}

/// Decides what is done next.
pub(crate) fn step(known: &mut Knowledge, learnt: Learnt) -> Action {
    match learnt {
        Learnt::L1(InL1::Answers) => Action::Answer(AnsweredBy::L1),
        // Its token is worth a question that needs no payload for an answer: ask with the lease.
        Learnt::L1(InL1::Unverified(token)) => known.acquire(Accept::Known(token)),
        Learnt::L1(InL1::Fallback(token)) => {
            known.accept = Accept::Other(token);
            known.beyond_l1()
        }
        Learnt::L1(InL1::Nothing) => known.beyond_l1(),

        Learnt::L2(InL2::Answers) => Action::Answer(AnsweredBy::L2),
        Learnt::L2(InL2::BacksOff) => Action::Answer(AnsweredBy::Backoff),
        Learnt::L2(InL2::Fallback(token)) => known.acquire(Accept::Other(token)),
        Learnt::L2(InL2::Nothing(accept)) if known.accept == Accept::Any => known.acquire(accept),
        Learnt::L2(InL2::Nothing(_)) => known.acquire(known.accept),
        Learnt::L2(InL2::Unreachable) => known.in_outage(),

        Learnt::Lease(Reply::Granted(lease)) => Action::Load(Basis::Leased(lease)),
        Learnt::Lease(Reply::Answers) => Action::Answer(AnsweredBy::L2),
        Learnt::Lease(Reply::BacksOff) => Action::Answer(AnsweredBy::Backoff),
        Learnt::Lease(Reply::Again(accept)) => {
            known.accept = accept;
            Action::Acquire(accept)
        }
        Learnt::Lease(Reply::Busy(lapses_in)) => Action::Wait(lapses_in),
        Learnt::Lease(Reply::OutOfPatience { makes_do: true }) => Action::FailElsewhere,
        Learnt::Lease(Reply::OutOfPatience { makes_do: false } | Reply::Unsent) => {
            Action::Load(Basis::Uncached)
        }
        Learnt::Lease(Reply::NoRoom(seq)) => Action::Load(Basis::NoRoom(seq)),
        Learnt::Lease(Reply::Unreachable { held_answers: true }) => Action::Answer(AnsweredBy::Unverified),
        Learnt::Lease(Reply::Unreachable { held_answers: false }) => known.in_outage(),

        Learnt::Waited(Woken::Answers) => Action::Answer(AnsweredBy::L2),
        Learnt::Waited(Woken::Due) => Action::Acquire(known.accept),
        Learnt::Waited(Woken::MakesDo) => Action::FailElsewhere,
    }
}

/// Where a loaded value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreIn {
    /// In L2 under the lease, then in L1.
    Fleet(Lease),
    /// In L1 alone.
    L1,
    Nowhere,
    /// Nowhere; and what it would have replaced is removed everywhere.
    Removed,
}

/// Decides where a value is stored that was loaded on these grounds.
pub(crate) fn store_in(basis: Basis, keep: Keep, replaces: bool) -> StoreIn {
    match (keep, basis) {
        (Keep::Uncached, _) if replaces => StoreIn::Removed,
        (Keep::Uncached, _) | (Keep::Cached, Basis::Uncached) => StoreIn::Nowhere,
        (Keep::Cached, Basis::Leased(lease)) => StoreIn::Fleet(lease),
        (Keep::Cached, Basis::Alone | Basis::NoRoom(_)) => StoreIn::L1,
    }
}

/// How a flight has ended for one of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With an answer that the caller may have.
    Answered,
    /// With an answer that is from before the caller's call.
    TooOld,
    /// With an absence, where the caller needs a value.
    WithoutValue,
    Failed,
    /// Without a load here, because one elsewhere has failed, and without a stale value.
    FailedElsewhere,
    /// Something else answers in its stead.
    StandIn,
    /// Its leader went away, or nothing was heard of it.
    Abandoned,
}

/// What the caller of a lookup does after a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Return,
    /// Join or lead another flight.
    AskAgain,
    /// Join or lead another flight, of those that end with a value.
    AskForValue,
    /// The load ended with its runtime.
    Lost,
}

/// Decides it for a caller that led the flight, or joined it.
pub(crate) fn after_flight(led: bool, ended: Ended) -> Next {
    match (led, ended) {
        (true, Ended::Abandoned) => Next::Lost,
        (true, _) | (false, Ended::Answered | Ended::Failed | Ended::StandIn) => Next::Return,
        // One of those who need a value leads the next flight, and the others join it: an absence that is cached
        // does not answer them, so that there is no need to insist on a load.
        (false, Ended::WithoutValue) => Next::AskForValue,
        (false, Ended::TooOld | Ended::FailedElsewhere | Ended::Abandoned) => Next::AskAgain,
    }
}

#[cfg(test)]
mod tests;
