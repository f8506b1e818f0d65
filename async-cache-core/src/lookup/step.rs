//! The algorithm of a lookup: it maps what is known and what was just learnt to the next action.
//!
//! This module sends nothing, does not wait, takes no lock and reads no clock. Two drivers perform the
//! actions: [`one`](super::one) for one key, [`many`](super::many) for many keys in shared round trips. The
//! drivers decide nothing.

use std::time::Duration;

use crate::backend::{Accept, Lease, Token};
use crate::local::flight::AnsweredBy;
use crate::options::Keep;

/// What is known of the lookup of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Knowledge {
    /// No cached value answers: it is a reload.
    pub(crate) reloads: bool,
    /// The loader receives the previous value.
    pub(crate) wants_previous: bool,
    /// L2 often has nothing, so the lease is asked for without a read before.
    pub(crate) skips_read: bool,
    /// The error of an earlier load answers in place of a load.
    pub(crate) recalls: bool,
    /// In an outage the lookup fails.
    pub(crate) fails_in_outage: bool,
    /// The lookup has waited for a load on another node.
    pub(crate) waited: bool,
    pub(crate) l2: Access,
    /// The values that may answer in place of the lease.
    pub(crate) accept: Accept,
}

/// Whether L2 may be asked for the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Open,
    /// An invalidation of the key is pending, so L2 may hold a void value.
    Unsent,
    /// There is no L2.
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
    /// No entry that answers; and the values of L2 that may answer. The value of a fallback is not one of them.
    Nothing(Accept),
}

/// The result of a read of L2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InL2 {
    Answers,
    /// An expired value that answers, because its refresh failed on this node a moment ago.
    BacksOff,
    /// No value that answers; and the values that may answer in place of the lease. The value of a fallback is not
    /// one of them.
    Nothing(Accept),
    Unreachable,
}

/// A reply to the question for the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Granted(Lease),
    Answers,
    BacksOff,
    /// The stored value does not answer. These values may answer.
    Again(Accept),
    /// Another load holds the lease, which expires after this time.
    Busy(Duration),
    /// Another load holds the lease, and this node has waited long enough. `makes_do`: there is a fallback,
    /// or no caller waits.
    OutOfPatience {
        makes_do: bool,
    },
    /// L2 has no value and accepts none. A load that begins now reflects every change up to this number.
    NoRoom(u64),
    /// An invalidation of the key has become pending on this node since. L2's values must not be trusted.
    Unsent,
    /// L2 cannot be asked. `held_answers`: the entry of L1 answers under the outage policy.
    Unreachable {
        held_answers: bool,
    },
}

/// The end of a wait for a load on another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    Answers,
    /// It is time to ask again.
    Due,
    /// The load on the other node has failed. There is a fallback, or no caller waits.
    MakesDo,
}

/// The next action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    ReadL2,
    Acquire(Accept),
    /// Wait for the load on another node. Its lease expires after this time.
    Wait(Duration),
    Load(Basis),
    Answer(AnsweredBy),
    /// Fail with the error that L2 gave.
    Fail,
    /// Fail because a load on another node has failed.
    FailElsewhere,
    /// Fail with the error of an earlier load on this node.
    FailAgain,
}

/// The basis of a load on this node. It decides where the value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Basis {
    /// This node holds the lease. The value is stored in both tiers.
    Leased(Lease),
    /// There is no L2, or it cannot be asked. The value is stored in L1.
    Alone,
    /// L2 accepts no value. The value is stored in L1, as of this number.
    NoRoom(u64),
    /// Other nodes have loaded for too long, or L2's values must not be trusted. The value is stored nowhere.
    Uncached,
}

impl Basis {
    /// The loaded value reflects every change up to this number. `reached` is the number that the node has
    /// reached.
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

    /// Whether the loaded value cannot be stored in L2 although it may be cached.
    pub(crate) fn is_rejected(self) -> bool {
        matches!(self, Self::NoRoom(_) | Self::Uncached)
    }
}

impl Knowledge {
    /// Asks for the lease next, if L2 may be asked.
    fn acquire(&mut self, accept: Accept) -> Action {
        self.accept = if self.reloads { Accept::Nothing } else { accept };
        match self.l2 {
            Access::Open => Action::Acquire(self.accept),
            Access::Unsent | Access::Missing => Action::Load(Basis::Alone),
        }
    }

    /// How the value of L2 is counted.
    fn brought_by(self) -> AnsweredBy {
        if self.waited { AnsweredBy::OtherNode } else { AnsweredBy::L2 }
    }

    fn in_outage(self) -> Action {
        if self.fails_in_outage { Action::Fail } else { Action::Load(Basis::Alone) }
    }

