//! Faults between two instructions. Only schedules can find them.

use std::cell::Cell;

/// A reversed order of two steps, or a missing lock. The hooks are in the code itself, but only in this
/// build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A value is checked under the stripe's lock, and inserted without the lock.
    InsertUnlocked,
    /// A flight is removed first, and its value is stored after that.
    LandInTwoSteps,
    /// A flight that ends removes the key's current flight, even if that is another one.
    LandAny,
    /// The last received number counts, not the highest.
    LastNotHighest,
    /// A waiter is woken before its message is stored.
    RingBeforeTelling,
    /// A waiter checks whether the flight has ended, and registers for the notification after that.
    LookBeforeRegistering,
    /// A cancelled leader does not end its flight.
    StrandWaiters,
    /// A hit reads the generation before it checks the serving lease.
    GenerationFirst,
    /// A new baseline lets L1 answer first, and raises the generation after that.
    ServeBeforeFlush,
    /// A received change counts as applied before it is applied.
    CountBeforeRemoval,
    /// A tag table that starts again is emptied first, and its floor rises after that.
    EmptyBeforeFloor,
    /// A change of unknown outcome removes its keys from L1 first, and becomes pending after that.
    EmptyThenQueue,
}

thread_local! {
    /// A schedule runs all its threads on one thread of the system.
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

impl Fault {
    pub(crate) fn is_planted(self) -> bool {
        PLANTED.get() == Some(self)
    }

    /// Activates a fault, or none, for all code that runs on this thread of the system.
    pub(crate) fn plant(fault: Option<Self>) {
        PLANTED.set(fault);
    }
}