    /// Decides the next action when L1 has no answer.
    fn beyond_l1(&mut self) -> Action {
        let reads = !self.reloads || self.wants_previous && self.accept == Accept::Any;
        match self.l2 {
            Access::Open if !reads || self.skips_read && !self.reloads && !self.recalls => {
                self.acquire(self.accept)
            }
            Access::Open | Access::Unsent if reads => Action::ReadL2,
            Access::Open | Access::Unsent | Access::Missing => Action::Load(Basis::Alone),
        }
    }
}

/// Decides what is done next. The error of an earlier load takes the place of a load, and of the question for its
/// lease.
pub(crate) fn step(known: &mut Knowledge, learnt: Learnt) -> Action {
    match decide(known, learnt) {
        Action::Acquire(_) | Action::Load(_) if known.recalls => Action::FailAgain,
        action => action,
    }
}

fn decide(known: &mut Knowledge, learnt: Learnt) -> Action {
    match learnt {
        Learnt::L1(InL1::Answers) => Action::Answer(AnsweredBy::L1),
        // The question for the lease is not asked, because it may grant one. A read shows whether L2 still has the
        // value.
        Learnt::L1(InL1::Unverified(_)) if known.recalls => known.beyond_l1(),
        // L2 can confirm the entry by its token, without sending the value. So ask for both, the confirmation
        // and the lease.
        Learnt::L1(InL1::Unverified(token)) => known.acquire(Accept::Known(token)),
        Learnt::L1(InL1::Nothing(accept)) => {
            known.accept = accept;
            known.beyond_l1()
        }

        Learnt::L2(InL2::Answers) => Action::Answer(AnsweredBy::L2),
        Learnt::L2(InL2::BacksOff) => Action::Answer(AnsweredBy::Backoff),
        // If L2 has no value at all, the entry of L1 says which value is refused.
        Learnt::L2(InL2::Nothing(Accept::Any)) => known.acquire(known.accept),
        Learnt::L2(InL2::Nothing(accept)) => known.acquire(accept),
        Learnt::L2(InL2::Unreachable) => known.in_outage(),

        Learnt::Lease(Reply::Granted(lease)) => Action::Load(Basis::Leased(lease)),
        Learnt::Lease(Reply::Answers) => Action::Answer(known.brought_by()),
        Learnt::Lease(Reply::BacksOff) => Action::Answer(AnsweredBy::Backoff),
        Learnt::Lease(Reply::Again(accept)) => {
            known.accept = accept;
            Action::Acquire(accept)
        }
        Learnt::Lease(Reply::Busy(lapses_in)) => {
            known.waited = true;
            Action::Wait(lapses_in)
        }
        Learnt::Lease(Reply::OutOfPatience { makes_do: true }) => Action::FailElsewhere,
        Learnt::Lease(Reply::OutOfPatience { makes_do: false } | Reply::Unsent) => {
            Action::Load(Basis::Uncached)
        }
        Learnt::Lease(Reply::NoRoom(seq)) => Action::Load(Basis::NoRoom(seq)),
        Learnt::Lease(Reply::Unreachable { held_answers: true }) => Action::Answer(AnsweredBy::Unverified),
        Learnt::Lease(Reply::Unreachable { held_answers: false }) => known.in_outage(),

        Learnt::Waited(Woken::Answers) => Action::Answer(known.brought_by()),
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
    /// Nowhere, and the value that it was to replace is removed everywhere.
    Removed,
}

/// Decides where a loaded value is stored.
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
    /// With an answer that is older than the caller may accept.
    TooOld,
    /// With an absence, but the caller needs a value.
    WithoutValue,
    Failed,
    /// Without a load here and without a fallback, because a load on another node has failed.
    FailedElsewhere,
    /// Another value answers instead.
    StandIn,
    /// The leader was dropped, or the caller has waited long enough and may ask again.
    Abandoned,
}

/// What the caller of a lookup does after a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Return,
    /// Join or lead another flight.
    AskAgain,
    /// Join or lead another flight, but join only one that ends with a value.
    AskForValue,
    /// The load ended with its runtime.
    Lost,
}

/// Decides what a caller does after a flight that it has led or joined.
pub(crate) fn after_flight(led: bool, ended: Ended) -> Next {
    match (led, ended) {
        (true, Ended::Abandoned) => Next::Lost,
        (true, _) | (false, Ended::Answered | Ended::Failed | Ended::StandIn) => Next::Return,
        // One of the callers that need a value leads the next flight, and the others join it. A cached
        // absence does not answer them, so a reload is not necessary.
        (false, Ended::WithoutValue) => Next::AskForValue,
        (false, Ended::TooOld | Ended::FailedElsewhere | Ended::Abandoned) => Next::AskAgain,
    }
}

#[cfg(test)]
mod tests;
